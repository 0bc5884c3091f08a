"""Stored pixel values and the HU that they mean, one slice at a time.

A pixel's container holds BitsAllocated bits, of which BitsStored are its value; slope and
intercept turn the value into HU, and some values mean "nothing was measured" (padding). PS3.5
section 8.1.1, PS3.3 C.7.6.3.1, C.7.5.1.1.2 (padding), C.11.1.1.2 (rescale).
"""

from __future__ import annotations

import functools
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.pixels import pixel_array
from scipy import ndimage

from pipeline.core.padding import SOLID_PIXELS, blurred_padding
from pipeline.core.refusals import Unreadable
from pipeline.core.units import AIR_HU, EXTENDED_CT_HU, LOWEST_CT_HU
from pipeline.dicom.read.codestream import require_matching_size
from pipeline.dicom.read.files import opened, size_of
from pipeline.dicom.read.headers import Instance, may_be_lossy
from pipeline.dicom.read.raw_elements import is_overlay
from pipeline.dicom.read.slice_requirements import numbers

#: Element of (60xx,0102), Overlay Bit Position.
OVERLAY_BIT_POSITION = 0x0102
UNUSED_BITS = "bits beyond BitsStored hold something else (overlay or garbage) and were left out"

DRAWN = (
    f"pixels beyond {EXTENDED_CT_HU[0]:g} to {EXTENDED_CT_HU[1]:g} HU, which are no CT numbers but "
    "drawn, or a fill: kept as they are, and not measured"
)
#: More of a slice is not drawn: its rescale is no CT's.
MAX_DRAWN_SHARE = 0.5
LOSSY_PADDING = "padding that was compressed with loss, known by its place and its range"

NO_DECODER = (
    "no decoder for this transfer syntax: neither GDCM, pylibjpeg-openjpeg nor pyjpegls has one; "
    "have the archive send it uncompressed (of JPEG with 12 bits and loss, `pip install "
    "pylibjpeg-libjpeg` has one, under the GPL-3.0)"
)


@dataclass(frozen=True)
class Coding:
    """How to read a slice's containers.

    allocated, bits: BitsAllocated and BitsStored. padding: inclusive (low, high) ranges of
    container values where nothing was measured.
    """

    allocated: int
    bits: int
    signed: bool
    slope: float
    intercept: float
    padding: tuple[tuple[int, int], ...] = ()

    @property
    def dtype(self) -> np.dtype:
        """The containers' little-endian integer type."""
        return np.dtype(f"<{'i' if self.signed else 'u'}{self.allocated // 8}")

    @property
    def is_whole(self) -> bool:
        """HU, and what leads to them, are whole numbers that float32 holds exactly."""
        whole = self.slope.is_integer() and self.intercept.is_integer()
        return whole and abs(self.slope) * 2**self.allocated + abs(self.intercept) <= 2**24


@dataclass(frozen=True)
class StoredPixels:
    """One slice as it is stored: containers [rows, columns], and how to read them.

    A value in a container's upper bits (HighBit) has been moved down. blurred, drawn: padding
    [rows, columns] that is of no value of its own any more, and pixels that were drawn over; None
    for none.
    """

    containers: NDArray
    coding: Coding
    warnings: tuple[str, ...] = ()
    blurred: NDArray[np.bool_] | None = None
    drawn: NDArray[np.bool_] | None = None

    @property
    def slope(self) -> float:
        """RescaleSlope: HU per stored unit."""
        return self.coding.slope

    @property
    def intercept(self) -> float:
        """RescaleIntercept: HU of the stored value 0."""
        return self.coding.intercept

    @functools.cached_property
    def value(self) -> NDArray:
        """The BitsStored bits of each container, with their sign."""
        unused = self.coding.allocated - self.coding.bits
        return (self.containers << unused) >> unused if unused else self.containers

    @functools.cached_property
    def padded(self) -> NDArray[np.bool_]:
        """Where nothing was measured: container or value is padding."""
        padded = self.is_padding(self.containers)
        if self.value is not self.containers:
            padded |= self.is_padding(self.value)
        for place in (self.blurred, self.drawn):
            padded = padded if place is None else padded | place
        return padded

    @property
    def valid(self) -> NDArray[np.bool_]:
        """Where something was measured [rows, columns]."""
        return ~self.padded

    @property
    def stored(self) -> NDArray:
        """Stored values; in padding, the container's own value."""
        return np.where(self.padded, self.containers, self.value)

    @property
    def image_hu(self) -> NDArray[np.float32]:
        """HU [rows, columns], with air in padding, and the nearest HU in what was drawn over."""
        image_hu, valid = np.empty(self.value.shape, np.float32), np.empty(self.value.shape, bool)
        self.fill(image_hu, valid)
        return image_hu

    def fill(self, image_hu: NDArray[np.float32], valid: NDArray[np.bool_]) -> None:
        """Write HU, and the mask of measured pixels, into arrays of the slice's shape."""
        number = np.float32 if self.coding.is_whole else np.float64
        scaled = self.value * number(self.slope)
        np.add(scaled, number(self.intercept), out=image_hu, casting="same_kind")
        image_hu[self.padded] = AIR_HU
        if self.drawn is not None and not self.drawn.all():
            nearest = ndimage.distance_transform_edt(
                self.drawn, return_distances=False, return_indices=True
            )
            image_hu[self.drawn] = image_hu[tuple(nearest[:, self.drawn])]
        np.logical_not(self.padded, out=valid)

    def is_padding(self, values: NDArray) -> NDArray[np.bool_]:
        """Which of these stored values are read as padding."""
        found = np.zeros(values.shape, dtype=bool)
        for low, high in self.coding.padding:
            found |= values == low if low == high else (values >= low) & (values <= high)
        return found


def read_slice(instance: Instance) -> StoredPixels:
    """A slice's pixels; raises Unreadable where they are missing, short or undecodable.

    Plain pixels are read from where the header's scan found them, without parsing it again.
    """
    header, span = instance.header, instance.pixels
    expected = header.Rows * header.Columns * header.BitsAllocated // 8
    if span is None:
        return read_pixels(instance.load())
    if span.offset + span.length > size_of(instance.path):
        raise Unreadable("the file ends before its pixels do", "PixelData", span.length)
    if span.length not in (expected, expected + expected % 2):
        return read_pixels(instance.load())
    with opened(instance.path) as stream:
        stream.seek(span.offset)
        content = stream.read(expected)
    coding = coding_of(header)
    containers = np.frombuffer(content, coding.dtype).reshape(header.Rows, header.Columns)
    return _interpreted(header, coding, containers)


def read_pixels(dataset: Dataset) -> StoredPixels:
    """Decode one slice; raises Unreadable for pixels that are missing, short or undecodable."""
    if "PixelData" not in dataset:
        raise Unreadable("no pixel data", "PixelData")
    coding, syntax = coding_of(dataset), dataset.file_meta.TransferSyntaxUID
    try:
        if syntax.is_encapsulated:
            require_matching_size(dataset)
            containers = pixel_array(dataset)
        else:
            containers = pixel_array(dataset, correct_unused_bits=False)
    except Unreadable:
        raise
    except NotImplementedError as error:
        raise Unreadable(NO_DECODER, "PixelData", syntax.name) from error
    except Exception as error:  # decoders raise many kinds on damaged streams
        reason = " ".join(str(error).split())
        raise Unreadable(f"pixels cannot be decoded: {reason}", "PixelData", syntax.name) from error
    if containers.shape != (dataset.Rows, dataset.Columns):
        raise Unreadable("expected one grey frame of Rows x Columns", "PixelData", containers.shape)
    return _interpreted(dataset, coding, containers.astype(coding.dtype, copy=False))


def coding_of(header: Dataset) -> Coding:
    """How the header says to read containers; raises Unreadable for a rescale without an inverse
    and for values that are no numbers."""
    slope, intercept = (
        float(numbers(header, name, 1)[0]) for name in ("RescaleSlope", "RescaleIntercept")
    )
    if slope == 0:
        raise Unreadable("the rescale is not invertible", "RescaleSlope", slope)
    signed = header.PixelRepresentation == 1
    coding = Coding(int(header.BitsAllocated), int(header.BitsStored), signed, slope, intercept)
    return replace(coding, padding=_declared_padding(header, coding))


def _declared_padding(header: Dataset, coding: Coding) -> tuple[tuple[int, int], ...]:
    """PixelPaddingValue, or the range to PixelPaddingRangeLimit, in the pixels' own sign.

    Their own VR often has the other sign: 63536 means -2000 in signed data.
    """
    found = [header.get(name) for name in ("PixelPaddingValue", "PixelPaddingRangeLimit")]
    if found[0] is None:
        return ()
    limit = 1 << coding.allocated
    ends = [int(value) % limit for value in found if value is not None]
    if coding.signed:
        ends = [end - limit if end >= limit // 2 else end for end in ends]
    return ((min(ends), max(ends)),)


def _interpreted(header: Dataset, coding: Coding, containers: NDArray) -> StoredPixels:
    if containers.min() == containers.max():
        raise Unreadable("every pixel has the same value: a blank frame", "PixelData")
    high_bit = header.get("HighBit")
    unused_below = (coding.bits - 1 if high_bit is None else high_bit) + 1 - coding.bits
    if not 0 <= unused_below <= coding.allocated - coding.bits:
        raise Unreadable("beyond the bits allocated and stored", "HighBit", header.HighBit)
    pixels = StoredPixels(containers >> unused_below if unused_below else containers, coding)
    if pixels.coding.bits < pixels.coding.allocated:
        overlays = _overlay_bits(header, coding) >> unused_below
        pixels = _without_unused_bits(_without_overlays(pixels, overlays))
    for corner in _corners_below_any_ct_number(pixels):
        pixels = _with_padding(pixels, corner)
    pixels = _without_drawn(pixels)
    return _without_blurred_padding(pixels) if may_be_lossy(header) else pixels


def _with_padding(pixels: StoredPixels, value: int) -> StoredPixels:
    padding = (*pixels.coding.padding, (value, value))
    return replace(pixels, coding=replace(pixels.coding, padding=padding))


def _overlay_bits(header: Dataset, coding: Coding) -> int:
    """The container's bits that hold overlays, as editions before 2004 allowed (PS3.3 C.9.2)."""
    positions = [
        header[tag].value
        for tag in header.keys()  # noqa: SIM118  (of elements, not of a mapping)
        if is_overlay(tag) and tag & 0xFFFF == OVERLAY_BIT_POSITION
    ]
    unused = range(coding.bits, coding.allocated)  # 0 for an overlay with data of its own
    return sum({1 << position for position in positions if position in unused})


def _without_overlays(pixels: StoredPixels, overlays: int) -> StoredPixels:
    """The containers as they would be without these bits, in which overlays are drawn.

    A container with other bits beside them, neither zeros nor its sign, is left as it is: a fill
    is restored bit for bit.
    """
    rest = np.uint16((1 << pixels.coding.allocated) - (1 << pixels.coding.bits) & ~overlays)
    containers, value = pixels.containers.astype(np.uint16), pixels.value.astype(np.uint16)
    is_value = (containers & rest == 0) | ((containers ^ value) & rest == 0)
    drawn = is_value & (containers != value)
    if not overlays or not drawn.any():
        return pixels
    return StoredPixels(
        np.where(drawn, pixels.value, pixels.containers),
        pixels.coding,
        (*pixels.warnings, UNUSED_BITS),
    )


def _without_unused_bits(pixels: StoredPixels) -> StoredPixels:
    """What lies outside BitsStored: one single value is a fill, many are foreign bits.

    A fill is masked and restored on export; foreign bits, such as an overlay's that no attribute
    declares, are left out with a warning. Zeros are neither: some writers leave a negative value
    without its sign there (PS3.5 8.1.1 gives unused bits no meaning).
    """
    has_bits = (pixels.containers < 0) | (pixels.containers >> pixels.coding.bits > 0)
    foreign = (pixels.containers != pixels.value) & pixels.valid & has_bits
    values = np.unique(pixels.containers[foreign])
    if len(values) == 0:
        return pixels
    if len(values) == 1:
        return _with_padding(pixels, int(values[0]))
    warnings = dict.fromkeys((*pixels.warnings, UNUSED_BITS))
    return replace(pixels, warnings=tuple(warnings))


def _corners_below_any_ct_number(pixels: StoredPixels) -> list[int]:
    """Padding that no attribute declares: scanners fill what lies outside their circle.

    A value that fills a square at a corner, or all four corners, as containers hold it.
    """
    near = slice(None, SOLID_PIXELS), slice(-SOLID_PIXELS, None)
    squares = [pixels.containers[rows, columns] for rows in near for columns in near]
    corners = pixels.containers[[0, 0, -1, -1], [0, -1, 0, -1]]
    alike = bool((corners == corners[0]).all())
    filled = {
        int(corner)
        for corner, square in zip(corners, squares, strict=True)
        if alike or (square == corner).all()
    }
    undeclared = np.array(sorted(filled), pixels.containers.dtype)
    undeclared = undeclared[~pixels.is_padding(undeclared)]
    values = StoredPixels(undeclared, pixels.coding).value
    hu = values * np.float64(pixels.slope) + pixels.intercept
    return [int(one) for one in undeclared[hu < LOWEST_CT_HU]]


def _without_drawn(pixels: StoredPixels) -> StoredPixels:
    """What no CT scale reaches is drawn into the pixels (PS3.3 C.7.6.1, Burned In Annotation), or a
    fill: masked, and restored on export. What is beside it sees no edge there."""
    ends = (np.array(EXTENDED_CT_HU) - pixels.intercept) / pixels.slope
    low, high = float(ends.min()), float(ends.max())
    if pixels.value.min() >= low and pixels.value.max() <= high:
        return pixels
    drawn = ((pixels.value < low) | (pixels.value > high)) & pixels.valid
    if not 0 < drawn.mean() < MAX_DRAWN_SHARE:
        return pixels
    return replace(pixels, drawn=drawn, warnings=(*pixels.warnings, DRAWN))


def _without_blurred_padding(pixels: StoredPixels) -> StoredPixels:
    """Loss changes the value of padding, and makes rings at its rim (pipeline.core.padding)."""
    slope, intercept = np.float32(pixels.slope), np.float32(pixels.intercept)
    blurred = blurred_padding(pixels.value * slope + intercept)
    if not (blurred & pixels.valid).any():
        return pixels
    return replace(pixels, blurred=blurred, warnings=(*pixels.warnings, LOSSY_PADDING))
