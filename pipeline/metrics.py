"""Image quality in physical units: every figure has a window, a range and a mask.

PSNR and SSIM depend on the data range: the same slice has 30.7 dB on [-160, 240] HU and
48.6 dB on [-1024, 3072]. So none of these functions guesses one.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from skimage.metrics import structural_similarity

from pipeline.units import TISSUE_RANGES_HU, Window

Image = NDArray[np.float32]
Mask = NDArray[np.bool_]

#: Tissue is told from the target smoothed over so many pixels: chosen by single noisy pixels,
#: a class would hold the target's own noise, and every denoiser would look biased.
TISSUE_SMOOTHING_PIXELS = 5


def psnr_db(image_hu: Image, target_hu: Image, window: Window) -> float:
    """Peak signal-to-noise ratio of one slice, both clipped to `window`, peak = its width.

    Infinite for equal images.
    """
    error = _windowed(image_hu, window) - _windowed(target_hu, window)
    mean_square = float(np.mean(np.square(error)))
    return float("inf") if mean_square == 0 else 10 * np.log10(window.width**2 / mean_square)


def ssim(image_hu: Image, target_hu: Image, window: Window) -> float:
    """Structural similarity of one slice, both clipped to `window`, range = its width.

    Wang et al. 2004 as scikit-image computes it: 7 x 7 uniform window, sample covariance.
    """
    return float(
        structural_similarity(
            _windowed(target_hu, window), _windowed(image_hu, window), data_range=window.width
        )
    )


def rmse_hu(image_hu: Image, target_hu: Image, mask: Mask) -> float:
    """Root mean square error in HU over `mask`, nothing clipped; NaN for an empty mask."""
    error = (image_hu - target_hu)[mask]
    return float(np.sqrt(np.mean(np.square(error)))) if error.size else float("nan")


def tissue_masks(target_hu: Image, mask: Mask) -> dict[str, Mask]:
    """Voxels of each tissue class of TISSUE_RANGES_HU, inside `mask`, from one target slice.

    The opening removes rims: between soft tissue and gas the smoothed values pass through
    fat and lung, a pixel or two wide.
    """
    smooth_hu = ndimage.uniform_filter(target_hu, TISSUE_SMOOTHING_PIXELS)
    square = np.ones((3, 3), dtype=bool)
    return {
        name: mask & ndimage.binary_opening((smooth_hu >= low) & (smooth_hu <= high), square)
        for name, (low, high) in TISSUE_RANGES_HU.items()
    }


def _windowed(image_hu: Image, window: Window) -> Image:
    return np.clip(image_hu, window.low_hu, window.high_hu).astype(np.float64)
