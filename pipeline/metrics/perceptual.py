"""VIF, GMSD and MS-SSIM: likeness by models of vision, on a window as on a screen.

Each takes one slice [rows, columns] in HU, clipped to `window`; what a window leaves out cannot
be seen and does not count. None of them is evidence that a lesion stays detectable.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
from numba import njit
from numpy.typing import NDArray
from scipy import ndimage

from pipeline.core.types import ImageHU
from pipeline.core.units import Window
from pipeline.metrics.image import windowed

#: The constants of VIF and GMSD were fitted to images of 8 bits.
EIGHT_BIT_PEAK = 255.0
#: Variance of the eye's own noise, in squared grey levels (Sheikh & Bovik 2006).
VIF_NOISE_VARIANCE = 2.0
#: Widths of VIF's Gaussian windows, finest scale first; sigma is a fifth of each.
VIF_WINDOWS_PIXELS = (17, 9, 5, 3)
VIF_SMALLEST_PIXELS = 41
#: T of Xue et al. 2014, in squared grey levels of 8 bits.
GMSD_CONSTANT = 170.0
#: Scales of MS-SSIM; each needs the 11-pixel window to fit into the slice halved once more.
MS_SSIM_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
MS_SSIM_SMALLEST_PIXELS = 11 * 2 ** (len(MS_SSIM_WEIGHTS) - 1)
_TINY = 1e-10


def vif(
    image_hu: ImageHU, target_hu: ImageHU, window: Window, *, peak: float = EIGHT_BIT_PEAK
) -> float:
    """Visual information fidelity in the pixel domain: 1 for equal images, 0 if all is lost.

    Sheikh & Bovik 2006, their `vifp_mscale`: four scales, Gaussian windows of 17, 9, 5 and 3
    pixels, no padding, noise variance 2 for values of 0 to `peak` (255, for which it was
    fitted). Contrast enhancement can bring it over 1. NaN where the window shows nothing of
    the target, and for slices under 41 pixels, which the coarsest scale does not fit into.
    """
    if min(image_hu.shape) < VIF_SMALLEST_PIXELS:
        return float("nan")
    target = windowed(target_hu, window) * (peak / window.width)
    image = windowed(image_hu, window) * (peak / window.width)
    kept = there = 0.0
    for scale, width in enumerate(VIF_WINDOWS_PIXELS):
        weights = _gaussian(width)
        if scale:
            target, image = (_blurred(i, weights) for i in (target, image))
        at_scale = _information(target, image, weights, VIF_NOISE_VARIANCE)
        kept, there = kept + at_scale[0], there + at_scale[1]
    return kept / there if there else float("nan")


@lru_cache
def _gaussian(width: int) -> NDArray[np.float64]:
    place = np.arange(width) - width // 2
    weights = np.exp(-(place**2) / (2 * (width / 5) ** 2))
    return weights / weights.sum()


@njit(cache=True, nogil=True, fastmath={"contract"})
def _blurred(image: NDArray, weights: NDArray) -> NDArray:  # pragma: no cover - compiled
    """Mean with `weights` down and along, wherever the window fits; every second of either."""
    rows, columns = image.shape[0] - weights.size + 1, image.shape[1] - weights.size + 1
    blurred = np.empty(((rows + 1) // 2, (columns + 1) // 2))
    line, mean = np.empty(image.shape[1]), np.empty(columns)
    for row in range(0, rows, 2):
        line[:] = 0
        for tap in range(weights.size):
            for column in range(image.shape[1]):
                line[column] += weights[tap] * image[row + tap, column]
        _mean_along(line, weights, mean)
        blurred[row // 2] = mean[::2]
    return blurred


@njit(cache=True, nogil=True, fastmath={"contract"})
def _mean_along(line: NDArray, weights: NDArray, mean: NDArray) -> None:  # pragma: no cover
    """mean = that of a line with `weights`, wherever the window fits."""
    mean[:] = 0
    for tap in range(weights.size):
        for column in range(mean.size):
            mean[column] += weights[tap] * line[column + tap]


@njit(cache=True, nogil=True, fastmath={"contract"})
def _information(
    target: NDArray, image: NDArray, weights: NDArray, noise: float
) -> tuple[float, float]:  # pragma: no cover - compiled
    """Bits that the eye takes from the image of what the target shows, and from the target.

    A row at a time, so that nothing leaves the cache; one logarithm for the product of 16 pixels.
    """
    columns = target.shape[1]
    lines = np.empty((5, columns))
    means = np.empty((5, columns - weights.size + 1))
    kept = there = 0.0
    for row in range(target.shape[0] - weights.size + 1):
        lines[:] = 0
        for tap in range(weights.size):
            weight, row_t, row_i = weights[tap], target[row + tap], image[row + tap]
            for column in range(columns):
                t, i = row_t[column], row_i[column]
                lines[0, column] += weight * t
                lines[1, column] += weight * i
                lines[2, column] += weight * (t * t)
                lines[3, column] += weight * (i * i)
                lines[4, column] += weight * (t * i)
        for moment in range(5):
            _mean_along(lines[moment], weights, means[moment])
        of_row = _information_of(means, noise)
        kept, there = kept + of_row[0], there + of_row[1]
    return kept, there


@njit(cache=True, nogil=True, fastmath={"contract"})
def _information_of(means: NDArray, noise: float) -> tuple[float, float]:  # pragma: no cover
    """Of a row of means of t, i, t * t, i * i and t * i."""
    kept = there = 0.0
    product_kept = product_there = 1.0
    for column in range(means.shape[1]):
        mean_t, mean_i, tt, ii, ti = means[:, column]
        variance_t = max(tt - mean_t * mean_t, 0.0)
        variance_i = max(ii - mean_i * mean_i, 0.0)
        covariance = ti - mean_t * mean_i
        gain = covariance / (variance_t + _TINY)
        # Where either is flat nothing is passed on; a negative gain passes on noise alone.
        if variance_t < _TINY:
            variance_t = gain = 0.0
        elif variance_i < _TINY or gain < 0:
            gain = 0.0
        rest = max(variance_i - gain * covariance, _TINY)
        product_kept *= 1 + gain * gain * variance_t / (rest + noise)
        product_there *= 1 + variance_t / noise
        if column % 16 == 15:
            kept, there = kept + np.log2(product_kept), there + np.log2(product_there)
            product_kept = product_there = 1.0
    return kept + np.log2(product_kept), there + np.log2(product_there)


def gmsd(image_hu: ImageHU, target_hu: ImageHU, window: Window) -> float:
    """Gradient magnitude similarity deviation: 0 for equal images, larger is worse.

    Xue et al. 2014: both halved by 2 x 2 means, Prewitt gradients with zeros around the slice,
    T = 170 on 0 to 255, the sample standard deviation of the similarity.
    """
    gradients = (
        _gradient(_halved(windowed(i, window) * (EIGHT_BIT_PEAK / window.width)))
        for i in (image_hu, target_hu)
    )
    one, other = gradients
    similarity = (2 * one * other + GMSD_CONSTANT) / (one**2 + other**2 + GMSD_CONSTANT)
    return float(similarity.std(ddof=1))


def _halved(image: NDArray) -> NDArray:
    rows, columns = image.shape
    even = np.pad(image, ((0, rows % 2), (0, columns % 2)))
    return even.reshape(even.shape[0] // 2, 2, even.shape[1] // 2, 2).mean(axis=(1, 3))


def _gradient(image: NDArray) -> NDArray:
    """Magnitude of the Prewitt gradient, a third of each difference of sums."""
    down, across = (ndimage.prewitt(image, axis=axis, mode="constant") / 3 for axis in (0, 1))
    return np.hypot(down, across)


def ms_ssim(image_hu: ImageHU, target_hu: ImageHU, window: Window) -> float:
    """Multi-scale SSIM (Wang et al. 2003) as MONAI computes it: five scales, 11 x 11 Gaussian
    windows of sigma 1.5, range = the window's width. NaN for slices under 176 pixels, which
    the coarsest scale does not fit into.
    """
    from monai.metrics import compute_ms_ssim  # MONAI takes seconds to import

    if min(image_hu.shape) < MS_SSIM_SMALLEST_PIXELS:
        return float("nan")
    image, target = (
        torch.from_numpy(windowed(i, window) / window.width)[None, None].float()
        for i in (image_hu, target_hu)
    )
    return float(compute_ms_ssim(image, target, spatial_dims=2, weights=MS_SSIM_WEIGHTS))
