"""Slices of two series are paired by position."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.core.errors import LdctError
from pipeline.core.slice_matching import match_slices
from pipeline.core.volume import Volume

SPACING_MM = (3.0, 0.8, 0.7)


def series(
    places_mm: list[float], *, shift_mm: float = 0.0, column_mm: float = SPACING_MM[2]
) -> Volume:
    """Slices of 5 x 6 pixels at these heights, moved along the columns."""
    image_hu = np.zeros((len(places_mm), 5, 6), np.float32)
    affine = np.diag([column_mm, SPACING_MM[1], SPACING_MM[0], 1.0])
    origins_mm = np.array([[shift_mm, 0.0, height] for height in places_mm])
    return Volume(image_hu, np.ones(image_hu.shape, bool), affine, origins_mm)


def test_slices_are_paired_whatever_their_order_and_extras_are_listed() -> None:
    match = match_slices(series([9, 3, 0, 6]), series([0, 6, 12, 9, 3]))
    assert dict(zip(match.input.tolist(), match.target.tolist(), strict=True)) == {
        0: 3,
        1: 4,
        2: 0,
        3: 1,
    }
    assert match.unmatched_input_mm == []
    assert match.unmatched_target_mm == [[0, 0, 12]]


def test_a_twentieth_of_a_millimetre_is_rounding() -> None:
    match = match_slices(series([0, 3]), series([0, 3], shift_mm=0.045))
    assert match.input.tolist() == match.target.tolist() == [0, 1]


@pytest.mark.parametrize("shift_mm", [0.06, 0.3, 1.5])
def test_a_shift_that_would_blur_a_pair_is_refused_with_its_distance(shift_mm: float) -> None:
    """Half a pixel between input and target teaches a network to blur."""
    with pytest.raises(LdctError, match=f"2 of 2 input slices .* {shift_mm:.2f} mm"):
        match_slices(series([0, 3]), series([0, 3], shift_mm=shift_mm))


def test_two_series_that_each_lack_a_slice_are_refused() -> None:
    with pytest.raises(LdctError, match="1 of 3 input slices have no partner"):
        match_slices(series([0, 3, 6]), series([0, 3, 9]))


def test_pixels_of_another_size_are_refused_at_the_far_corner() -> None:
    """5 columns from the first to the last: 0.012 mm a pixel become 0.06 mm."""
    match_slices(series([0]), series([0], column_mm=0.709))
    with pytest.raises(LdctError, match=r"far corner by 0\.06 mm"):
        match_slices(series([0]), series([0], column_mm=0.712))
