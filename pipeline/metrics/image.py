"""Image quality in physical units: every figure has a window, a range and a mask.

PSNR and SSIM depend on the data range: the same slice has 30.7 dB on [-160, 240] HU and
48.6 dB on [-1024, 3072]. So none of these functions guesses one. Published ways to choose
window, range and mean are in pipeline.metrics.conventions; VIF, GMSD and MS-SSIM in
pipeline.metrics.perceptual.
"""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray
from scipy import ndimage

from pipeline.core.types import ImageHU
from pipeline.core.units import TISSUE_RANGES_HU, Window

Mask = NDArray[np.bool_]

#: Tissue is chosen on the target smoothed over so many pixels: chosen by single noisy pixels,
#: a class would hold the target's own noise, and every denoiser would look biased.
TISSUE_SMOOTHING_PIXELS = 5
#: Wang et al. 2004; scikit-image's defaults.
SSIM_WINDOW_PIXELS, SSIM_K1, SSIM_K2 = 7, 0.01, 0.03
#: Wang's own window: sigma 1.5, cut off at 5 pixels.
SSIM_SIGMA_PIXELS, SSIM_GAUSSIAN_RADIUS = 1.5, 5


def psnr_db(
    image_hu: ImageHU, target_hu: ImageHU, window: Window, *, mask: Mask | None = None
) -> float:
    """Peak signal-to-noise ratio of one slice, both clipped to `window`, peak = its width.

    Over the whole slice, or over `mask`. Infinite for equal images; NaN for an empty mask.
    """
    error = windowed(image_hu, window) - windowed(target_hu, window)
    if mask is not None:
        error = error[mask]
    if not error.size:
        return float("nan")
    mean_square = float(np.mean(np.square(error)))
    return float("inf") if mean_square == 0 else 10 * np.log10(window.width**2 / mean_square)


def ssim(
    image_hu: ImageHU, target_hu: ImageHU, window: Window, *, mask: Mask | None = None
) -> float:
    """Structural similarity of one slice, clipped to `window`, range = its width.

    Wang et al. 2004 as scikit-image computes it, 7 x 7 uniform window, sample covariance, but
    in one pass and 20 times as fast. Values count from the window's lower end, as on a screen:
    SSIM compares means by their ratio, which has no meaning around 0 HU. The mean is taken
    where the 7 x 7 window lies within the slice, and its centre in `mask`.
    """
    both = (np.ascontiguousarray(windowed(i, window)) for i in (image_hu, target_hu))
    similarity = _ssim_map(
        *both,
        SSIM_WINDOW_PIXELS,
        (SSIM_K1 * window.width) ** 2,
        (SSIM_K2 * window.width) ** 2,
    )
    return _mean_within(similarity, mask, SSIM_WINDOW_PIXELS // 2)


def ssim_padded(
    image_hu: ImageHU, target_hu: ImageHU, window: Window, *, mask: Mask | None = None
) -> float:
    """SSIM as the widespread reimplementation of RED-CNN has it: another figure than `ssim`.

    Wang's 11 x 11 Gaussian window of sigma 1.5 and its weights' own covariance, on HU as they
    are, not counted from the window's lower end, with zeros (0 HU) around the slice and the
    rim counted. For comparison with papers only.
    """
    x, y = (
        np.clip(i, window.low_hu, window.high_hu).astype(np.float64) for i in (image_hu, target_hu)
    )
    mean_x, mean_y = _gaussian_mean(x), _gaussian_mean(y)
    variances = _gaussian_mean(x * x) - mean_x**2 + _gaussian_mean(y * y) - mean_y**2
    covariance = _gaussian_mean(x * y) - mean_x * mean_y
    c1, c2 = (SSIM_K1 * window.width) ** 2, (SSIM_K2 * window.width) ** 2
    similarity = ((2 * mean_x * mean_y + c1) * (2 * covariance + c2)) / (
        (mean_x**2 + mean_y**2 + c1) * (variances + c2)
    )
    return _mean_within(similarity, mask, 0)


def _gaussian_mean(image: NDArray) -> NDArray:
    """Mean in Wang's window, zeros outside the slice."""
    for axis in (0, 1):
        image = ndimage.gaussian_filter1d(
            image, SSIM_SIGMA_PIXELS, axis=axis, mode="constant", radius=SSIM_GAUSSIAN_RADIUS
        )
    return image


def rmse_hu(image_hu: ImageHU, target_hu: ImageHU, mask: Mask) -> float:
    """Root mean square error in HU over `mask`, nothing clipped; NaN for an empty mask."""
    error = (image_hu - target_hu)[mask]
    return float(np.sqrt(np.mean(np.square(error)))) if error.size else float("nan")


def tissue_masks(target_hu: ImageHU, mask: Mask) -> dict[str, Mask]:
    """Voxels of each tissue class of TISSUE_RANGES_HU, inside `mask`, from one target slice.

    The opening removes rims: between soft tissue and gas the smoothed values pass through
    fat and lung, a pixel or two wide.
    """
    smooth_hu = ndimage.uniform_filter(target_hu, TISSUE_SMOOTHING_PIXELS)
    return {
        name: mask & _opened((smooth_hu >= low) & (smooth_hu <= high))
        for name, (low, high) in TISSUE_RANGES_HU.items()
    }


def flicker(frames: NDArray[np.float32], still: NDArray[np.bool_]) -> float:
    """Mean absolute difference of each of `frames` [count, rows, columns] to the next, where
    nothing moves: `still` [count - 1, rows, columns]."""
    steps = np.abs(np.diff(frames, axis=0))[still]
    if not steps.size:
        raise ValueError("no pixel is still from one frame to the next")
    return float(steps.mean())


def windowed(image_hu: ImageHU, window: Window) -> NDArray[np.float64]:
    """Clipped to `window` and counted from its lower end: 0 to window.width."""
    return np.clip(image_hu, window.low_hu, window.high_hu).astype(np.float64) - window.low_hu


def _mean_within(values: NDArray, mask: Mask | None, rim: int) -> float:
    """Mean of a map that lacks a rim of the slice, where the slice's `mask` is set."""
    if mask is not None:
        rows, columns = mask.shape
        values = values[mask[rim : rows - rim, rim : columns - rim]]
    return float(values.mean()) if values.size else float("nan")


def _opened(mask: Mask) -> Mask:
    """Binary opening by a 3 x 3 square, False outside: a row and a column at a time, which
    ndimage.binary_opening does 30 times slower."""
    for axis in (0, 1):
        mask = _with_neighbours(mask, axis, np.logical_and)
    for axis in (0, 1):
        mask = _with_neighbours(mask, axis, np.logical_or)
    return mask


def _with_neighbours(mask: Mask, axis: int, combine: np.ufunc) -> Mask:
    along = np.pad(mask, [(1, 1) if axis == other else (0, 0) for other in (0, 1)])
    along = along if axis == 0 else along.T
    combined = combine(combine(along[:-2], along[1:-1]), along[2:])
    return combined if axis == 0 else combined.T


@njit(cache=True, nogil=True)
def _ssim_map(
    image: NDArray, target: NDArray, size: int, c1: float, c2: float
) -> NDArray:  # pragma: no cover - compiled
    """SSIM at each place where a size x size window fits, by running sums of five products."""
    rows, columns = image.shape
    columns_out = columns - size + 1
    similarity = np.empty((rows - size + 1, columns_out))
    sums = np.zeros((5, columns))
    count = size * size
    sample = count / (count - 1.0)
    for row in range(rows):
        for column in range(columns):
            x, y = image[row, column], target[row, column]
            old_x, old_y = 0.0, 0.0
            if row >= size:
                old_x, old_y = image[row - size, column], target[row - size, column]
            sums[0, column] += x - old_x
            sums[1, column] += y - old_y
            sums[2, column] += x * x - old_x * old_x
            sums[3, column] += y * y - old_y * old_y
            sums[4, column] += x * y - old_x * old_y
        if row < size - 1:
            continue
        a, b, aa, bb, ab = 0.0, 0.0, 0.0, 0.0, 0.0
        for column in range(columns):
            a += sums[0, column]
            b += sums[1, column]
            aa += sums[2, column]
            bb += sums[3, column]
            ab += sums[4, column]
            first = column - size + 1
            if first < 0:
                continue
            mean_x, mean_y = a / count, b / count
            variances = sample * (aa / count - mean_x**2 + bb / count - mean_y**2)
            covariance = sample * (ab / count - mean_x * mean_y)
            similarity[row - size + 1, first] = (
                (2 * mean_x * mean_y + c1)
                * (2 * covariance + c2)
                / ((mean_x**2 + mean_y**2 + c1) * (variances + c2))
            )
            a -= sums[0, first]
            b -= sums[1, first]
            aa -= sums[2, first]
            bb -= sums[3, first]
            ab -= sums[4, first]
    return similarity
