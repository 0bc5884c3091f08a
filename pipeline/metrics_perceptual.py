"""VIF, GMSD and MS-SSIM: likeness by models of vision, on a window as on a screen.

Each takes one slice [rows, columns] in HU, clipped to `window`; what a window leaves out cannot
be seen and does not count. None of them is evidence that a lesion stays detectable.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
from monai.metrics import compute_ms_ssim
from numba import njit
from numpy.typing import NDArray
from scipy import ndimage

from pipeline.metrics import Image, windowed
from pipeline.units import Window

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
    image_hu: Image, target_hu: Image, window: Window, *, peak: float = EIGHT_BIT_PEAK
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
        if scale:
            target, image = (_blurred(i, width)[::2, ::2] for i in (target, image))
        at_scale = _information(image, target, width)
        kept, there = kept + at_scale[0], there + at_scale[1]
    return kept / there if there else float("nan")


def _information(image: NDArray, target: NDArray, width: int) -> tuple[float, float]:
    """Bits that the eye takes from the image of what the target shows, and from the target."""
    mean_t, mean_i = _blurred(target, width), _blurred(image, width)
    variance_t = np.maximum(_blurred(target * target, width) - mean_t**2, 0)
    variance_i = np.maximum(_blurred(image * image, width) - mean_i**2, 0)
    covariance = _blurred(target * image, width) - mean_t * mean_i
    gain = covariance / (variance_t + _TINY)
    rest = variance_i - gain * covariance
    # Where either is flat nothing is passed on; a negative gain passes on noise alone.
    flat_t, flat_i, inverted = variance_t < _TINY, variance_i < _TINY, gain < 0
    rest = np.where(flat_t | inverted, variance_i, np.where(flat_i, 0, rest))
    gain = np.where(flat_t | flat_i | inverted, 0, gain)
    variance_t = np.where(flat_t, 0, variance_t)
    passed = gain**2 * variance_t / (np.maximum(rest, _TINY) + VIF_NOISE_VARIANCE)
    return (
        float(np.log2(1 + passed).sum()),
        float(np.log2(1 + variance_t / VIF_NOISE_VARIANCE).sum()),
    )


@lru_cache
def _gaussian(width: int) -> NDArray[np.float64]:
    place = np.arange(width) - width // 2
    weights = np.exp(-(place**2) / (2 * (width / 5) ** 2))
    return weights / weights.sum()


def _blurred(image: NDArray, width: int) -> NDArray:
    """Gaussian mean of `width` pixels wherever the window fits."""
    return _mean_along_both(np.ascontiguousarray(image), _gaussian(width))


@njit(cache=True, nogil=True, fastmath={"contract"})
def _mean_along_both(image: NDArray, weights: NDArray) -> NDArray:  # pragma: no cover - compiled
    """Down each column, then along each row, three times as fast as ndimage.correlate1d."""
    rows, columns = image.shape[0] - weights.size + 1, image.shape[1] - weights.size + 1
    blurred = np.zeros((rows, columns))
    line = np.empty(image.shape[1])
    for row in range(rows):
        line[:] = 0
        for tap in range(weights.size):
            for column in range(image.shape[1]):
                line[column] += weights[tap] * image[row + tap, column]
        for tap in range(weights.size):
            for column in range(columns):
                blurred[row, column] += weights[tap] * line[column + tap]
    return blurred


def gmsd(image_hu: Image, target_hu: Image, window: Window) -> float:
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


def ms_ssim(image_hu: Image, target_hu: Image, window: Window) -> float:
    """Multi-scale SSIM (Wang et al. 2003) as MONAI computes it: five scales, 11 x 11 Gaussian
    windows of sigma 1.5, range = the window's width. NaN for slices under 176 pixels, which
    the coarsest scale does not fit into.
    """
    if min(image_hu.shape) < MS_SSIM_SMALLEST_PIXELS:
        return float("nan")
    image, target = (
        torch.from_numpy(windowed(i, window) / window.width)[None, None].float()
        for i in (image_hu, target_hu)
    )
    return float(compute_ms_ssim(image, target, spatial_dims=2, weights=MS_SSIM_WEIGHTS))
