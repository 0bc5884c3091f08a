"""Strokes whose thickness and slant are known."""

from __future__ import annotations

import math

import numpy as np
import pytest

from pipeline.metrics.strokes import slant_degrees, stroke_thickness


def bar(width: int, side: int = 24, shear: float = 0.0) -> np.ndarray:
    """An upright bar of so many pixels, moved to the right by `shear` pixels a row upwards."""
    rows, columns = np.indices((side, side)) - (side - 1) / 2
    inside = (np.abs(columns + shear * rows) <= width / 2) & (np.abs(rows) <= side / 2 - 3)
    return 16.0 * inside


@pytest.mark.parametrize("width", [2, 4, 6])
def test_a_bar_is_as_thick_as_it_was_drawn(width: int) -> None:
    assert stroke_thickness(bar(width)) == pytest.approx(width, rel=0.25)
    assert stroke_thickness(3 * bar(width)) == stroke_thickness(bar(width))  # not its brightness


@pytest.mark.parametrize("shear", [-0.5, 0.0, 0.25, 0.5])
def test_a_bar_leans_as_it_was_sheared(shear: float) -> None:
    expected = math.degrees(math.atan(shear))
    assert slant_degrees(bar(4, shear=shear)) == pytest.approx(expected, abs=2)


def test_without_ink_there_is_nothing_to_measure() -> None:
    empty = np.zeros((8, 8))
    assert math.isnan(stroke_thickness(empty))
    assert math.isnan(slant_degrees(empty))
    row = empty.copy()
    row[3] = 16
    assert math.isnan(slant_degrees(row))
