"""Padding that no header declares: what fills the image where nothing was measured.

Scanners fill what lies outside of their circle with a value below any CT number, and programs
that resample or compress with loss make many values of that one. Noise in air has such values
as well, and dark streaks beside metal: padding covers whole pieces, from the border of the image
on or of one value.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from pipeline.core.units import LOWEST_CT_HU

#: Noise does not cover a square of so many pixels a side: by half of them at random, one square in
#: 30 million is covered.
SOLID_PIXELS = 5


def padding_mask(image_hu: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Where a slice [rows, columns] is no measurement: no number, or of a piece that lies below
    LOWEST_CT_HU, and holds a square at the border or is of one value."""
    missing = ~np.isfinite(image_hu)
    known_hu = np.where(missing, -np.inf, image_hu)
    pieces, solid = _solid_pieces(known_hu < LOWEST_CT_HU)
    large = np.flatnonzero(np.bincount(pieces.ravel())[1:] >= SOLID_PIXELS**2) + 1
    if not len(large):
        return missing
    low, high = (found(known_hu, pieces, large) for found in (ndimage.minimum, ndimage.maximum))
    fills = np.union1d(large[low == high], _at_border(pieces, solid))
    return missing | np.isin(pieces, fills)


def blurred_padding(image_hu: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Where a slice [rows, columns] that was compressed with loss has its padding.

    At the border, and nearer to the padding's own value than to air: loss makes rings at its rim,
    on both sides.
    """
    pieces, labels = _solid_pieces(image_hu < LOWEST_CT_HU)
    fills = np.isin(pieces, _at_border(pieces, labels))
    if not fills.any():
        return fills
    between_hu = (float(np.median(image_hu[fills])) + LOWEST_CT_HU) / 2
    pieces, labels = _solid_pieces(image_hu < between_hu)
    return np.isin(pieces, _at_border(pieces, labels))


def _solid_pieces(low: NDArray[np.bool_]) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """The pieces of `low`, by number from 1 on, and the numbers of those that hold a square."""
    if not low.any():
        return np.zeros(low.shape, np.int32), np.empty(0, np.int32)
    pieces, _ = ndimage.label(low)
    square = np.ones([min(SOLID_PIXELS, side) for side in low.shape], bool)
    return pieces, np.unique(pieces[ndimage.binary_opening(low, square)])


def _at_border(pieces: NDArray[np.int32], labels: NDArray[np.int32]) -> NDArray[np.int32]:
    """Those of `labels` that are at the border of `pieces`."""
    border = [pieces[[0, -1]].ravel(), pieces[:, [0, -1]].ravel()]
    return np.intersect1d(labels, np.concatenate(border))
