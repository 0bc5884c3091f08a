"""Figures against closed forms and against scikit-image."""

from __future__ import annotations

import math

import numpy as np
import pytest
from helpers_images import BONE_HU, FAT_HU, LUNG_HU, SOFT_TISSUE_HU, body_slice
from numpy.typing import NDArray
from skimage.metrics import structural_similarity

from pipeline.masks import body_mask
from pipeline.metrics import psnr_db, rmse_hu, ssim, tissue_masks
from pipeline.units import Window

WINDOW = Window(40, 400)  # -160 .. 240 HU
EVERYWHERE = np.ones((64, 64), dtype=bool)


def noisy(deviation_hu: float = 20.0) -> NDArray[np.float32]:
    noise = np.random.default_rng(0).standard_normal((64, 64)) * deviation_hu
    return (body_slice() + noise).astype(np.float32)


def test_psnr_has_the_closed_form() -> None:
    target = np.full((64, 64), 40, dtype=np.float32)
    # 20 log10(400 / 10)
    assert psnr_db(target + 10, target, WINDOW) == pytest.approx(32.0412, abs=1e-3)
    assert psnr_db(target - 10, target, WINDOW) == pytest.approx(32.0412, abs=1e-3)


def test_what_lies_outside_the_window_does_not_count() -> None:
    target = body_slice()
    image = target.copy()
    image[target == LUNG_HU] += 300
    image[target == BONE_HU] -= 300
    assert psnr_db(image, target, WINDOW) == math.inf
    assert ssim(image, target, WINDOW) == 1
    assert psnr_db(image, target, Window(0, 4000)) < 40


def test_clipping_happens_at_the_window_s_limits() -> None:
    target = np.full((16, 16), 240, dtype=np.float32)
    assert psnr_db(target + 500, target, WINDOW) == math.inf
    assert psnr_db(target - 500, target, WINDOW) == pytest.approx(0)


def test_identical_images() -> None:
    target = body_slice()
    assert psnr_db(target, target, WINDOW) == math.inf
    assert ssim(target, target, WINDOW) == 1
    assert rmse_hu(target, target, EVERYWHERE) == 0


@pytest.mark.parametrize("window", [WINDOW, Window(-600, 1500)])
def test_ssim_is_scikit_image_s(window: Window) -> None:
    low, high = window.low_hu, window.high_hu
    expected = structural_similarity(
        np.clip(body_slice().astype(float), low, high),
        np.clip(noisy().astype(float), low, high),
        data_range=high - low,
    )
    assert ssim(noisy(), body_slice(), window) == pytest.approx(expected, abs=1e-6)
    assert expected < 0.99


def test_a_wider_range_flatters() -> None:
    """One and the same slice, and yet more decibels: why every figure names its window."""
    figures = [
        psnr_db(noisy(), body_slice(), window)
        for window in (WINDOW, Window(0, 2000), Window(1024, 4096))
    ]
    assert figures[0] + 5 < figures[1] < figures[2] - 5


def test_rmse_has_the_closed_form_within_its_mask() -> None:
    target = np.zeros((4, 4), dtype=np.float32)
    image = target.copy()
    image[0, :2] = 3, -4
    image[3, 3] = 1e6
    mask = np.zeros((4, 4), dtype=bool)
    mask[0, :2] = True
    assert rmse_hu(image, target, mask) == pytest.approx(math.sqrt((9 + 16) / 2))


def test_rmse_is_not_clipped() -> None:
    target = np.full((8, 8), 3000, dtype=np.float32)
    assert rmse_hu(target + 5000, target, np.ones((8, 8), dtype=bool)) == pytest.approx(5000)


def test_rmse_of_nothing_is_not_a_number() -> None:
    assert math.isnan(rmse_hu(noisy(), body_slice(), np.zeros((64, 64), dtype=bool)))


def test_tissues_are_told_apart() -> None:
    target = body_slice(192)
    masks = tissue_masks(target, body_mask(target))
    expected = {
        "lung": LUNG_HU,
        "fat": FAT_HU,
        "soft_tissue": SOFT_TISSUE_HU,
        "bone": BONE_HU,
    }
    for name, hu in expected.items():
        assert masks[name].sum() > 500, name
        assert (target[masks[name]] == hu).mean() > 0.7, name
    assert not masks["lung"][0, 0], "air outside the body is no lung"


@pytest.mark.parametrize("dark_hu", [-1000.0, LUNG_HU])
def test_a_border_is_no_tissue(dark_hu: float) -> None:
    """Smoothed, an edge from soft tissue to gas passes through fat and lung on its way."""
    target = np.full((64, 64), SOFT_TISSUE_HU, dtype=np.float32)
    target[:, 32:] = dark_hu
    masks = tissue_masks(target, EVERYWHERE)
    for name, hu in (("lung", LUNG_HU), ("fat", FAT_HU)):
        assert (target[masks[name]] == hu).all(), name


def test_the_target_s_noise_does_not_choose_the_tissue() -> None:
    """Chosen by single noisy voxels, a class would hold its own noise as a bias."""
    fat = np.full((64, 64), FAT_HU, dtype=np.float32)
    noise = np.random.default_rng(1).standard_normal((64, 64)).astype(np.float32) * 60
    chosen = tissue_masks(fat + noise, EVERYWHERE)["fat"]
    assert abs(noise[chosen].mean()) < 5
    by_voxel = (fat + noise >= -140) & (fat + noise <= -60)
    assert chosen.sum() > by_voxel.sum()


def test_a_voxel_has_at_most_one_tissue() -> None:
    masks = tissue_masks(noisy(), EVERYWHERE)
    assert np.sum(list(masks.values()), axis=0).max() == 1
