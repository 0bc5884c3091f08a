"""Stored pixels and the HU that they mean, from the standard's words alone.

PS3.5 8.1.1 (cells and unused bits), PS3.3 C.7.5.1.1.2 (padding), C.11.1.1.2 (rescale).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from helpers.odd_series.encoding import Element, number

#: What the reader shows where nothing was measured.
AIR_HU = -1000.0
#: HU of what no CT measures: a constant below it, in all corners, is padding without a word.
LOWEST_HU = -1024


@dataclass(frozen=True)
class Coding:
    """How values are stored. rescale: slope and intercept as they are written. top: the value
    lies in the cell's upper bits. unused: what signed values have above their sign, "sign" or
    "zero"."""

    bits: int = 16
    signed: bool = True
    rescale: tuple[str, str] = ("1", "-1024")
    top: bool = False
    unused: str = "sign"

    @property
    def low(self) -> int:
        return -(1 << self.bits - 1) if self.signed else 0

    @property
    def high(self) -> int:
        return (1 << self.bits - self.signed) - 1

    @property
    def dtype(self) -> np.dtype:
        return np.dtype("<i2" if self.signed else "<u2")

    def hu(self, stored: NDArray | int) -> NDArray:
        """float64 HU of stored values: slope times value plus intercept."""
        slope, intercept = map(float, self.rescale)
        return np.asarray(stored, np.float64) * slope + intercept


@dataclass(frozen=True)
class Padding:
    """Where nothing was measured. kind: "none"; "declared", a circle's outside; "range", the same
    in several values; "idle", a declared value that no pixel has; "silent", a value below any CT
    number that no attribute names. value counts from the lowest stored value up, for a negative
    slope from the highest down. other_sign: PixelPaddingValue in the VR of the other sign."""

    kind: str = "none"
    value: int = 0
    other_sign: bool = False


@dataclass(frozen=True)
class Content:
    """What the image shows. noisy_air: otherwise one value fills all air. deep: some measured
    pixels lie below LOWEST_HU, as noise does. overlay_bits: unused bits that hold a drawing."""

    seed: int = 0
    noisy_air: bool = True
    deep: bool = False
    overlay_bits: tuple[int, ...] = ()
    drawing: str = "scattered"


@dataclass(frozen=True)
class SlicePixels:
    """One slice: cells as the file has them, and what a reader must find [rows, columns]."""

    cells: NDArray
    stored: NDArray
    image_hu: NDArray[np.float32]
    valid: NDArray[np.bool_]


def slice_pixels(
    coding: Coding, padding: Padding, content: Content, shape: tuple[int, int], index: int
) -> SlicePixels:
    """Slice `index` of a phantom: a body in air, within a circle that padding surrounds."""
    generator = np.random.default_rng((content.seed, index))
    measured_hu = _phantom_hu(content, shape, generator)
    slope, intercept = map(float, coding.rescale)
    stored = np.clip(np.rint((measured_hu - intercept) / slope), coding.low, coding.high)
    low, high = padding_values(coding, padding)
    taken = np.zeros(shape, bool)
    if padding.kind != "none":
        stored = _avoiding(stored, low, high, coding)
        if padding.kind != "idle":
            taken = _outside_circle(shape)
            stored[taken] = generator.integers(low, high + 1, int(taken.sum()))
    stored = stored.astype(coding.dtype)
    image_hu = coding.hu(stored).astype(np.float32)
    image_hu[taken] = AIR_HU
    return SlicePixels(_cells(stored, coding, content, generator), stored, image_hu, ~taken)


def padding_values(coding: Coding, padding: Padding) -> tuple[int, int]:
    """The lowest and the highest padding value; one value but for a range."""
    at_low_end = float(coding.rescale[0]) > 0
    first = coding.low + padding.value if at_low_end else coding.high - padding.value
    width = 5 if padding.kind == "range" else 0
    return (first, first + width) if at_low_end else (first - width, first)


def is_possible(coding: Coding, padding: Padding) -> bool:
    """Whether the padding lies below what is measured, and silent padding below any CT number."""
    if padding.kind == "none":
        return True
    highest_hu = max(coding.hu(value) for value in padding_values(coding, padding))
    return highest_hu < (LOWEST_HU if padding.kind == "silent" else AIR_HU - 1)


def padding_elements(coding: Coding, padding: Padding) -> list[Element]:
    """PixelPaddingValue and PixelPaddingRangeLimit, in the VR of either sign."""
    if padding.kind in ("none", "silent"):
        return []
    signed = coding.signed != padding.other_sign
    found = []
    names = ("PixelPaddingValue", "PixelPaddingRangeLimit")
    for name, value in zip(names, padding_values(coding, padding), strict=True):
        if name == "PixelPaddingRangeLimit" and padding.kind != "range":
            continue
        bits = value % 65536
        found.append(
            number(name, bits - 65536 if signed and bits >= 32768 else bits, vr="SS")
            if signed
            else number(name, bits, vr="US")
        )
    return found


def _phantom_hu(
    content: Content, shape: tuple[int, int], generator: np.random.Generator
) -> NDArray:
    radius = _radius(shape)
    air = np.full(shape, AIR_HU)
    if content.noisy_air:
        air += generator.integers(0, 30, shape)
    image_hu = np.where(radius < 0.7, generator.integers(-90, 120, shape), air)
    image_hu = np.where(radius < 0.2, generator.integers(300, 1000, shape), image_hu)
    if content.deep:
        image_hu[shape[0] // 2, :3] = generator.integers(-1400, -1030, 3)
    return image_hu


def _radius(shape: tuple[int, int]) -> NDArray:
    """Distance from the centre, 1 at the middle of the edges."""
    rows, columns = (np.abs(np.arange(n) - (n - 1) / 2) / (n / 2) for n in shape)
    return np.hypot(rows[:, None], columns[None, :])


def _outside_circle(shape: tuple[int, int]) -> NDArray[np.bool_]:
    return _radius(shape) > 1.05


def _avoiding(stored: NDArray, low: int, high: int, coding: Coding) -> NDArray:
    """Measured values that would read as padding, moved to the next value that does not."""
    inside = (stored >= low) & (stored <= high)
    return np.where(inside, high + 1 if float(coding.rescale[0]) > 0 else low - 1, stored)


def _cells(
    stored: NDArray, coding: Coding, content: Content, generator: np.random.Generator
) -> NDArray:
    """The 16-bit cells: values in their bits, and what the other bits hold."""
    cells = stored.astype(np.int32) & 0xFFFF
    mask = (1 << coding.bits) - 1
    if coding.top:
        cells = (cells & mask) << (16 - coding.bits)
    elif coding.unused == "zero":
        cells = cells & mask
    for bit in content.overlay_bits:
        drawn = drawing(content, stored.shape)
        cells = np.where(drawn, (cells & ~(1 << bit)) | 1 << bit, cells & ~(1 << bit))
    return cells.astype("<u2")


def drawing(content: Content, shape: tuple[int, int]) -> NDArray[np.bool_]:
    """The bitmap of an overlay [rows, columns]: a dot, a line or scattered dots."""
    drawn = np.zeros(shape, bool)
    if content.drawing == "dot":
        drawn[1, shape[1] // 2] = True
    elif content.drawing == "line":
        drawn[0, :] = True
    elif content.drawing == "scattered":
        drawn = np.random.default_rng(content.seed).random(shape) < 0.3
    return drawn
