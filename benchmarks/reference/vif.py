"""Visual information fidelity as a plain reference: Sheikh & Bovik, IEEE TIP 2006, `vifp_mscale`.

Their four scales, windows and cases, written from the paper's formulas with SciPy's filters.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

NOISE_VARIANCE = 2.0
TINY = 1e-10


def vif(image: NDArray[np.float64], target: NDArray[np.float64]) -> float:
    """Of two images [rows, columns] whose values lie between 0 and 255."""
    kept = there = 0.0
    for scale in range(1, 5):
        width = 2 ** (4 - scale + 1) + 1
        if scale > 1:
            target, image = (mean(i, width)[::2, ::2] for i in (target, image))
        mean_t, mean_i = mean(target, width), mean(image, width)
        variance_t = np.maximum(mean(target * target, width) - mean_t * mean_t, 0)
        variance_i = np.maximum(mean(image * image, width) - mean_i * mean_i, 0)
        covariance = mean(target * image, width) - mean_t * mean_i
        gain = covariance / (variance_t + TINY)
        rest = variance_i - gain * covariance
        flat_t, flat_i, inverted = variance_t < TINY, variance_i < TINY, gain < 0
        gain[flat_t | flat_i | inverted] = 0
        rest[flat_t | inverted] = variance_i[flat_t | inverted]
        rest[flat_i] = 0
        variance_t[flat_t] = 0
        rest = np.maximum(rest, TINY)
        kept += np.log2(1 + gain * gain * variance_t / (rest + NOISE_VARIANCE)).sum()
        there += np.log2(1 + variance_t / NOISE_VARIANCE).sum()
    return float(kept / there)


def mean(image: NDArray[np.float64], width: int) -> NDArray[np.float64]:
    """Gaussian of sigma width / 5 wherever the window fits."""
    place = np.arange(width) - width // 2
    weights = np.exp(-(place**2) / (2 * (width / 5) ** 2))
    for axis in (0, 1):
        image = ndimage.correlate1d(image, weights / weights.sum(), axis=axis)
    rim = width // 2
    return image[rim:-rim, rim:-rim]
