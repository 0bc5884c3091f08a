"""What a pen did: how thick the strokes of a bright character are, and how far it leans.

As Morpho-MNIST measures digits (Castro et al., JMLR 2019). Images are [rows, columns], ink is
bright, the background about 0.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

#: By how much an image is enlarged before its ink is cut out: a stroke of 8 x 8 is a pixel wide.
_ENLARGED = 4


def stroke_thickness(image: NDArray[np.floating]) -> float:
    """Pixels across a stroke: twice the mean distance from its middle line to its rim.

    Ink is what is brighter than half of the brightest pixel, after linear enlargement. NaN for an
    image without ink.
    """
    from scipy.ndimage import zoom
    from skimage.morphology import medial_axis  # scikit-image takes a second to import

    padded = np.pad(np.asarray(image, dtype=np.float64), 1)
    fine = zoom(padded, _ENLARGED, order=1, grid_mode=True, mode="grid-constant")
    if not fine.max() > 0:
        return math.nan
    middle, distance = medial_axis(fine > fine.max() / 2, return_distance=True, rng=0)
    return float(2 * distance[middle].mean() / _ENLARGED)


def slant_degrees(image: NDArray[np.floating]) -> float:
    """How far a character leans to the right, from its second moments.

    The shear that makes rows and columns of the ink uncorrelated: atan(-m_rc / m_rr), rows counted
    downwards. NaN for an image without ink, or with ink in one row alone.
    """
    ink = np.asarray(image, dtype=np.float64).clip(min=0)
    if not ink.sum() > 0:
        return math.nan
    weights = ink / ink.sum()
    rows, columns = np.indices(ink.shape)
    rows, columns = rows - (weights * rows).sum(), columns - (weights * columns).sum()
    along = (weights * rows**2).sum()
    return math.degrees(math.atan(-(weights * rows * columns).sum() / along)) if along else math.nan
