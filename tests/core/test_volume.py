"""What a volume says of its own geometry."""

from __future__ import annotations

import math

import numpy as np
import pytest

from pipeline.core.volume import Volume


def volume(affine_lps: np.ndarray, shape: tuple[int, int, int] = (2, 4, 5)) -> Volume:
    image_hu = np.zeros(shape, np.float32)
    origins_mm = np.zeros((shape[0], 3))
    return Volume(image_hu, np.ones(shape, bool), affine_lps, origins_mm)


def test_spacing_is_of_slices_rows_and_columns_in_that_order() -> None:
    """The affine's columns run the other way: (column, row, slice)."""
    assert volume(np.diag([0.7, 0.8, 3.0, 1.0])).spacing_mm == pytest.approx((3.0, 0.8, 0.7))


def test_slices_of_a_tilted_gantry_are_spaced_along_their_normal() -> None:
    """The table moves 2.5 mm; planes that lean by 20 degrees are cos(20) times as far apart."""
    tilt = math.radians(20)
    affine = np.eye(4)
    affine[:3, 0] = (0.7, 0, 0)
    affine[:3, 1] = (0, 0.7 * math.cos(tilt), 0.7 * math.sin(tilt))
    affine[:3, 2] = (0, 0, 2.5)
    assert volume(affine).spacing_mm == pytest.approx((2.5 * math.cos(tilt), 0.7, 0.7))


def test_spacing_is_positive_whatever_way_slices_run() -> None:
    assert volume(np.diag([0.7, 0.8, -3.0, 1.0])).spacing_mm[0] == pytest.approx(3.0)


@pytest.mark.parametrize(
    ("valid", "origins"), [((2, 4, 4), (2, 3)), ((2, 4, 5), (3, 3)), ((2, 4, 5), (2, 2))]
)
def test_arrays_that_do_not_belong_together_are_refused(
    valid: tuple[int, ...], origins: tuple[int, ...]
) -> None:
    with pytest.raises(ValueError, match="must be"):
        Volume(np.zeros((2, 4, 5), np.float32), np.ones(valid, bool), np.eye(4), np.zeros(origins))
