"""From a checked series to a Volume in HU: exact, slice by slice."""

from __future__ import annotations

import functools
import math
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.core.hu_scale import ValueCounts
from pipeline.core.ordered_pool import map_in_order
from pipeline.core.pseudonyms import patient_pseudonym, pseudonym
from pipeline.core.refusals import Disposition, Refusal, SeriesRefusedError, Unreadable
from pipeline.core.volume import Volume
from pipeline.dicom.read.anatomy import anatomy_of
from pipeline.dicom.read.grouping import group_key
from pipeline.dicom.read.header_tags import DESCRIPTIVE_KEYWORDS
from pipeline.dicom.read.headers import Instance
from pipeline.dicom.read.identifiers import patient_of
from pipeline.dicom.read.pixels import try_slice
from pipeline.dicom.read.raw_elements import RawDataset
from pipeline.dicom.read.series import Series
from pipeline.dicom.read.slice_requirements import numbers, optional_number
from pipeline.dicom.read.stored_pixels import StoredPixels
from pipeline.dicom.read.unmeasured_pixels import DRAWN

#: Threads that decode: more of them than cores gain nothing.
READER_THREADS = min(4, os.cpu_count() or 1)
#: Slices decoded ahead of their use: a model's next batch, while the last one is computed.
READ_AHEAD_SLICES = 8

#: Why a slice that was drawn over is not trained on.
NO_TRAINING = f"left out of the training: {DRAWN}"


@dataclass(frozen=True)
class Reading:
    """A series as a volume. `series` holds the slices in it, `refusals` the ones left out; drawn:
    the numbers of slices that were drawn over."""

    volume: Volume
    series: Series
    refusals: list[Refusal]
    drawn: tuple[int, ...] = ()

    def of_slices(self, numbers: NDArray[np.int64]) -> Reading:
        """The slices with these indices alone; the series' warnings then include any gaps."""
        if len(numbers) == len(self.series.instances):
            return self
        fewer = self.series.keeping(tuple(self.series.instances[n] for n in numbers))
        warnings = dict.fromkeys((*self.series.warnings, *fewer.warnings))
        series = replace(fewer, warnings=tuple(warnings))
        volume = self.volume
        return replace(
            self,
            series=series,
            volume=_volume(series, volume.image_hu[numbers], volume.valid[numbers]),
            drawn=tuple(place for place, n in enumerate(numbers) if n in self.drawn),
        )

    def without_drawn(self) -> Reading:
        """The slices that were not drawn over, which alone are fit for training; the others are
        refused. Raises SeriesRefusedError where none is left."""
        if not self.drawn:
            return self
        drawn = [
            Refusal(
                self.series.instances[n].path, Disposition.QUARANTINED, NO_TRAINING, "PixelData"
            )
            for n in self.drawn
        ]
        refusals = [*self.refusals, *drawn]
        left = [n for n in range(len(self.series.instances)) if n not in self.drawn]
        if not left:
            raise SeriesRefusedError(refusals)
        return replace(self.of_slices(np.array(left)), refusals=refusals)


def read_volume(series: Series) -> Reading:
    """Decode every slice; a damaged one is refused and the others go on.

    Raises SeriesRefusedError where no slice is left, or what is left does not make a series.
    """
    shape = (len(series.instances), series.header.Rows, series.header.Columns)
    image_hu, valid = np.empty(shape, np.float32), np.empty(shape, bool)
    read_one = functools.partial(_read_into, image_hu, valid)
    with ThreadPoolExecutor(READER_THREADS) as pool:
        outcomes = list(pool.map(read_one, range(len(series.instances)), series.instances))
    refusals = [outcome for outcome in outcomes if isinstance(outcome, Refusal)]
    read = {n: found for n, found in enumerate(outcomes) if not isinstance(found, Refusal)}
    if refusals:
        good = list(read)
        series = _remaining(series, [series.instances[n] for n in good], refusals)
        image_hu, valid = image_hu[good], valid[good]
    warnings = {warning for found in read.values() for warning in found}
    series = replace(series, warnings=(*series.warnings, *sorted(warnings)))
    drawn = tuple(place for place, found in enumerate(read.values()) if DRAWN in found)
    return Reading(_volume(series, image_hu, valid), series, refusals, drawn)


@dataclass(frozen=True)
class Slice:
    """One slice of a series, decoded: as it is stored, and in HU [rows, columns].

    generated: where a generative model filled in image_hu [rows, columns], in padding as well;
    None for nowhere. remark: a sentence for the header of what is derived from it.
    """

    instance: Instance
    pixels: StoredPixels
    image_hu: NDArray[np.float32]
    generated: NDArray[np.bool_] | None = None
    remark: str = ""

    @functools.cached_property
    def source(self) -> RawDataset:
        """The slice's whole data set, read from its file once; must not be changed."""
        return RawDataset(self.instance.load())


class SliceReader:
    """The slices that read_volume reads, one by one, at most READ_AHEAD_SLICES in memory.

    After the last one, `series` holds the slices that could be decoded, `refusals` the others,
    and `values` the HU of all.
    """

    def __init__(self, series: Series) -> None:
        self.series = series
        self.refusals: list[Refusal] = []
        self.values = ValueCounts()

    def slices(self) -> Iterator[Slice]:
        """Every slice that can be decoded, in order; a damaged one is refused.

        Raises SeriesRefusedError, at the end, where read_volume would.
        """
        kept: list[Instance] = []
        warnings: set[str] = set()
        for found in map_in_order(
            _decoded, self.series.instances, threads=READER_THREADS, max_ahead=READ_AHEAD_SLICES
        ):
            if isinstance(found, Refusal):
                self.refusals.append(found)
                continue
            kept.append(found.instance)
            warnings.update(found.pixels.warnings)
            self.values.add(found.image_hu, found.pixels.valid)
            yield found
        if self.refusals:
            self.series = _remaining(self.series, kept, self.refusals)
        self.series = replace(self.series, warnings=(*self.series.warnings, *sorted(warnings)))


def read_slices(series: Series, numbers: NDArray[np.int64]) -> Volume:
    """A volume of the slices with these indices, with no check for gaps.

    Raises SeriesRefusedError where none of them can be decoded.
    """
    return read_volume(
        replace(series, instances=tuple(series.instances[n] for n in numbers))
    ).volume


def geometry_volume(series: Series) -> Volume:
    """A volume of the series' shape and place from its headers alone; its voxels are 0 HU, not
    valid, and take no memory."""
    shape = (len(series.instances), series.header.Rows, series.header.Columns)
    return _volume(series, np.broadcast_to(np.float32(0), shape), np.broadcast_to(np.False_, shape))


def _volume(series: Series, image_hu: NDArray[np.float32], valid: NDArray[np.bool_]) -> Volume:
    return Volume(
        image_hu=image_hu,
        valid=valid,
        affine_lps=affine_lps(series),
        slice_origins_mm=np.stack([instance.origin_mm for instance in series.instances]),
        provenance=_provenance(series),
    )


def _read_into(
    image_hu: NDArray[np.float32], valid: NDArray[np.bool_], number: int, instance: Instance
) -> tuple[str, ...] | Refusal:
    """Fill slice `number`; its warnings, or its Refusal."""
    pixels = try_slice(instance)
    if isinstance(pixels, Refusal):
        return pixels
    pixels.fill(image_hu[number], valid[number])
    return pixels.warnings


def _decoded(instance: Instance) -> Slice | Refusal:
    pixels = try_slice(instance)
    return pixels if isinstance(pixels, Refusal) else Slice(instance, pixels, pixels.image_hu)


def _remaining(series: Series, kept: list[Instance], refusals: list[Refusal]) -> Series:
    if not kept:
        raise SeriesRefusedError(refusals)
    try:
        return series.keeping(tuple(kept))
    except Unreadable as fault:
        rest = [fault.refusal(instance.path) for instance in kept]
        raise SeriesRefusedError(refusals + rest) from fault


def affine_lps(series: Series) -> NDArray[np.float64]:
    """(column, row, slice) to LPS mm (PS3.3 C.7.6.2.1.1); sheared for a tilted gantry.

    With uneven spacing the slice axis is the mean step; Volume.slice_origins_mm is exact.
    """
    header = series.header
    cosines = numbers(header, "ImageOrientationPatient", 6)
    row_mm, column_mm = numbers(header, "PixelSpacing", 2)
    origins = [instance.origin_mm for instance in series.instances]
    if len(origins) > 1:
        step = (origins[-1] - origins[0]) / (len(origins) - 1)
    else:
        thickness_mm = optional_number(header, "SliceThickness") or 1.0
        step = np.cross(cosines[:3], cosines[3:]) * thickness_mm
    affine = np.eye(4)
    affine[:3, 0] = cosines[:3] * column_mm
    affine[:3, 1] = cosines[3:] * row_mm
    affine[:3, 2] = step
    affine[:3, 3] = origins[0]
    return affine


def patient_key(series: Series, key: bytes) -> str:
    """The patient's pseudonym on this installation."""
    return patient_pseudonym(key, *patient_of(series.header))


def series_key(series: Series, key: bytes) -> str:
    """The series' pseudonym: a keyed hash of its UIDs, its patient and what it was split by."""
    same = group_key(series.header)
    facts = (f"{name} {value}" for name, value in same.facts)
    return pseudonym(key, "s", *same.owner, *facts, series.exact_part)


def _provenance(series: Series) -> dict[str, Any]:
    facts = {name: _json_value(series.header.get(name)) for name in DESCRIPTIVE_KEYWORDS}
    return {
        "source": "DICOM",
        **{name: value for name, value in facts.items() if value not in (None, "")},
        "anatomy": anatomy_of(series),
        "warnings": list(series.warnings),
        "evenly_spaced": series.evenly_spaced,
    }


def _json_value(value: object) -> object:
    """A header's value as JSON can hold it."""
    if isinstance(value, (int, float)):
        return float(value) if math.isfinite(value) else str(value)
    if value is None or isinstance(value, str):
        return value
    return [str(part) for part in value] if hasattr(value, "__iter__") else str(value)
