"""A series as planes of 16-bit numbers, read on request, so that memory stays bounded.

Slices are read from their files. Planes across them need every slice: these are then kept in an
unnamed temporary file, which the operating system pages in and no other process can open.
"""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from pipeline.core.refusals import Unreadable
from pipeline.core.volume import Volume
from pipeline.dicom.read.pixels import coding_of, read_slice
from pipeline.dicom.read.series import Series
from pipeline.dicom.read.slice_requirements import optional_number
from pipeline.dicom.read.volume import READER_THREADS, geometry_volume
from pipeline.review.planes_geometry import ROWS, SLICES, Geometry

#: The value of pixels where nothing was measured, or that cannot be read.
PADDING = np.int16(-32768)
LIMIT = 32767
#: HU per unit where a series' HU are not integers: the range is then +-8191 HU.
FRACTION_HU = 0.25
#: Planes in one request: a cut along columns reads the whole volume, for one or for several.
CHUNK = 8

Plane = NDArray[np.int16]
#: A slice [rows, columns] by its number; raises Unreadable.
ReadSlice = Callable[[int], Plane]


@dataclass(frozen=True)
class Chunk:
    """Consecutive planes [planes, rows, columns], and why some cannot be shown, by number."""

    first: int
    planes: NDArray[np.int16]
    faults: dict[int, str]


class Planes:
    """The planes of a series.

    read: reads one slice. hu_step: HU = value x hu_step, except PADDING. labels: a label map, cut
    by the nearest voxel in place of interpolation. instance_numbers: Instance Number of each slice,
    None where it has none; empty where the series has no such numbers at all.
    """

    def __init__(
        self,
        geometry: Geometry,
        read: ReadSlice,
        *,
        hu_step: float,
        labels: bool = False,
        instance_numbers: tuple[int | None, ...] = (),
    ) -> None:
        self.geometry = geometry
        self.instance_numbers = instance_numbers
        self.hu_step = hu_step
        self.labels = labels
        self._read = read
        self._faults: dict[int, str] = {}
        self._filling = threading.Lock()

    def chunk(self, direction: str, number: int) -> Chunk:
        """Up to CHUNK planes from number x CHUNK on; raises IndexError where there are none."""
        first, count = number * CHUNK, self.geometry.count(direction)
        if not 0 <= first < count:
            raise IndexError(f"{direction} has {count} planes")
        numbers = range(first, min(first + CHUNK, count))
        if direction == SLICES:
            planes = self._slices(numbers)
            faults = {n: self._faults[n] for n in numbers if n in self._faults}
            return Chunk(first, planes, faults)
        return Chunk(first, self._across(direction, numbers), {})

    def slice_hu(self, number: int) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """One slice [rows, columns] in HU, and where it was measured; raises Unreadable."""
        values = self._read(number)
        return values.astype(np.float32) * np.float32(self.hu_step), values != PADDING

    def _slices(self, numbers: range) -> NDArray[np.int16]:
        if "_whole" in self.__dict__:
            return np.array(self._whole[numbers.start : numbers.stop])
        with ThreadPoolExecutor(READER_THREADS) as pool:
            return np.stack(list(pool.map(self._read_or_blank, numbers)))

    def _read_or_blank(self, number: int) -> Plane:
        try:
            return self._read(number)
        except Unreadable as fault:
            self._faults[number] = fault.reason
        except Exception as error:  # decoders raise many kinds on damaged streams
            self._faults[number] = f"cannot be read ({type(error).__name__})"
        return np.full(self.geometry.shape[1:], PADDING)

    @cached_property
    def _whole(self) -> NDArray[np.int16]:
        scratch = tempfile.TemporaryFile(prefix="ldct-review-")  # noqa: SIM115  (lives with the array)
        whole = np.memmap(scratch, np.int16, "w+", shape=self.geometry.shape)
        with ThreadPoolExecutor(READER_THREADS) as pool:
            for number, plane in enumerate(pool.map(self._read_or_blank, range(len(whole)))):
                whole[number] = plane
        return whole

    def _across(self, direction: str, numbers: range) -> NDArray[np.int16]:
        with self._filling:
            whole = self._whole
        return cut(whole, self.geometry, direction, numbers, nearest=self.labels)


def cut(
    whole: NDArray[np.int16], geometry: Geometry, direction: str, numbers: range, *, nearest: bool
) -> NDArray[np.int16]:
    """Planes across the slices, by their numbers in a direction: [planes, lines, width].

    whole: all slices. Interpolated linearly between pixels and between slices, or to the nearest
    for label maps; outside of a slice, and beside a pixel without measurement, PADDING.
    """
    along_rows = direction == ROWS
    stack = whole if along_rows else whole.transpose(0, 2, 1)
    shift_mm, across_mm = geometry.offsets_mm[:, 1], geometry.offsets_mm[:, 0]
    row_mm, column_mm = geometry.spacing_mm
    if not along_rows:
        shift_mm, across_mm, row_mm, column_mm = across_mm, shift_mm, column_mm, row_mm
    rows, columns = geometry.upright
    width = columns if along_rows else rows
    planes = np.empty((len(numbers), len(geometry.lines_mm), width), np.int16)
    lines = np.empty((len(numbers), len(whole), width), np.float32)
    for number in range(len(whole)):
        places = np.array(numbers) - shift_mm[number] / row_mm
        taken = _interpolated(stack[number], places, nearest=nearest)
        places = np.arange(width) - across_mm[number] / column_mm
        lines[:, number] = _interpolated_values(taken.T, places, nearest=nearest).T
    between = _places_between(geometry)
    turned, reversed_ = geometry.turned(direction)
    for number, plane in enumerate(lines):
        filled = _to_numbers(_interpolated_values(plane, between, nearest=nearest))
        planes[number] = filled[:: -1 if turned else 1, :: -1 if reversed_ else 1]
    return planes


def _places_between(geometry: Geometry) -> NDArray[np.float64]:
    """Where the lines of a plane across lie, counted in slices."""
    slices = np.arange(geometry.shape[0])
    return np.interp(geometry.lines_mm, geometry.offsets_mm[:, 2], slices)


def _interpolated(
    numbers: NDArray[np.int16], places: NDArray[np.float64], *, nearest: bool
) -> NDArray[np.float32]:
    """Lines at `places` along the first axis; only the lines that are needed are read."""
    first = max(0, int(np.floor(places.min())))
    last = min(len(numbers), int(np.ceil(places.max())) + 1)
    if first >= last:
        return np.full((len(places), numbers.shape[1]), np.nan, np.float32)
    return _interpolated_values(_to_values(numbers[first:last]), places - first, nearest=nearest)


def _interpolated_values(
    values: NDArray[np.float32], places: NDArray[np.float64], *, nearest: bool
) -> NDArray[np.float32]:
    """Linear along the first axis; NaN beside the first and the last, and beside a NaN."""
    close = np.rint(places)
    whole = nearest or bool(np.abs(places - close).max() < 1e-4)
    if whole:
        places = close
        if len(places) == len(values) and places[0] == 0 and places[-1] == len(values) - 1:
            return values
    below = np.floor(places).astype(int)
    share = (places - below).astype(np.float32)[:, None]
    inside = (below >= 0) & (places <= len(values) - 1)
    low = np.clip(below, 0, len(values) - 1)
    found = values[low]
    if not whole:
        high = np.clip(below + 1, 0, len(values) - 1)
        found = np.where(share > 0, found + share * (values[high] - found), found)
    found[~inside] = np.nan
    return found


def _to_values(numbers: NDArray[np.int16]) -> NDArray[np.float32]:
    values = numbers.astype(np.float32)
    values[numbers == PADDING] = np.nan
    return values


def _to_numbers(values: NDArray[np.float32]) -> NDArray[np.int16]:
    return np.where(np.isnan(values), np.float32(PADDING), np.rint(values)).astype(np.int16)


def planes_of_series(series: Series) -> Planes:
    """The planes of a DICOM series, in steps of 1 HU where all its HU are integers."""
    whole = all(coding_of(instance.header).is_whole for instance in series.instances)
    hu_step = 1.0 if whole else FRACTION_HU

    def read(number: int) -> Plane:
        pixels = read_slice(series.instances[number])
        return to_numbers(pixels.image_hu, pixels.valid, hu_step)

    numbers = (optional_number(each.header, "InstanceNumber") for each in series.instances)
    return Planes(
        Geometry.of(geometry_volume(series)),
        read,
        hu_step=hu_step,
        instance_numbers=tuple(None if number is None else int(number) for number in numbers),
    )


def planes_of_volume(volume: Volume, *, labels: bool = False) -> Planes:
    """The planes of a stored, memory-mapped volume, in steps of FRACTION_HU, or of a label map."""
    hu_step = 1.0 if labels else FRACTION_HU

    def read(number: int) -> Plane:
        return to_numbers(volume.image_hu[number], volume.valid[number], hu_step)

    return Planes(Geometry.of(volume), read, hu_step=hu_step, labels=labels)


def to_numbers(
    image_hu: NDArray[np.float32], valid: NDArray[np.bool_], hu_step: float
) -> NDArray[np.int16]:
    """HU as integers in units of hu_step, clipped at +-32767; PADDING where not `valid`."""
    numbers = np.rint(image_hu / np.float32(hu_step)).clip(-LIMIT, LIMIT).astype(np.int16)
    numbers[~valid] = PADDING
    return numbers
