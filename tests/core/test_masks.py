"""The body in a slice, and its box."""

from __future__ import annotations

import numpy as np
import pytest
from helpers.images import body_slice, disc

from pipeline.core.masks import body_mask, bounding_box, lung_mask, patient_mask


def test_the_lungs_and_gas_belong_to_the_body() -> None:
    mask = body_mask(body_slice())
    rows, columns = np.indices((64, 64)) - 31.5
    ellipse = (rows / 22) ** 2 + (columns / 27) ** 2
    assert mask[ellipse < 0.85].all(), "the lung disc is filled in"
    assert not mask[ellipse > 1].any()


def test_the_couch_is_cut_off() -> None:
    image_hu = body_slice()
    without = body_mask(image_hu)
    image_hu[53:57, 2:62] = 200  # a shell of 4 pixels, the back lying on it
    mask = body_mask(image_hu)
    assert not mask[:, :4].any()
    assert not mask[57:].any()
    assert (mask != without).sum() < 0.05 * without.sum()


def test_the_largest_of_several_bodies_counts() -> None:
    image_hu = np.full((64, 64), -1000, dtype=np.float32)
    image_hu[8:20, 8:20] = 0
    image_hu[28:60, 28:60] = 0
    mask = body_mask(image_hu)
    assert mask[44, 44]
    assert not mask[:24].any()


@pytest.mark.parametrize("row_mm", [0.5, 1.0, 2.0])
def test_arms_beside_the_body_are_the_patients_and_fingers_and_the_couch_are_not(
    row_mm: float,
) -> None:
    rows, columns = np.indices((int(400 / row_mm), int(400 / row_mm))) * row_mm
    image_hu = np.full(rows.shape, -1000, dtype=np.float32)
    body, arm, finger = (
        np.hypot(rows - 200, columns - place) < radius
        for place, radius in ((200, 100), (50, 30), (350, 8))
    )
    marrow = np.hypot(rows - 200, columns - 50) < 5
    image_hu[body | arm | finger] = 40
    image_hu[marrow] = -500  # what the arm encloses is of it
    image_hu[(rows >= 350) & (rows < 366)] = 200  # a couch of 16 mm, which a body rests beside
    mask = patient_mask(image_hu, row_mm)
    assert mask[arm].mean() > 0.97
    assert mask[marrow].all()
    assert not mask[finger].any()
    assert not mask[rows >= 350].any()
    assert np.array_equal(mask & ~arm, body_mask(image_hu) & ~arm)


@pytest.mark.parametrize("noise_hu", [150, 500])
def test_the_patient_is_found_at_a_low_dose(noise_hu: float) -> None:
    """In full resolution a tenth of the dose has noise of hundreds of HU."""
    rows, columns = np.indices((400, 400))
    image_hu = np.full(rows.shape, -1000, dtype=np.float32)
    body, arm = (
        np.hypot(rows - 200, columns - place) < radius for place, radius in ((220, 110), (50, 30))
    )
    image_hu[body | arm] = 40
    clean = patient_mask(image_hu, 1.0)
    noise = np.random.default_rng(0).normal(0, noise_hu, rows.shape)
    noisy = patient_mask((image_hu + np.where(body | arm, noise, noise / 20)).astype(np.float32), 1)
    assert (noisy != clean).mean() < 0.01


@pytest.mark.parametrize("hu", [-1000, -1024, -400])
def test_a_slice_without_a_body_has_an_empty_mask(hu: float) -> None:
    image_hu = np.full((40, 50), hu, dtype=np.float32)
    for mask in (body_mask(image_hu), patient_mask(image_hu, 1.0)):
        assert mask.shape == (40, 50)
        assert not mask.any()


def test_the_box_holds_the_mask_exactly_where_it_is_large_enough() -> None:
    mask = np.zeros((60, 80), dtype=bool)
    mask[10:40, 20:70] = True
    assert bounding_box(mask, (16, 16)) == (slice(10, 40), slice(20, 70))


@pytest.mark.parametrize("place", [(0, 0), (0, 79), (59, 0), (59, 79), (30, 40), (3, 77)])
@pytest.mark.parametrize("at_least", [(32, 32), (31, 17), (60, 80), (16, 48)])
def test_a_small_box_grows_to_a_patch_within_the_image(
    place: tuple[int, int], at_least: tuple[int, int]
) -> None:
    mask = np.zeros((60, 80), dtype=bool)
    mask[place] = True
    box = bounding_box(mask, at_least)
    assert box is not None
    for side, smallest, size in zip(box, at_least, mask.shape, strict=True):
        assert side.stop - side.start == smallest
        assert side.start >= 0
        assert side.stop <= size
    assert mask[box].sum() == 1


def test_a_patch_larger_than_the_image_gets_all_of_it() -> None:
    mask = disc((30, 40), 5)
    box = bounding_box(mask, (64, 64))
    assert box is not None
    assert mask[box].shape == (30, 40)


def test_an_empty_mask_has_no_box() -> None:
    assert bounding_box(np.zeros((10, 10), dtype=bool), (4, 4)) is None


def test_lungs_that_touch_in_front_of_the_heart_do_not_swallow_it() -> None:
    """A ring of lung around the heart, a vessel in it; 2 mm pixels, 5 mm slices."""
    rows, columns = np.indices((128, 128)) - 63.5
    radius = np.hypot(rows, columns)
    plane = np.full((128, 128), -1000.0)
    plane[radius < 58] = 40  # the chest
    plane[radius < 50] = -850  # both lungs, joined in front
    plane[radius < 25] = 40  # the heart, 100 mm
    vessel = np.hypot(rows, columns - 38) < 3
    plane[vessel] = 40
    image_hu = np.repeat(plane[None], 8, axis=0).astype(np.float32)
    lungs = lung_mask(image_hu, (5.0, 2.0, 2.0))
    assert not lungs[:, radius < 20].any()
    assert lungs[:, (radius > 30) & (radius < 48)].all(), "and the vessel is filled in"


@pytest.mark.parametrize(("radius_mm", "is_lung"), [(24, False), (32, True)])
def test_gas_of_less_than_100_ml_is_bowel(radius_mm: float, is_lung: bool) -> None:
    """Balls of 58 and 137 ml in a body of water."""
    spacing_mm = (4.0, 2.0, 2.0)
    level, row, column = (
        (np.arange(n) - (n - 1) / 2) * mm for n, mm in zip((24, 64, 64), spacing_mm, strict=True)
    )
    away_mm = np.sqrt(level[:, None, None] ** 2 + row[:, None] ** 2 + column**2)
    image_hu = np.full(away_mm.shape, -1000, np.float32)
    image_hu[:, np.hypot(row[:, None], column) < 55] = 0
    image_hu[away_mm < radius_mm] = -850
    assert lung_mask(image_hu, spacing_mm).any() == is_lung


def test_a_vessel_in_the_lung_is_lung_whatever_the_pixel_size() -> None:
    """8 mm are 8 pixels of 1 mm and 4 of 2 mm."""
    for pixel_mm in (1.0, 2.0):
        axis = (np.arange(round(140 / pixel_mm)) + 0.5) * pixel_mm - 70
        rows, columns = axis[:, None], axis
        plane = np.full((len(axis), len(axis)), -1000, np.float32)
        plane[np.hypot(rows, columns) < 65] = 0
        plane[np.hypot(rows, columns) < 45] = -850
        plane[np.hypot(rows, columns) < 3] = 40
        found = lung_mask(np.stack([plane] * 12), (5.0, pixel_mm, pixel_mm))
        lung = found[6]
        assert lung[len(axis) // 2, len(axis) // 2]
        assert lung.sum() * pixel_mm**2 == pytest.approx(np.pi * 45**2, rel=0.04)


def test_a_narrow_part_of_a_lung_stays_at_coarse_pixels() -> None:
    """A slab of 12 mm is wider than a vessel of 8 mm: 6 pixels of 2 mm."""
    image_hu = np.full((30, 90, 90), -1000, np.float32)
    image_hu[:, 10:80, 10:80] = 0
    image_hu[:, 20:70, 40:46] = -850
    found = lung_mask(image_hu, (5.0, 2.0, 2.0))
    assert found[:, 22:68, 41:45].all()
