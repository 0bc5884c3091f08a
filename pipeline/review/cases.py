"""What a folder holds to be reviewed: derived series, what they were made from, and stores.

A derived series is one case, together with the series that its header names as its source
(PS3.3 C.12.4): found below the folder itself, or in the sources given besides. Where only a
store has the original (`ldct run`), it is taken from there, by the key in report.json.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydicom.dataset import Dataset

from pipeline.dicom.derived.lineage import (
    ImageKey,
    is_difference,
    keys_of,
    own_equipment,
    references,
)
from pipeline.dicom.findings import Fate, Refusal, Unreadable
from pipeline.dicom.headers import DESCRIPTIVE
from pipeline.dicom.intake import Intake
from pipeline.dicom.read import patient_key, series_key
from pipeline.dicom.series import Series, find_series
from pipeline.dicom.sources import read_dataset
from pipeline.errors import NothingUsableError
from pipeline.review.planes import Planes, planes_of_series, planes_of_volume
from pipeline.store import INDEX, REAL, Store
from pipeline.volume import Volume

ORIGINAL, DENOISED, LOW_DOSE, FULL_DOSE, LABELS = (
    "original",
    "denoised",
    "low_dose",
    "full_dose",
    "labels",
)
REPORT, REQUEST = "report.json", "request.json"
SIMULATED = "SIMULATED "
#: Lost slices are told as a warning here: a reader must see what there is.
LENIENT = Intake(gaps="slices")


@dataclass(frozen=True)
class Shown:
    """One series on show: its planes, what is known of it without identity, and warnings."""

    planes: Planes
    facts: dict[str, Any]
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class Case:
    """What is looked at together. folder: of the series that is accepted or rejected."""

    cid: str
    patient: str
    shown: dict[str, Shown]
    model: dict[str, str] = field(default_factory=dict)
    folder: Path | None = None
    flags: tuple[str, ...] = ()


@dataclass(frozen=True)
class Collection:
    """All there is to review below `root`, and what could not be read, each told."""

    root: Path
    cases: dict[str, Case]
    refusals: list[dict[str, Any]]


@dataclass(frozen=True)
class _Found:
    """A series with the whole header of its first slice, which says what it was made from."""

    series: Series
    header: Dataset

    @property
    def kind(self) -> str:
        if is_difference(self.header):
            return "difference"
        if not own_equipment(self.header):
            return ORIGINAL
        told = str(self.header.get("SeriesDescription") or "")
        return LOW_DOSE if told.startswith(SIMULATED) else DENOISED


def collect(root: Path, sources: Iterable[Path] = (), *, key: bytes) -> Collection:
    """Every case below `root`. key: the installation's, for the pseudonyms.

    Raises NothingUsableError where there is nothing to look at.
    """
    if not root.is_dir():
        raise NothingUsableError(f"{root} is no folder: give one of `ldct apply` or `ldct run`")
    found, refusals = _found_in([root, *sources, *_recorded_source(root)])
    by_image = {image: each for each in found for image in keys_of(each.series)}
    shelf = _Shelf(_report(root), _store(root), key, {})
    cases = [shelf.case(each, by_image) for each in found if each.kind == DENOISED]
    if not cases:
        cases = [shelf.case(each, by_image) for each in found if each.kind != "difference"]
    if not cases:
        cases = shelf.stored_cases()
    if not cases:
        reasons = f": {refusals[0]['reason']}" if refusals else ""
        raise NothingUsableError(f"{root} holds no series to review{reasons}")
    return Collection(root, {case.cid: case for case in cases}, refusals)


def _found_in(roots: list[Path]) -> tuple[list[_Found], list[dict[str, Any]]]:
    found: list[_Found] = []
    refusals: list[dict[str, Any]] = []
    for root in roots:
        discovery = find_series(root, intake=LENIENT)
        refusals += [told for r in discovery.refusals if (told := _told(r, root))]
        for series in discovery.series:
            try:
                header = _whole_header(series)
            except Unreadable as fault:
                refusals.append(fault.refusal(series.instances[0].path).as_dict(root))
                continue
            found.append(_Found(series, header))
    return found, refusals


def _told(refusal: Refusal, root: Path) -> dict[str, Any] | None:
    return refusal.as_dict(root) if refusal.fate is Fate.QUARANTINED else None


def _whole_header(series: Series) -> Dataset:
    first = series.instances[0]
    if first.frame is not None:
        return first.load()
    return read_dataset(first.path, stop_before_pixels=True)


def _recorded_source(root: Path) -> list[Path]:
    """Where the originals of this folder were read from, if the command wrote it down."""
    try:
        recorded = json.loads((root / REQUEST).read_text(encoding="utf-8"))
        source = Path(recorded["data"])
    except (OSError, ValueError, KeyError, TypeError):
        return []
    return [source] if source.exists() else []


def _report(root: Path) -> dict[str, Any]:
    try:
        return json.loads((root / REPORT).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}


def _store(root: Path) -> Store | None:
    for folder in (root, root / "store"):
        if (folder / INDEX).exists():
            return Store(folder)
    return None


@dataclass(frozen=True)
class _Shelf:
    """What cases are made of; each series is opened once, however many cases show it."""

    report: dict[str, Any]
    store: Store | None
    key: bytes
    opened: dict[str, Shown]

    def case(self, found: _Found, by_image: dict[ImageKey, _Found]) -> Case:
        series, name = found.series, series_key(found.series, self.key)
        folder = series.instances[0].path.parent
        row = self._row(folder)
        shown: dict[str, Shown] = {}
        source = _source_of(found, by_image)
        if source is not None:
            shown[ORIGINAL] = self._series(source)
            before = _source_of(source, by_image)
            if before is not None:
                shown[FULL_DOSE] = self._series(before)
        elif row.get("series"):
            shown |= self._stored(row["series"])
        is_original = found.kind == ORIGINAL
        shown[ORIGINAL if is_original else found.kind] = self._series(found)
        if not is_original and ORIGINAL not in shown:
            flags: tuple[str, ...] = ("the original was not found: name its folder with --source",)
        else:
            flags = _unlike(shown)
        return Case(
            cid=name,
            patient=patient_key(series, self.key),
            shown=_in_order(shown),
            model=_model(found.header),
            folder=None if is_original else folder,
            flags=(*flags, *_flags_of(row), *(source or found).series.warnings),
        )

    def stored_cases(self) -> list[Case]:
        if self.store is None:
            return []
        return [
            Case(
                cid=name,
                patient=record["patient"],
                shown=_in_order(self._stored(name)),
                flags=tuple(record["provenance"].get("warnings", ())),
            )
            for name, record in self.store.records().items()
        ]

    def _series(self, found: _Found) -> Shown:
        name = series_key(found.series, self.key)
        if name not in self.opened:
            self.opened[name] = Shown(
                planes_of_series(found.series), _facts(found.header), found.series.warnings
            )
        return self.opened[name]

    def _stored(self, name: str) -> dict[str, Shown]:
        """The original of a store, and its low-dose input if one is cached."""
        if self.store is None or name not in self.store.records():
            return {}
        volume = self.store.load(name)
        facts = {k: v for k, v in volume.provenance.items() if k in DESCRIPTIVE}
        warnings = tuple(volume.provenance.get("warnings", ()))
        shown = {ORIGINAL: Shown(planes_of_volume(volume), facts, warnings)}
        for path in sorted((self.store.path / "degraded").glob(f"{name}.*.npy")):
            real = path.name.split(".")[1] == REAL
            told = {**facts, "Dose": "a real low dose" if real else "simulated"}
            degraded = self.store.load_degraded(name, path.name.split(".")[1])
            volume = Volume(degraded, volume.valid, volume.affine_lps, volume.slice_origins_mm, {})
            shown[LOW_DOSE] = Shown(planes_of_volume(volume), told)
            break
        return shown

    def _row(self, folder: Path) -> dict[str, Any]:
        """What report.json says of a derived folder."""
        rows = self.report.get("exported") or []
        return next((r for r in rows if Path(r.get("folder", "")).name == folder.name), {})


def _in_order(shown: dict[str, Shown]) -> dict[str, Shown]:
    order = (ORIGINAL, DENOISED, LOW_DOSE, FULL_DOSE, LABELS)
    return {role: shown[role] for role in order if role in shown}


def _source_of(found: _Found, by_image: dict[ImageKey, _Found]) -> _Found | None:
    if not own_equipment(found.header):
        return None
    named = (by_image.get(image) for image in references(found.header))
    return next((each for each in named if each is not None), None)


def _unlike(shown: dict[str, Shown]) -> tuple[str, ...]:
    """Originals and derived images lie at the same places, or the reader is told."""
    if not {ORIGINAL, DENOISED} <= shown.keys():
        return ()
    one, other = (shown[role].planes.geometry for role in (ORIGINAL, DENOISED))
    if one.shape == other.shape and abs(one.slice_origins_mm - other.slice_origins_mm).max() < 0.01:
        return ()
    return ("original and denoised do not lie at the same places: linked by position only",)


def _flags_of(row: dict[str, Any]) -> list[str]:
    flags = []
    if clipped := row.get("clipped_pixels"):
        excess = row.get("largest_clipped_excess_hu", 0)
        flags.append(f"{clipped} pixels clipped on export, by {excess:g} HU at most")
    check = row.get("check") or {}
    if check.get("problems"):
        flags.append(f"{check['problems']} problems found by the check of derived series")
    return flags


def _model(header: Dataset) -> dict[str, str]:
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


def _facts(header: Dataset) -> dict[str, Any]:
    """What is known of a series without identity."""
    found = {name: header.get(name) for name in DESCRIPTIVE}
    return {
        name: str(value) if isinstance(value, str | int | float) else "\\".join(map(str, value))
        for name, value in found.items()
        if value not in (None, "")
    }
