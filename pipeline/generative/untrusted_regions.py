"""Pixels of a CT that hold no measurement: metal, and what lies beyond the field of view.

Found by physics, no learning. What is done about them is pipeline.generative.fill's.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from pipeline.core.masks import body_mask
from pipeline.core.volume import Volume

Region = NDArray[np.bool_]

#: Our choice: cortical bone lies below, implants saturate above it. Enamel and contrast medium that
#: comes undiluted from a vein may lie above as well.
METAL_HU = 2500.0
#: Metal blooms: its edge takes part in pixels beside it.
METAL_MARGIN_MM = 2.0
#: A body whose skin only just touches the rim of the field of view is not cut there.
MIN_CUT_MM = 10.0


def metal(
    volume: Volume, *, threshold_hu: float = METAL_HU, margin_mm: float = METAL_MARGIN_MM
) -> Region:
    """Measured pixels of at least `threshold_hu`, what they enclose in their slice, and a margin.

    [slices, rows, columns]. Streaks that metal casts further than the margin stay outside.
    """
    dense = (volume.image_hu >= threshold_hu) & volume.valid
    found = np.zeros_like(dense)
    for number in np.flatnonzero(dense.any(axis=(1, 2))):
        found[number] = _grown(dense[number], margin_mm, volume.spacing_mm[1:])
    return found & volume.valid


def truncation(volume: Volume) -> Region:
    """Padding that a body runs into: where it goes on beyond the field of view.

    [slices, rows, columns]: of each slice's padding the connected pieces that the body touches
    along MIN_CUT_MM and more. Padding with air before it stays padding, and a body that is
    cut by the edge of the matrix has no pixels there that could be filled.
    """
    found = np.zeros_like(volume.valid)
    for number in np.flatnonzero(~volume.valid.all(axis=(1, 2))):
        padding = ~volume.valid[number]
        pieces, count = ndimage.label(padding)
        body = body_mask(volume.image_hu[number]) & ~padding
        for piece in range(1, count + 1):
            touched = body & ndimage.binary_dilation(pieces == piece)
            if _length_mm(touched, volume.spacing_mm[1:]) >= MIN_CUT_MM:
                found[number] |= pieces == piece
    # Readers find undeclared padding by the corners: those stay as they are.
    found[:, [0, 0, -1, -1], [0, -1, 0, -1]] = False
    return found


def _grown(
    mask: NDArray[np.bool_], margin_mm: float, spacing_mm: tuple[float, float]
) -> NDArray[np.bool_]:
    """A slice's mask, its holes filled, and all that is within the margin of it."""
    whole = ndimage.binary_fill_holes(mask)
    return ndimage.distance_transform_edt(~whole, sampling=spacing_mm) <= margin_mm


def _length_mm(touched: NDArray[np.bool_], spacing_mm: tuple[float, float]) -> float:
    """About how long a line of pixels is: from corner to corner of its box, of each piece."""
    pieces, _ = ndimage.label(touched, structure=np.ones((3, 3)))
    spans = ndimage.find_objects(pieces)
    sides = ([s.stop - s.start for s in span] for span in spans)
    return max((float(np.hypot(*np.multiply(side, spacing_mm))) for side in sides), default=0.0)
