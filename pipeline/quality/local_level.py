"""How strong a field of noise is from place to place, in blocks of pixels, little moved by what
stands out of it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

Field = NDArray[np.float32]

#: A block that is stronger than this many times its surroundings counts as no more than that.
_CLIP = 2.0
#: The mean absolute value of a normal variable of deviation 1.
_MEAN_ABSOLUTE = float(np.sqrt(2 / np.pi))


def block_sums(field: NDArray, edge: int) -> NDArray:
    """Sums over blocks of edge x edge pixels; the sides of `field` are multiples of `edge`."""
    rows, columns = field.shape[0] // edge, field.shape[1] // edge
    over_rows = field.reshape(rows, edge, field.shape[1]).sum(axis=1)  # whole rows: quick
    return over_rows.reshape(rows, columns, edge).sum(axis=2)


def block_maxima(field: NDArray, edge: int) -> NDArray:
    """The largest value of each block, as block_sums."""
    rows, columns = field.shape[0] // edge, field.shape[1] // edge
    over_rows = field.reshape(rows, edge, field.shape[1]).max(axis=1)
    return over_rows.reshape(rows, columns, edge).max(axis=2)


def local_level(
    absolute: Field,
    counts: Field,
    *,
    window: tuple[float, float],
    weights: Field | None = None,
) -> Field:
    """The standard deviation of noise about each block, from sums of its absolute values.

    absolute: of each block [rows, columns]; counts: the pixels in it that count. window: standard
    deviation of the Gaussian neighbourhood, in blocks. weights: `neighbours` of the same counts
    and window, where they are known.
    """
    weights = neighbours(counts, window) if weights is None else weights
    level = _about(absolute, window) / weights
    for _ in range(2):
        kept = np.minimum(absolute, _CLIP * level * counts)
        level = _about(kept, window) / weights
    return level / _MEAN_ABSOLUTE


def neighbours(counts: Field, window: tuple[float, float]) -> Field:
    """How many pixels count about each block, nearer ones more; a little above 0 where none do."""
    return _about(counts, window) + np.float32(1e-12)


def _about(blocks: Field, window: tuple[float, float]) -> Field:
    return ndimage.gaussian_filter(blocks, window, mode="constant", truncate=3)
