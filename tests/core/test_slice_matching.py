"""Slices of two series belong together by position: to within SAME_PLACE_MM, and no further."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.core.errors import LdctError
from pipeline.core.slice_matching import match_slices
from pipeline.core.volume import Volume

SHAPE = (16, 12)


def volume_at(places_mm: list[float], *, column_mm: float = 0.7) -> Volume:
    """Axial slices with their first voxels at (0, 0, z)."""
    image_hu = np.zeros((len(places_mm), *SHAPE), np.float32)
    return Volume(
        image_hu=image_hu,
        valid=np.ones(image_hu.shape, bool),
        affine_lps=np.diag([column_mm, 0.7, 2.0, 1.0]),
        slice_origins_mm=np.array([[0.0, 0.0, z] for z in places_mm]),
    )


def test_slices_a_rounding_error_apart_are_one_place() -> None:
    match = match_slices(volume_at([4.04, 0.04, 2.04]), volume_at([0.0, 2.0, 4.0]))
    assert match.input.tolist() == [0, 1, 2]
    assert match.target.tolist() == [2, 0, 1]
    assert match.unmatched_input_mm == match.unmatched_target_mm == []


def test_slices_further_apart_are_two_places() -> None:
    with pytest.raises(LdctError, match=r"3 of 3 input slices have no partner.* 0\.20 mm from"):
        match_slices(volume_at([0.2, 2.2, 4.2]), volume_at([0.0, 2.0, 4.0]))


def test_the_one_displaced_slice_of_a_series_has_no_partner() -> None:
    match = match_slices(volume_at([0.0, 2.0]), volume_at([0.0, 2.0, 2.2]))
    assert match.target.tolist() == [0, 1]
    assert match.unmatched_target_mm == [[0.0, 0.0, 2.2]]


@pytest.mark.parametrize(("column_mm", "far_mm"), [(0.702, 0.022), (0.704, 0.044)])
def test_pixel_sizes_that_agree_at_the_far_corner_are_equal(column_mm: float, far_mm: float):
    assert (SHAPE[1] - 1) * (column_mm - 0.7) == pytest.approx(far_mm)
    match = match_slices(volume_at([0.0], column_mm=column_mm), volume_at([0.0]))
    assert match.input.tolist() == [0]


def test_pixel_sizes_that_differ_at_the_far_corner_are_refused() -> None:
    with pytest.raises(LdctError, match=r"at the far corner by 0\.20 mm"):
        match_slices(volume_at([0.0], column_mm=0.7 + 0.2 / (SHAPE[1] - 1)), volume_at([0.0]))
