"""Stored pixel values and the HU that they mean, one slice at a time.

A pixel's container holds BitsAllocated bits, of which BitsStored are its value; slope and
intercept turn the value into HU, and some values mean "nothing was measured" (padding). PS3.5
section 8.1.1, PS3.3 C.7.6.3.1, C.7.5.1.1.2 (padding), C.11.1.1.2 (rescale).
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from pipeline.core.units import AIR_HU


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
