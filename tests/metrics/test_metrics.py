"""Figures against closed forms, scikit-image and the papers' own programs."""

from __future__ import annotations

import math
import time
from typing import Any

import numpy as np
import pytest
import torch
from helpers.images import BONE_HU, FAT_HU, LUNG_HU, SOFT_TISSUE_HU, body_slice
from numpy.typing import NDArray
from scipy import ndimage, signal
from skimage.metrics import structural_similarity
from torch.nn.functional import conv2d

from pipeline.core.masks import body_mask
from pipeline.core.units import Window
from pipeline.metrics.image import psnr_db, rmse_hu, ssim, ssim_padded, tissue_masks
from pipeline.metrics.perceptual import gmsd, ms_ssim, vif

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


@pytest.mark.parametrize("window", [WINDOW, Window(-600, 1500), Window(1024, 4096)])
@pytest.mark.parametrize("shape", [(64, 64), (40, 51), (7, 9)])
def test_ssim_is_scikit_image_s(window: Window, shape: tuple[int, int]) -> None:
    low, high = window.low_hu, window.high_hu
    image, target = (i[: shape[0], : shape[1]] for i in (noisy(), body_slice()))
    expected = structural_similarity(
        np.clip(target.astype(float), low, high) - low,
        np.clip(image.astype(float), low, high) - low,
        data_range=high - low,
    )
    assert ssim(image, target, window) == pytest.approx(expected, abs=1e-6)
    assert shape == (7, 9) or expected < 0.99


def test_ssim_does_not_care_where_the_hounsfield_scale_has_its_zero() -> None:
    """Counted from 0 HU, water beside water in noise would have a similarity of nothing."""
    here = ssim(noisy(), body_slice(), WINDOW)
    moved = ssim(noisy() - 300, body_slice() - 300, Window(-260, 400))
    assert moved == pytest.approx(here, abs=1e-6)


def test_ssim_within_a_mask_is_the_mean_of_scikit_image_s_map() -> None:
    mask = body_mask(body_slice())
    full = structural_similarity(
        np.clip(body_slice().astype(float), -160, 240) + 160,
        np.clip(noisy().astype(float), -160, 240) + 160,
        data_range=400,
        full=True,
    )[1]
    inner = np.zeros_like(mask)
    inner[3:-3, 3:-3] = mask[3:-3, 3:-3]
    assert ssim(noisy(), body_slice(), WINDOW, mask=mask) == pytest.approx(full[inner].mean())
    assert abs(full[inner].mean() - ssim(noisy(), body_slice(), WINDOW)) > 0.01


def test_psnr_within_a_mask_leaves_the_air_out() -> None:
    target = body_slice()
    mask = body_mask(target)
    image = target.copy()
    image[mask] = np.clip(target[mask] + 10, -160, 240)
    image[~mask] = 240  # outside, and 400 HU off in the window
    at_40 = mask & (target == SOFT_TISSUE_HU)
    assert psnr_db(image, target, WINDOW, mask=at_40) == pytest.approx(32.0412, abs=1e-3)
    assert psnr_db(image, target, WINDOW) < 5
    assert math.isnan(psnr_db(image, target, WINDOW, mask=np.zeros_like(mask)))


def test_ssim_with_zero_padding_is_the_reimplementation_s() -> None:
    """By torch's convolution, as papers that follow RED-CNN's reimplementation compute it."""
    x, y = (
        torch.from_numpy(np.clip(i.astype(float), -160, 240))[None, None]
        for i in (noisy(), body_slice())
    )
    place = torch.arange(11, dtype=torch.float64) - 5
    line = torch.exp(-(place**2) / (2 * 1.5**2))
    kernel = torch.outer(line, line)[None, None] / line.sum() ** 2

    def blurred(image: torch.Tensor) -> torch.Tensor:
        return conv2d(image, kernel, padding=5)

    mean_x, mean_y = blurred(x), blurred(y)
    variances = blurred(x * x) - mean_x**2 + blurred(y * y) - mean_y**2
    covariance = blurred(x * y) - mean_x * mean_y
    luminance = (2 * mean_x * mean_y + 16) / (mean_x**2 + mean_y**2 + 16)
    expected = (luminance * (2 * covariance + 144) / (variances + 144)).mean()
    assert ssim_padded(noisy(), body_slice(), WINDOW) == pytest.approx(float(expected), abs=1e-9)
    assert abs(float(expected) - ssim(noisy(), body_slice(), WINDOW)) > 0.005


def textured(size: int = 192) -> NDArray[np.float32]:
    """A body with texture, large enough for five scales."""
    texture = np.random.default_rng(7).standard_normal((size, size))
    return (body_slice(size) + 25 * ndimage.gaussian_filter(texture, 1.5) * 4).astype(np.float32)


def in_noise(target: NDArray[np.float32], deviation_hu: float) -> NDArray[np.float32]:
    noise = np.random.default_rng(8).standard_normal(target.shape) * deviation_hu
    return (target + noise).astype(np.float32)


@pytest.mark.parametrize(
    ("metric", "perfect"),
    [(psnr_db, math.inf), (ssim, 1), (ssim_padded, 1), (vif, 1), (gmsd, 0), (ms_ssim, 1)],
)
def test_a_figure_is_perfect_for_equals_and_falls_with_noise(metric: Any, perfect: float) -> None:
    target = textured()
    assert metric(target, target, WINDOW) == pytest.approx(perfect, abs=1e-9)
    figures = [metric(in_noise(target, deviation), target, WINDOW) for deviation in (5, 20, 80)]
    worse = figures if perfect == 0 else figures[::-1]
    assert worse == sorted(worse)
    assert worse[-1] - worse[0] > 0.05
    assert abs(figures[0] - perfect) > 1e-4


@pytest.mark.parametrize("metric", [ssim, vif, gmsd, ms_ssim])
def test_what_the_window_hides_counts_in_no_figure(metric: Any) -> None:
    target = textured()
    bright = target.copy()
    bright[target > 400] += 500
    assert metric(bright, target, WINDOW) == pytest.approx(metric(target, target, WINDOW), abs=1e-9)
    assert metric(bright, target, Window(1024, 4096)) != pytest.approx(
        metric(target, target, Window(1024, 4096)), abs=1e-3
    )


def full_convolution(image: NDArray, kernel: NDArray) -> NDArray:
    return signal.convolve2d(image, kernel, mode="valid")


def vif_by_the_paper(target: NDArray, image: NDArray) -> float:
    """Sheikh & Bovik's vifp_mscale with plain two-dimensional convolutions, case by case."""
    numerator = denominator = 0.0
    for scale in range(1, 5):
        width = 2 ** (4 - scale + 1) + 1
        place = np.arange(width) - (width - 1) / 2
        kernel = np.exp(-np.add.outer(place**2, place**2) / (2 * (width / 5) ** 2))
        kernel /= kernel.sum()
        if scale > 1:
            target = full_convolution(target, kernel)[::2, ::2]
            image = full_convolution(image, kernel)[::2, ::2]
        means = full_convolution(target, kernel), full_convolution(image, kernel)
        squares = (full_convolution(i * i, kernel) for i in (target, image))
        pairs = zip(squares, means, strict=True)
        variance_t, variance_i = (s - m * m for s, m in pairs)
        covariance = full_convolution(target * image, kernel) - means[0] * means[1]
        for vt, vi, c in zip(variance_t.flat, variance_i.flat, covariance.flat, strict=True):
            vt, vi = max(vt, 0.0), max(vi, 0.0)
            gain, rest = (c / vt, vi - c * c / vt) if vt > 1e-10 else (0.0, vi)
            if vi < 1e-10:
                gain, rest = 0.0, 0.0
            if gain < 0:
                gain, rest = 0.0, vi
            numerator += math.log2(1 + gain**2 * vt / (max(rest, 1e-10) + 2))
            denominator += math.log2(1 + (vt if vt > 1e-10 else 0) / 2)
    return numerator / denominator


def test_vif_is_the_paper_s() -> None:
    target, image = textured(64), in_noise(textured(64), 30)
    as_8_bits = (np.clip(i.astype(float), -160, 240) + 160 for i in (target, image))
    expected = vif_by_the_paper(*(i * 255 / 400 for i in as_8_bits))
    assert vif(image, target, WINDOW) == pytest.approx(expected, rel=1e-6)
    assert 0.1 < expected < 0.6


def test_vif_of_more_contrast_is_more_than_one() -> None:
    """Its paper's own example of what tells it from other measures."""
    target = np.clip(textured(), -60, 140)
    centre = np.float32(WINDOW.centre)
    assert vif((target - centre) * np.float32(1.1) + centre, target, WINDOW) > 1


def test_vif_counts_on_the_range_it_is_given() -> None:
    """The eye's noise is fixed: on a range of more grey levels it hides less."""
    target, image = textured(), in_noise(textured(), 20)
    wide = Window(438, 2924)
    assert vif(image, target, wide, peak=2924) != pytest.approx(vif(image, target, wide), abs=0.01)


def gmsd_by_the_paper(target: NDArray, image: NDArray) -> float:
    """Xue et al.'s program, step by step, with its T = 170."""
    average = np.full((2, 2), 0.25)
    prewitt = np.array([[1, 0, -1], [1, 0, -1], [1, 0, -1]]) / 3

    def gradient(i: NDArray) -> NDArray:
        # MATLAB's "same" of an even kernel begins one further than scipy's.
        small = signal.convolve2d(i, average)[1:, 1:][: i.shape[0], : i.shape[1]][::2, ::2]
        along = [signal.convolve2d(small, k, mode="same") for k in (prewitt, prewitt.T)]
        return np.sqrt(along[0] ** 2 + along[1] ** 2)

    one, other = gradient(target), gradient(image)
    similarity = (2 * one * other + 170) / (one**2 + other**2 + 170)
    return float(np.std(similarity, ddof=1))


@pytest.mark.parametrize("shape", [(64, 64), (63, 50)])
def test_gmsd_is_the_paper_s(shape: tuple[int, int]) -> None:
    target, image = (i[: shape[0], : shape[1]] for i in (textured(64), in_noise(textured(64), 30)))
    as_8_bits = ((np.clip(i.astype(float), -160, 240) + 160) * 255 / 400 for i in (target, image))
    expected = gmsd_by_the_paper(*as_8_bits)
    assert gmsd(image, target, WINDOW) == pytest.approx(expected, rel=1e-9)
    assert expected > 0.05


def test_ms_ssim_is_the_paper_s() -> None:
    """Contrast and structure of five scales and luminance of the last, by scikit-image's maps."""
    target, image = textured(), in_noise(textured(), 30)
    x, y = (np.clip(i.astype(float), -160, 240) / 400 + 0.4 for i in (image, target))
    expected = 1.0
    for scale, weight in enumerate((0.0448, 0.2856, 0.3001, 0.2363, 0.1333)):
        blurred = [ndimage.gaussian_filter(i, 1.5, radius=5) for i in (x, y, x * x, y * y, x * y)]
        mean_x, mean_y, xx, yy, xy = (i[5:-5, 5:-5] for i in blurred)
        value = (2 * (xy - mean_x * mean_y) + 9e-4) / (xx - mean_x**2 + yy - mean_y**2 + 9e-4)
        if scale == 4:
            value *= (2 * mean_x * mean_y + 1e-4) / (mean_x**2 + mean_y**2 + 1e-4)
        expected *= float(value.mean()) ** weight
        x, y = (i.reshape(len(i) // 2, 2, len(i) // 2, 2).mean(axis=(1, 3)) for i in (x, y))
    assert ms_ssim(image, target, WINDOW) == pytest.approx(expected, abs=1e-4)
    assert expected < 0.98


def test_a_slice_too_small_for_the_scales_has_no_figure() -> None:
    small = textured(64)[:40, :40]
    assert math.isnan(ms_ssim(small, small, WINDOW))
    assert math.isnan(vif(small, small, WINDOW))
    assert vif(textured(64)[:41, :41], textured(64)[:41, :41], WINDOW) == pytest.approx(1)


def test_hundreds_of_slices_take_seconds() -> None:
    """PSNR, SSIM and RMSE of a 512 x 512 slice; the compiler's time does not count."""
    target = np.tile(textured(64), (8, 8))
    image = in_noise(target, 30)
    ssim(image, target, WINDOW)
    began = time.process_time()
    for _ in range(5):
        psnr_db(image, target, WINDOW)
        ssim(image, target, WINDOW)
        rmse_hu(image, target, target > 0)
    assert (time.process_time() - began) / 5 < 0.03


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
