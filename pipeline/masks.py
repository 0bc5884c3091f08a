"""Where the patient is in a slice."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

#: Between air and fat: what is denser belongs to a body, or to the table.
BODY_THRESHOLD_HU = -300.0


def body_mask(image_hu: NDArray[np.float32]) -> NDArray[np.bool_]:
    """The largest connected body of a slice [rows, columns], its lungs and gas filled in.

    The opening cuts the couch's thin shell from the back lying on it.
    """
    dense = ndimage.binary_opening(image_hu > BODY_THRESHOLD_HU, iterations=3)
    labels, count = ndimage.label(dense)
    if count == 0:
        return np.zeros(image_hu.shape, dtype=bool)
    sizes = np.bincount(labels.ravel())[1:]
    return ndimage.binary_fill_holes(labels == 1 + int(np.argmax(sizes)))


def bounding_box(mask: NDArray[np.bool_], at_least: tuple[int, int]) -> tuple[slice, slice] | None:
    """The mask's box in a slice, grown to `at_least` where the image allows; None if empty."""
    if not mask.any():
        return None
    sides = []
    for axis, smallest in enumerate(at_least):
        places = np.flatnonzero(mask.any(axis=1 - axis))
        first, last = int(places[0]), int(places[-1]) + 1
        missing = max(0, smallest - (last - first))
        first = max(0, min(first - missing // 2, mask.shape[axis] - smallest))
        sides.append(slice(first, max(last, first + smallest)))
    return sides[0], sides[1]
