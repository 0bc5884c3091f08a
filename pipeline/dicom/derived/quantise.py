"""HU quantised to the values that the source's pixels are stored in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from pipeline.core.errors import LdctError
from pipeline.dicom.read.stored_pixels import StoredPixels


@dataclass(frozen=True)
class ClippedPixels:
    """How many pixels of an image lay beyond the range of stored values, and by how much at
    most."""

    pixels: int
    max_excess_hu: float


@dataclass(frozen=True)
class Quantised:
    """An image as stored values [rows, columns], and what was clipped to their range."""

    stored: NDArray
    clipped: ClippedPixels


def total_clipped(images: Sequence[ClippedPixels]) -> ClippedPixels:
    """Of a series: the sum of clipped pixels, and the largest excess, rounded to 0.001 HU."""
    return ClippedPixels(
        sum(image.pixels for image in images),
        round(max(image.max_excess_hu for image in images), 3),
    )


def to_stored(
    image_hu: NDArray[np.float32],
    source: StoredPixels,
    header: Dataset,
    *,
    generated: NDArray[np.bool_] | None = None,
) -> Quantised:
    """HU [rows, columns] to the nearest of the source's stored values that is no padding.

    Values beyond the stored range are clipped. Where the source has padding the result has it
    too, except where `generated` [rows, columns] is True: a model filled that in. Raises
    LdctError for values that are not finite, which no stored value can hold.
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
    padded = source.padded if generated is None else source.padded & ~generated
    clipped = _clip(whole, ~padded, low, high, unit_hu=abs(source.slope))
    stored = whole.astype(f"<{'i' if signed else 'u'}{int(header.BitsAllocated) // 8}")
    # A measured pixel must not turn into padding: it takes the nearest value that is none.
    masked = source.is_padding(stored) & ~padded
    if masked.any():
        values = np.arange(low, high + 1)
        stored[masked] = _nearest(exact[masked], values[~source.is_padding(values)])
    np.copyto(stored, source.containers, where=padded)
    return Quantised(stored, clipped)


def _clip(
    whole: NDArray[np.float64], valid: NDArray[np.bool_], low: int, high: int, *, unit_hu: float
) -> ClippedPixels:
    """Bring every value between low and high, in place; padding does not count as clipped."""
    if whole.min() >= low and whole.max() <= high:  # nearly always
        return ClippedPixels(0, 0.0)
    excess = np.maximum(low - whole, whole - high)[valid].clip(0)
    whole.clip(low, high, out=whole)
    return ClippedPixels(int((excess > 0).sum()), float(excess.max(initial=0) * unit_hu))


def _nearest(values: NDArray[np.float64], allowed: NDArray) -> NDArray:
    """The nearest element of `allowed`, which ascends, to each value."""
    above = np.searchsorted(allowed, values).clip(1, len(allowed) - 1)
    lower, upper = allowed[above - 1], allowed[above]
    return np.where(values - lower <= upper - values, lower, upper)
