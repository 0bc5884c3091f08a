"""The series below some folders, each with what its header says of where it comes from."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydicom.dataset import Dataset

from pipeline.core.refusals import Refusal, Unreadable
from pipeline.dicom.derived.provenance import (
    ImageKey,
    is_difference,
    own_equipment,
    references,
)
from pipeline.dicom.read.files import read_dataset
from pipeline.dicom.read.headers import DESCRIPTIVE_KEYWORDS
from pipeline.dicom.read.ingest_options import IngestOptions
from pipeline.dicom.read.series import Series, find_series

ORIGINAL, DENOISED, LOW_DOSE, DIFFERENCE = "original", "denoised", "low_dose", "difference"
#: Files in which `ldct run` and `ldct apply` wrote where they read from.
REQUEST, SOURCE = "request.json", "source.json"
SIMULATED = "SIMULATED "
#: Lost slices are told as a warning here: a reader must see what there is.
LENIENT = IngestOptions(gaps="slices")


@dataclass(frozen=True)
class IndexedSeries:
    """A series with the whole header of its first slice, which says what it was made from."""

    series: Series
    header: Dataset

    @property
    def kind(self) -> str:
        if is_difference(self.header):
            return DIFFERENCE
        if not own_equipment(self.header):
            return ORIGINAL
        told = str(self.header.get("SeriesDescription") or "")
        return LOW_DOSE if told.startswith(SIMULATED) else DENOISED


def found_in(roots: list[Path]) -> tuple[list[IndexedSeries], list[tuple[Path, Refusal]]]:
    """Every series below the roots, and every file that is none, with the root it lies below."""
    found: list[IndexedSeries] = []
    refusals: list[tuple[Path, Refusal]] = []
    for root in roots:
        discovery = find_series(root, intake=LENIENT)
        refusals += [(root, refusal) for refusal in discovery.refusals]
        for series in discovery.series:
            try:
                found.append(IndexedSeries(series, _whole_header(series)))
            except Unreadable as fault:
                refusals.append((root, fault.refusal(series.instances[0].path)))
    return found, refusals


def _whole_header(series: Series) -> Dataset:
    first = series.instances[0]
    if first.frame is not None:
        return first.load()
    return read_dataset(first.path, stop_before_pixels=True)


def recorded_sources(root: Path) -> list[Path]:
    """Where the originals of this folder were read from, if the command wrote it down."""
    sources = []
    for name in (REQUEST, SOURCE):
        try:
            recorded = json.loads((root / name).read_text(encoding="utf-8"))
            sources.append(Path(recorded["data"]))
        except (OSError, ValueError, KeyError, TypeError):
            continue
    return [source for source in sources if source.exists()]


def source_of(
    found: IndexedSeries, by_image: dict[ImageKey, IndexedSeries]
) -> IndexedSeries | None:
    if not own_equipment(found.header):
        return None
    named = (by_image.get(image) for image in references(found.header))
    return next((each for each in named if each is not None), None)


def model_of(header: Dataset) -> dict[str, str]:
    """Which model made a derived series, as the series itself says."""
    items = own_equipment(header)
    if not items:
        return {}
    versions = items[-1].get("SoftwareVersions") or []
    return {
        "name": str(items[-1].get("ManufacturerModelName") or ""),
        "version": str(versions[-1] if versions else ""),
        "told": str(header.get("DerivationDescription") or ""),
    }


def facts_of(header: Dataset) -> dict[str, Any]:
    """What is known of a series without identity."""
    found = {name: header.get(name) for name in DESCRIPTIVE_KEYWORDS}
    return {
        name: str(value) if isinstance(value, str | int | float) else "\\".join(map(str, value))
        for name, value in found.items()
        if value not in (None, "")
    }
