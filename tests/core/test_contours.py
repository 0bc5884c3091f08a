"""Outlines: filled to masks with holes, and traced around masks so that filling gives them back."""

from __future__ import annotations

import time

import numpy as np
import pytest
from scipy import ndimage
from skimage.draw import polygon

from pipeline.core.contours import fill_outlines, partly_overlap, trace_outlines


def square(low: float, high: float) -> np.ndarray:
    return np.array([[low, low], [high, low], [high, high], [low, high]])


def test_a_square_between_pixels_holds_the_pixels_within():
    mask = fill_outlines([square(1.5, 4.5)], (8, 8))
    expected = np.zeros((8, 8), bool)
    expected[2:5, 2:5] = True
    np.testing.assert_array_equal(mask, expected)


def test_any_outline_is_filled_as_scikit_image_fills_it():
    """Even-odd, self-crossing and reaching beyond the image; corners on no pixel's middle."""
    generator = np.random.default_rng(0)
    for points in (3, 4, 7, 30):
        for _ in range(20):
            outline = generator.uniform(-8, 48, (points, 2))
            expected = np.zeros((40, 36), bool)
            expected[polygon(outline[:, 1], outline[:, 0], expected.shape)] = True
            np.testing.assert_array_equal(fill_outlines([outline], (40, 36)), expected)


def test_areas_with_a_common_side_share_no_pixel():
    """Sides through the middles of pixels: every pixel is of one area."""
    left, right = square(2, 5), square(2, 5) + np.array([3, 0])
    both = fill_outlines([left], (9, 9)).astype(int) + fill_outlines([right], (9, 9))
    assert both.max() == 1
    assert both.sum() == 3 * 6


def test_columns_come_first_in_a_point():
    mask = fill_outlines([np.array([[0.5, 2.5], [4.5, 2.5], [4.5, 3.5], [0.5, 3.5]])], (6, 7))
    assert np.argwhere(mask).tolist() == [[3, 1], [3, 2], [3, 3], [3, 4]]


def test_an_outline_within_another_is_a_hole_and_one_within_that_an_island():
    outlines = [square(0.5, 9.5), square(2.5, 7.5), square(4.5, 5.5)]
    mask = fill_outlines(outlines, (11, 11))
    assert mask.sum() == 81 - 25 + 1
    assert mask[5, 5]
    assert not mask[3, 3]
    assert not partly_overlap(outlines, mask.shape)


def test_a_keyhole_is_filled_as_a_hole():
    keyhole = np.concatenate(
        [[[0.5, 0.5]], square(2.5, 5.5)[[0, 3, 2, 1, 0]], square(0.5, 7.5)[[0, 1, 2, 3]]]
    )
    expected = fill_outlines([square(0.5, 7.5), square(2.5, 5.5)], (9, 9))
    np.testing.assert_array_equal(fill_outlines([keyhole], (9, 9)), expected)


def test_outlines_that_cross_are_seen_and_those_beside_each_other_are_not():
    assert partly_overlap([square(0.5, 4.5), square(2.5, 7.5)], (9, 9))
    assert not partly_overlap([square(0.5, 3.5), square(3.5, 7.5)], (9, 9))


def test_outlines_beyond_the_image_are_cut():
    assert fill_outlines([square(-5, 30)], (4, 6)).all()


def masks() -> list[np.ndarray]:
    """From smooth to noise: islands in holes, pixels that touch at a corner, the image's rim."""
    found = [np.ones((3, 4), bool), np.eye(5, dtype=bool), np.zeros((4, 4), bool)]
    for seed, smooth in enumerate((0, 0.5, 1, 2, 3)):
        noise = np.random.default_rng(seed).standard_normal((40, 33))
        found.append(ndimage.gaussian_filter(noise, smooth) > 0)
    return found


@pytest.mark.parametrize("mask", masks())
def test_filling_what_was_traced_gives_the_mask_again(mask):
    outlines = trace_outlines(mask)
    np.testing.assert_array_equal(fill_outlines(outlines, mask.shape), mask)
    for outline in outlines:  # each alone: no outline is a hole of another one
        assert (mask[fill_outlines([outline], mask.shape)]).all()


def test_straight_lines_take_two_points():
    mask = np.zeros((30, 30), bool)
    mask[5:25, 5:25] = True
    (outline,) = trace_outlines(mask)
    assert len(outline) == 8  # corners are cut at half pixels


def test_a_thousand_islands_are_judged_by_their_neighbours_alone():
    """As thresholded noise has them: pairs that are far apart cost nothing."""
    islands = np.zeros((200, 200), bool)
    islands[2::6, 2::6] = True
    outlines = trace_outlines(islands)
    assert len(outlines) == 33**2
    started = time.perf_counter()
    assert not partly_overlap(outlines, islands.shape)
    assert time.perf_counter() - started < 20  # whole masks took minutes
    assert partly_overlap([*outlines, square(0.5, 4.5), square(3.5, 9.5)], islands.shape)
