"""Which of a slice's pixels are no measurement: padding, declared or not, what is drawn over the
image, and bits beyond BitsStored.

PS3.3 C.7.5.1.1.2 (padding), C.9.2 (overlays in unused bits), C.7.6.1 (annotation drawn into the
pixels); PS3.5 8.1.1 (unused bits). What no attribute declares is known by pipeline.core.padding.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from pydicom.dataset import Dataset

from pipeline.core.padding import SOLID_PIXELS, blurred_padding
from pipeline.core.units import EXTENDED_CT_HU, LOWEST_CT_HU
from pipeline.dicom.read.raw_elements import is_overlay
from pipeline.dicom.read.stored_pixels import Coding, StoredPixels

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


def declared_padding(header: Dataset, coding: Coding) -> tuple[tuple[int, int], ...]:
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


def without_unmeasured(
    pixels: StoredPixels, header: Dataset, unused_below: int, *, lossy: bool
) -> StoredPixels:
    """The slice with a mask of what was not measured, and warnings of what was found.

    unused_below: the unused bits below the value, which `pixels` no longer has. lossy: whether
    it may have been compressed with loss, which blurs padding.
    """
    if pixels.coding.bits < pixels.coding.allocated:
        overlays = _overlay_bits(header, pixels.coding) >> unused_below
        pixels = _without_unused_bits(_without_overlays(pixels, overlays))
    for corner in _corners_below_any_ct_number(pixels):
        pixels = _with_padding(pixels, corner)
    pixels = _without_drawn(pixels)
    return _without_blurred_padding(pixels) if lossy else pixels


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
