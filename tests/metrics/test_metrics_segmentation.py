"""Overlap, distance and volume of shapes whose answers are known."""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.typing import NDArray

from pipeline.metrics.segmentation import FIGURES, structure_figures


def cube(first: tuple[int, int, int], sides: tuple[int, int, int]) -> NDArray[np.bool_]:
    mask = np.zeros((40, 40, 40), dtype=bool)
    mask[tuple(slice(f, f + n) for f, n in zip(first, sides, strict=True))] = True
    return mask


def sphere(radius_mm: float, spacing_mm: tuple[float, float, float]) -> NDArray[np.bool_]:
    places = np.indices((31, 61, 61)) - np.array([15, 30, 30])[:, None, None, None]
    return (np.square(places * np.array(spacing_mm)[:, None, None, None])).sum(0) <= radius_mm**2


def test_a_perfect_result() -> None:
    mask = cube((5, 5, 5), (10, 10, 10))
    figures = structure_figures(mask, mask, spacing_mm=(2, 1, 1))
    assert figures == {
        "dice": 1,
        "iou": 1,
        "surface_dice": 1,
        "hd95_mm": 0,
        "volume_ml": 2,
        "true_volume_ml": 2,
        "volume_error_ml": 0,
        "volume_error_percent": 0,
    }


@pytest.mark.parametrize(("axis", "mm"), [(0, 2.5), (1, 0.8), (2, 0.7)])
def test_a_shifted_cube(axis: int, mm: float) -> None:
    """Of side 20, moved by 3 voxels along one axis: overlap 17/20, distance 3 voxels."""
    start = [10, 10, 10]
    moved = list(start)
    moved[axis] += 3
    figures = structure_figures(
        cube(tuple(moved), (20, 20, 20)),
        cube(tuple(start), (20, 20, 20)),
        spacing_mm=(2.5, 0.8, 0.7),
        tolerance_mm=2.9 * mm,
    )
    assert figures["dice"] == pytest.approx(17 / 20)
    assert figures["iou"] == pytest.approx(17 / 23)
    assert figures["hd95_mm"] == pytest.approx(3 * mm, rel=1e-5)
    assert figures["volume_error_ml"] == pytest.approx(0)
    assert 0.6 < figures["surface_dice"] < 1, "four sides are in place, two are off"
    nearly = structure_figures(
        cube(tuple(moved), (20, 20, 20)),
        cube(tuple(start), (20, 20, 20)),
        spacing_mm=(2.5, 0.8, 0.7),
        tolerance_mm=3.01 * mm,
    )
    assert nearly["surface_dice"] == 1


def test_concentric_spheres() -> None:
    """20 mm within 24 mm: their surfaces are 4 mm apart everywhere."""
    spacing_mm = (2.0, 1.0, 1.0)
    inner, outer = sphere(20, spacing_mm), sphere(24, spacing_mm)
    figures = structure_figures(inner, outer, spacing_mm=spacing_mm, tolerance_mm=2.0)
    ratio = (20 / 24) ** 3
    assert figures["dice"] == pytest.approx(2 * ratio / (1 + ratio), abs=0.01)
    assert figures["iou"] == pytest.approx(ratio, abs=0.01)
    assert figures["hd95_mm"] == pytest.approx(4, abs=0.8)
    assert figures["surface_dice"] == 0
    assert figures["volume_ml"] == pytest.approx(4 / 3 * math.pi * 20**3 / 1000, rel=0.02)
    assert figures["volume_error_percent"] == pytest.approx(100 * (ratio - 1), abs=1)
    wider = structure_figures(inner, outer, spacing_mm=spacing_mm, tolerance_mm=5.0)
    assert wider["surface_dice"] == 1


def test_hd95_forgives_a_speck_and_hd_would_not() -> None:
    truth = cube((5, 5, 5), (20, 20, 20))
    found = truth.copy()
    found[38, 38, 38] = True
    assert structure_figures(found, truth, spacing_mm=(1, 1, 1))["hd95_mm"] == 0


def test_nothing_and_nothing_counts_nowhere() -> None:
    nothing = np.zeros((4, 5, 6), dtype=bool)
    assert structure_figures(nothing, nothing, spacing_mm=(1, 1, 1)) == dict.fromkeys(FIGURES)


def test_missed_and_invented() -> None:
    nothing, something = cube((0, 0, 0), (0, 0, 0)), cube((5, 5, 5), (10, 10, 10))
    missed = structure_figures(nothing, something, spacing_mm=(1, 1, 1))
    assert (missed["dice"], missed["iou"], missed["surface_dice"]) == (0, 0, 0)
    assert missed["hd95_mm"] == math.inf
    assert missed["volume_error_ml"] == pytest.approx(-1)
    assert missed["volume_error_percent"] == pytest.approx(-100)
    invented = structure_figures(something, nothing, spacing_mm=(1, 1, 1))
    assert (invented["dice"], invented["hd95_mm"]) == (0, math.inf)
    assert invented["volume_error_ml"] == pytest.approx(1)
    assert invented["volume_error_percent"] is None
