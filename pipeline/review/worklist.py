"""What a folder holds to be reviewed: derived series, what they were made from, and stores.

A derived series is one case, together with the series that its header names as its source
(PS3.3 C.12.4): found below the folder itself, or in the sources given besides. Where only a
store has the original (`ldct run`), it is taken from there, by the key in report.json.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from pipeline.core.errors import NothingUsableError
from pipeline.core.refusals import Disposition, Unreadable
from pipeline.core.types import Json
from pipeline.core.volume import Volume
from pipeline.dicom.derived.parametric_map import FILE as PARAMETRIC_MAP
from pipeline.dicom.derived.provenance import ImageKey
from pipeline.dicom.read.header_tags import DESCRIPTIVE_KEYWORDS
from pipeline.dicom.read.series import Series
from pipeline.dicom.read.volume import patient_key, series_key
from pipeline.export.output_record import REPORT, record_of, recorded_sources
from pipeline.inference.drift import LINE, UNLIKE
from pipeline.review.overlay import overlays
from pipeline.review.planes import Planes, planes_of_series, planes_of_volume
from pipeline.review.series_index import (
    DENOISED,
    DIFFERENCE,
    LOW_DOSE,
    ORIGINAL,
    PRIOR,
    DerivedBy,
    IndexedSeries,
    by_images,
    facts_of,
    found_in,
    prior_of,
    source_of,
)
from pipeline.review.uncertainty import uncertainty_planes
from pipeline.store.store import INDEX, REAL, Store

FULL_DOSE, LABELS, UNCERTAINTY = "full_dose", "labels", "uncertainty"


@dataclass(frozen=True)
class Shown:
    """A series as the page shows it.

    facts: attributes without identity, by name. label_names: of a label map, by value. series:
    where it is one of DICOM files.
    """

    planes: Planes
    facts: Mapping[str, object]
    warnings: tuple[str, ...] = ()
    label_names: Mapping[int, str] | None = None
    series: Series | None = None

    def to_dict(self, sid: str) -> Json:
        """As the page reads it. sid: the name by which the page asks for its planes."""
        facts = dict(self.facts)
        if self.label_names is not None:
            facts["names"] = dict(self.label_names)
        return {"sid": sid, "facts": facts, "warnings": self.warnings}


@dataclass(frozen=True)
class Case:
    """Series that are looked at together.

    cid: by which the page asks for it. patient: a pseudonym. source: the source series' key, as
    reports and stores have it; "" where it is not known. shown: by role, such as ORIGINAL.
    model: what made the derived series. folder: of the series that is accepted or rejected; None
    for an original. flags: warnings for the reader.
    """

    cid: str
    patient: str
    shown: dict[str, Shown]
    source: str = ""
    model: DerivedBy = field(default_factory=DerivedBy)
    folder: Path | None = None
    flags: tuple[str, ...] = ()


@dataclass(frozen=True)
class Collection:
    """All cases below `root`, and the files that could not be read, with the reasons."""

    root: Path
    cases: dict[str, Case]
    refusals: list[dict[str, str]]


def collect(root: Path, sources: Iterable[Path] = (), *, key: bytes) -> Collection:
    """Every case below `root`, with the originals and segmentations there or in `sources`.

    key: the installation's, for the pseudonyms. Raises NothingUsableError where there is no case.
    """
    if not root.is_dir():
        raise NothingUsableError(f"{root} is no folder: give one of `ldct apply` or `ldct run`")
    recorded = [source for folder in _recorded(root) for source in recorded_sources(folder)]
    found, refused = found_in(_outermost([root, *sources, *recorded]))
    by_image = by_images(found)
    originals = {
        series_key(each.series, key): each.series for each in found if each.kind == ORIGINAL
    }
    labels, left = overlays([refusal for _, refusal in refused], originals)
    builder = _CaseBuilder(_exported(root), _store(root), key, labels, found, {})
    cases = [builder.case(each, by_image) for each in found if each.kind == DENOISED]
    if not cases:
        cases = [builder.case(each, by_image) for each in found if each.kind != DIFFERENCE]
    if not cases:
        cases = builder.stored_cases()
    folders = {refusal.path: folder for folder, refusal in refused}
    refusals = [
        refusal.as_dict(folders.get(refusal.path, root))
        for refusal in left
        if refusal.disposition is Disposition.QUARANTINED
    ]
    if not cases:
        reasons = f": {refusals[0]['reason']}" if refusals else ""
        raise NothingUsableError(f"{root} holds no series to review{reasons}")
    return Collection(root, {case.cid: case for case in cases}, refusals)


def _outermost(folders: list[Path]) -> list[Path]:
    """Without those that lie in another: what is in them would be found twice."""
    known = {folder.resolve(): folder for folder in reversed(folders)}
    return [
        folder for place, folder in reversed(known.items()) if not known.keys() & {*place.parents}
    ]


def _recorded(root: Path) -> list[Path]:
    """Folders with a record of their results: the reviewed one itself, and those in it, as the
    results of `ldct pacs work` have one each."""
    return [root, *sorted(path for path in root.iterdir() if (path / REPORT).is_file())]


def _exported(root: Path) -> dict[Path, Json]:
    """What reports say of derived series, by their folders."""
    return {
        folder / row["folder"]: row
        for folder in _recorded(root)
        for row in record_of(folder).get("exported") or []
        if "folder" in row
    }


def _store(root: Path) -> Store | None:
    for folder in (root, root / "store"):
        if (folder / INDEX).exists():
            return Store(folder)
    return None


@dataclass(frozen=True)
class _CaseBuilder:
    """Makes cases; each series is opened once, however many cases show it."""

    exported: dict[Path, Json]
    store: Store | None
    key: bytes
    labels: dict[str, tuple[Planes, dict[int, str]]]
    found: list[IndexedSeries]
    opened: dict[str, Shown]

    def case(self, found: IndexedSeries, by_image: dict[ImageKey, list[IndexedSeries]]) -> Case:
        """The case of a series, with its sources. by_image: all series, by their images."""
        series, name = found.series, series_key(found.series, self.key)
        folder = series.instances[0].path.parent
        row = self.exported.get(folder, {})
        shown: dict[str, Shown] = {}
        source = source_of(found, by_image)
        if source is not None:
            shown[ORIGINAL] = self._series(source)
            before = source_of(source, by_image)
            if before is not None:
                shown[FULL_DOSE] = self._series(before)
        elif row.get("series"):
            shown |= self._stored(row["series"])
        shown |= self._labels_of(source or found)
        is_original = found.kind == ORIGINAL
        shown[ORIGINAL if is_original else found.kind] = self._series(found)
        shown |= self._prior_of(source or found)
        uncertainty, fault = _uncertainty_of(folder, row, series)
        shown |= uncertainty
        if not is_original and ORIGINAL not in shown:
            flags: tuple[str, ...] = ("the original was not found: name its folder with --source",)
        else:
            flags = _place_flags(shown)
        return Case(
            cid=name,
            patient=patient_key(series, self.key),
            shown=_in_order(shown),
            source=series_key(source.series, self.key) if source else str(row.get("series", "")),
            model=DerivedBy.of(found.header),
            folder=None if is_original else folder,
            flags=(
                *_drift_of(row),
                *flags,
                *fault,
                *_flags_of(row),
                *(source or found).series.warnings,
            ),
        )

    def _prior_of(self, original: IndexedSeries) -> dict[str, Shown]:
        prior = prior_of(original, self.found, self.key)
        return {} if prior is None else {PRIOR: self._series(prior)}

    def _labels_of(self, original: IndexedSeries) -> dict[str, Shown]:
        planes, names = self.labels.get(series_key(original.series, self.key), (None, {}))
        return {} if planes is None else {LABELS: Shown(planes, {}, label_names=names)}

    def stored_cases(self) -> list[Case]:
        """A case for each series of the store; none without a store."""
        if self.store is None:
            return []
        return [
            Case(
                cid=name,
                patient=record.patient,
                shown=_in_order(self._stored(name)),
                flags=tuple(record.provenance.get("warnings", ())),
            )
            for name, record in self.store.records().items()
        ]

    def _series(self, found: IndexedSeries) -> Shown:
        name = series_key(found.series, self.key)
        if name not in self.opened:
            self.opened[name] = Shown(
                planes_of_series(found.series),
                facts_of(found.header),
                found.series.warnings,
                series=found.series,
            )
        return self.opened[name]

    def _stored(self, name: str) -> dict[str, Shown]:
        """The original of a store, and its low-dose input if one is cached."""
        if self.store is None or name not in self.store.records():
            return {}
        volume = self.store.load(name)
        facts = {k: v for k, v in volume.provenance.items() if k in DESCRIPTIVE_KEYWORDS}
        warnings = tuple(volume.provenance.get("warnings", ()))
        shown = {ORIGINAL: Shown(planes_of_volume(volume), facts, warnings)}
        for path in sorted((self.store.path / "degraded").glob(f"{name}.*.npy")):
            real = path.name.split(".")[1] == REAL
            low_dose_facts = {**facts, "Dose": "a real low dose" if real else "simulated"}
            degraded = self.store.load_degraded(name, path.name.split(".")[1])
            volume = Volume(degraded, volume.valid, volume.affine_lps, volume.slice_origins_mm, {})
            shown[LOW_DOSE] = Shown(planes_of_volume(volume), low_dose_facts)
            break
        return shown


def _in_order(shown: dict[str, Shown]) -> dict[str, Shown]:
    order = (ORIGINAL, DENOISED, LOW_DOSE, FULL_DOSE, PRIOR, LABELS, UNCERTAINTY)
    return {role: shown[role] for role in order if role in shown}


def _uncertainty_of(folder: Path, row: Json, series: Series) -> tuple[dict[str, Shown], list[str]]:
    """What was written of it beside the derived series, and a flag where that cannot be read."""
    beside = (row.get("uncertainty") or {}).get("folder")
    if not beside:
        return {}, []
    try:
        planes = uncertainty_planes(folder.with_name(beside) / PARAMETRIC_MAP, series)
    except Unreadable as unreadable:
        return {}, [f"uncertainty cannot be shown: {unreadable.reason}"]
    return {UNCERTAINTY: Shown(planes, {})}, []


def _place_flags(shown: dict[str, Shown]) -> tuple[str, ...]:
    """A warning where the slices of original and derived series do not lie at the same places."""
    if not {ORIGINAL, DENOISED} <= shown.keys():
        return ()
    one, other = (shown[role].planes.geometry for role in (ORIGINAL, DENOISED))
    if one.shape == other.shape and abs(one.slice_origins_mm - other.slice_origins_mm).max() < 0.01:
        return ()
    return ("original and denoised do not lie at the same places: linked by position only",)


def _drift_of(row: Json) -> list[str]:
    """The first flag: what is unlike the model's training, or that this is not known."""
    return [str(row[LINE])] if row.get(LINE) and row.get(UNLIKE) != [] else []


def _flags_of(row: Json) -> list[str]:
    flags = []
    if clipped := row.get("clipped_pixels"):
        excess = row.get("largest_clipped_excess_hu", 0)
        flags.append(f"{clipped} pixels clipped on export, by {excess:g} HU at most")
    audit = row.get("audit") or {}
    if audit.get("flagged"):
        flags.append(audit["summary"])
    check = row.get("check") or {}
    if check.get("problems"):
        flags.append(f"{check['problems']} problems found by the check of derived series")
    return flags
