"""From HU back to the values that the source's pixels are stored in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from pipeline.core.errors import LdctError
from pipeline.dicom.read.pixels import StoredPixels


@dataclass(frozen=True)
class Clipped:
    """How many pixels of an image did not fit on the stored grid, and by how much at most."""

    pixels: int
    largest_excess_hu: float


@dataclass(frozen=True)
class Fitted:
    """An image on its source's stored grid, and what did not fit there."""

    stored: NDArray
    clipped: Clipped


def summed(clipped: Sequence[Clipped]) -> dict[str, Any]:
    """What a report says of the images of a series."""
    return {
        "instances": len(clipped),
        "clipped_pixels": sum(one.pixels for one in clipped),
        "largest_clipped_excess_hu": round(max(one.largest_excess_hu for one in clipped), 3),
    }


def to_stored(
    image_hu: NDArray[np.float32],
    source: StoredPixels,
    header: Dataset,
    *,
    made_up: NDArray[np.bool_] | None = None,
) -> Fitted:
    """HU to the nearest of the source's stored values that is no padding; clipped to fit.

    Where the source has padding the result has it too, but for what was made up there. Raises
    LdctError for values that are not numbers, which have no place there.
    """
    if not np.isfinite(image_hu).all():
        raise LdctError("the image to export holds values that are not numbers; nothing written")
    bits = int(header.BitsStored)
    signed = header.PixelRepresentation == 1
    low, high = (-(1 << bits - 1), (1 << bits - 1) - 1) if signed else (0, (1 << bits) - 1)
    exact = np.subtract(image_hu, source.intercept, dtype=np.float64)
    if source.slope != 1:
        exact /= source.slope
    whole = np.rint(exact)
    padded = source.padded if made_up is None else source.padded & ~made_up
    clipped = _clip(whole, ~padded, low, high, unit_hu=abs(source.slope))
    stored = whole.astype(f"<{'i' if signed else 'u'}{int(header.BitsAllocated) // 8}")
    # A measured pixel must not turn into padding: it takes the nearest value beside.
    masked = source.is_padding(stored) & ~padded
    if masked.any():
        values = np.arange(low, high + 1)
        stored[masked] = _nearest(exact[masked], values[~source.is_padding(values)])
    np.copyto(stored, source.containers, where=padded)
    return Fitted(stored, clipped)


def _clip(
    whole: NDArray[np.float64], valid: NDArray[np.bool_], low: int, high: int, *, unit_hu: float
) -> Clipped:
    """Bring every value between low and high, in place; padding does not count as clipped."""
    if whole.min() >= low and whole.max() <= high:  # nearly always
        return Clipped(0, 0.0)
    excess = np.maximum(low - whole, whole - high)[valid].clip(0)
    whole.clip(low, high, out=whole)
    return Clipped(int((excess > 0).sum()), float(excess.max(initial=0) * unit_hu))


def _nearest(values: NDArray[np.float64], allowed: NDArray) -> NDArray:
    """Of `allowed`, which ascends, the nearest to each value."""
    above = np.searchsorted(allowed, values).clip(1, len(allowed) - 1)
    lower, upper = allowed[above - 1], allowed[above]
    return np.where(values - lower <= upper - values, lower, upper)
