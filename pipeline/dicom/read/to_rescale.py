"""Pixels in forms that the CT Image IOD does not have, as stored values with a plain rescale.

A modality look-up table (PS3.3 C.11.1) and floating point pixels (C.7.6.24) become signed values
of 16 bits, slope and intercept, so that all that follows, and the derived series, has one form.
A VOI LUT (C.11.2) is for display and changes no HU.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.pixels import pixel_array
from pydicom.uid import (
    ExplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
)

from pipeline.core.refusals import Unreadable
from pipeline.dicom.read.codestream import undecodable
from pipeline.dicom.read.slice_requirements import is_empty, numbers, rescale_of

FLOATS = {"FloatPixelData": "<f4", "DoubleFloatPixelData": "<f8"}
#: Padding of floats: the attributes of value and range limit.
FLOAT_PADDING = {
    "FloatPixelData": ("FloatPixelPaddingValue", "FloatPixelPaddingRangeLimit"),
    "DoubleFloatPixelData": ("DoubleFloatPixelPaddingValue", "DoubleFloatPixelPaddingRangeLimit"),
}
#: Allocated bits that no integer pixels of CT have: of floats, which a header alone does not show.
FLOAT_BITS = (32, 64)
LOSSLESS = (RLELossless, JPEGLossless, JPEGLosslessSV1, JPEGLSLossless, JPEG2000Lossless)
#: Floats that are not whole are rounded to this, which spans HU to 4096; and a coarser step beyond.
FLOAT_STEP_HU = 1 / 8
LOWEST, HIGHEST = -(2**15), 2**15 - 1
#: What is written where nothing was measured.
PADDING = LOWEST
#: What describes pixels, and may be changed here; in the order of a data set.
CHANGED = (
    "BitsAllocated",
    "BitsStored",
    "HighBit",
    "PixelRepresentation",
    "PixelPaddingValue",
    "PixelPaddingRangeLimit",
    "RescaleIntercept",
    "RescaleSlope",
    "RescaleType",
    "ModalityLUTSequence",
)

FROM_TABLE = "HU through a modality look-up table (PS3.3 C.11.1): applied; derived with a rescale"
SIGNED_TABLE = "entries of the look-up table of 32768 and more were read as negative HU"
FROM_FLOATS = (
    "floating point pixels (PS3.3 C.7.6.24): read, and derived, as whole steps of {:g} HU and a "
    "rescale"
)


def has_other_pixels(header: Dataset) -> bool:
    """Whether a slice's pixels may be in a form that `to_rescale` changes."""
    return "ModalityLUTSequence" in header or header.get("BitsAllocated") in FLOAT_BITS


def to_rescale(dataset: Dataset) -> tuple[str, ...]:
    """Change a whole data set so that its pixels are stored values with a rescale; remarks on it.

    One that has such pixels stays as it is. Raises Unreadable for pixels that cannot be decoded,
    a table that another rescale contradicts, and floats beyond any CT number.
    """
    kind = next((name for name in FLOATS if name in dataset), None)
    if kind is not None:
        return _from_floats(dataset, kind)
    if "ModalityLUTSequence" in dataset:
        return _from_table(dataset)
    return ()


def copy_changed(dataset: Dataset, header: Dataset) -> None:
    """Give a header what `to_rescale` has changed in its whole data set."""
    for name in CHANGED:
        header.pop(name, None)
        if name in dataset:
            header[name] = dataset[name]


def _from_table(dataset: Dataset) -> tuple[str, ...]:
    stored = _stored(dataset)
    try:
        item = dataset.ModalityLUTSequence[0]
        hu = _looked_up(stored, item, dataset)
    except Exception as error:  # what lacks or has odd values raises many kinds
        reason = f"a look-up table that cannot be applied ({type(error).__name__})"
        raise Unreadable(reason, "ModalityLUTSequence") from error
    _require_one_meaning(dataset, stored, hu)
    remarks = [FROM_TABLE]
    if (hu < 0).any():  # entries have no sign (C.11.1.1), and no HU is that high
        remarks.append(SIGNED_TABLE)
    padding = [dataset.get(name) for name in ("PixelPaddingValue", "PixelPaddingRangeLimit")]
    _set_pixels(dataset, hu, _within(stored, padding), slope=1.0)
    dataset.RescaleType = str(item.get("ModalityLUTType") or "US")
    return tuple(remarks)


def _looked_up(stored: NDArray, item: Dataset, dataset: Dataset) -> NDArray[np.float64]:
    """HU [rows, columns]; beyond the table's ends its first or last entry (C.11.1.1)."""
    count, first, _ = item.LUTDescriptor
    if dataset.PixelRepresentation == 1 and first > HIGHEST:  # written without its sign
        first -= 2**16
    data = item.LUTData
    if isinstance(data, bytes):
        table = np.frombuffer(data, "<u2" if dataset.original_encoding[1] else ">u2")
    else:
        table = np.atleast_1d(np.asarray(data, np.int64)) % 2**16
    count = count or 2**16
    if len(table) < count:
        raise ValueError("shorter than it says")
    places = (stored.astype(np.int64) - first).clip(0, count - 1)
    return table.astype("<u2").view("<i2")[places].astype(np.float64)


def _stored(dataset: Dataset) -> NDArray:
    syntax = dataset.file_meta.TransferSyntaxUID
    if syntax.is_encapsulated and syntax not in LOSSLESS:
        reason = "a look-up table of pixels that may be compressed with loss is not read"
        raise Unreadable(reason, "ModalityLUTSequence", syntax.name)
    try:
        return pixel_array(dataset)
    except Exception as error:  # decoders raise many kinds on damaged streams
        raise undecodable(error, syntax) from error


def _require_one_meaning(dataset: Dataset, stored: NDArray, hu: NDArray[np.float64]) -> None:
    """A table and a rescale exclude each other (PS3.3 C.11.1): one that does nothing, or the same,
    is no contradiction."""
    if is_empty(dataset, "RescaleSlope") or is_empty(dataset, "RescaleIntercept"):
        return
    slope, intercept = rescale_of(dataset)
    if (slope, intercept) != (1, 0) and not np.array_equal(stored * slope + intercept, hu):
        reason = "a look-up table and a rescale that give different HU: which is right is not said"
        raise Unreadable(reason, "RescaleIntercept", intercept)


def _from_floats(dataset: Dataset, kind: str) -> tuple[str, ...]:
    shape = int(dataset.Rows), int(dataset.Columns)
    values = np.frombuffer(dataset[kind].value, FLOATS[kind])
    if len(values) != math.prod(shape):
        raise Unreadable("expected one frame of Rows x Columns", kind, len(values))
    values = values.reshape(shape).astype(np.float64)
    slope, intercept = (
        default if is_empty(dataset, name) else float(numbers(dataset, name, 1)[0])
        for name, default in (("RescaleSlope", 1.0), ("RescaleIntercept", 0.0))
    )
    padding = _within(values, [dataset.get(name) for name in FLOAT_PADDING[kind]])
    padding |= ~np.isfinite(values)
    hu = np.where(padding, 0, values * slope + intercept)
    step = _step_of(hu, kind)
    _set_pixels(dataset, hu, padding, slope=step)
    for name in (kind, *FLOAT_PADDING[kind]):
        dataset.pop(name, None)
    return (FROM_FLOATS.format(step),)


def _step_of(hu: NDArray[np.float64], kind: str) -> float:
    """HU of a stored unit: 1 for whole HU, else a power of two that exact numbers can hold."""
    farthest = float(np.abs(hu).max())
    if farthest > HIGHEST:
        raise Unreadable("beyond any CT number, and not declared as padding", kind, farthest)
    if (hu == np.rint(hu)).all():
        return 1.0
    return max(FLOAT_STEP_HU, 2.0 ** math.ceil(math.log2(farthest / HIGHEST)))


def _within(values: NDArray, ends: list[float | None]) -> NDArray[np.bool_]:
    """Where values are padding: a value, or the range from it to its limit (C.7.5.1.1.2)."""
    if ends[0] is None:
        return np.zeros(values.shape, dtype=bool)
    known = [end for end in ends if end is not None]
    return (values >= min(known)) & (values <= max(known))


def _set_pixels(
    dataset: Dataset, hu: NDArray[np.float64], padding: NDArray[np.bool_], *, slope: float
) -> None:
    for name in CHANGED:
        dataset.pop(name, None)
    stored = np.where(padding, PADDING, np.rint(hu / slope)).astype("<i2")
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 16, 16, 15
    dataset.PixelRepresentation = 1
    dataset.RescaleSlope, dataset.RescaleIntercept = f"{slope:g}", "0"
    dataset.RescaleType = "HU"
    if padding.any():
        dataset.add_new("PixelPaddingValue", "SS", PADDING)
    dataset.add_new("PixelData", "OW", stored.tobytes())
    if dataset.file_meta.TransferSyntaxUID.is_encapsulated:
        dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
