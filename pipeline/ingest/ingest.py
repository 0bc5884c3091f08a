"""The first stage: find series, check them, build HU volumes, store them, tell what happened."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipeline.config.sections import Pairs
from pipeline.core.errors import NothingUsableError
from pipeline.core.refusals import (
    Disposition,
    Refusal,
    SeriesRefusedError,
    Unreadable,
    by_disposition,
    nothing_usable,
)
from pipeline.core.volume import Volume
from pipeline.dicom.read.ingest_options import IngestOptions
from pipeline.dicom.read.series import Series
from pipeline.dicom.read.volume import patient_key, read_volume
from pipeline.ingest.dose_pairs import Pair, find_pairs, read_pair
from pipeline.ingest.regrid import prepared
from pipeline.io.discover import Discovered, Source, discover, image_key, source_key
from pipeline.io.volume_files import read_image
from pipeline.labels.discover import discover_labels, grid_of
from pipeline.labels.read import Choices, on_volume, read_labels
from pipeline.store.store import Store

Progress = Callable[[str, int, int], None]
#: What a report says of a series' making.
DESCRIPTION = ("Manufacturer", "ConvolutionKernel", "KVP", "SliceThickness")


@dataclass
class IngestReport:
    """What went where. `sources` leads back to the source files, in memory only: the store
    and the report know series by their keys. Of a real pair it leads to the low-dose series,
    which is what a model is for, and `stored` to the full-dose one, which labels are of."""

    root: Path
    series: list[dict[str, Any]] = field(default_factory=list)
    refusals: list[Refusal] = field(default_factory=list)
    sources: dict[str, Source] = field(default_factory=dict)
    stored: dict[str, Source] = field(default_factory=dict)
    labels: list[dict[str, Any]] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        told = {"series": self.series, "labels": self.labels}
        return {**told, **by_disposition(self.refusals, self.root)}


def ingest(
    root: Path,
    store: Store,
    *,
    key: bytes,
    intake: IngestOptions = IngestOptions(),  # noqa: B008  (frozen)
    pairs: Pairs | None = None,
    progress: Progress = lambda what, done, total: None,
) -> IngestReport:
    """Store every usable CT volume below `root`, one, or one pair, in memory at a time, and its
    labels.

    pairs: store full-dose series with their low-dose partners, and nothing else (see
    pipeline.ingest.dose_pairs). Raises NothingUsableError where nothing could be used, naming the
    commonest reason.
    """
    found = discover(root, lambda files: progress("reading headers", files, 0), intake=intake)
    report = IngestReport(found.root, refusals=list(found.refusals))
    sources: list[Source | Pair] = [*found.sources]
    if pairs is not None:
        sources = _paired(found, pairs, report)
    for done, source in enumerate(sources, start=1):
        try:
            item = _item(source, key)
        except SeriesRefusedError as refused:
            report.refusals.extend(refused.refusals)
        else:
            _store(item, store, intake, report)
        progress("storing series", done, len(sources))
    if not report.series:
        raise NothingUsableError(nothing_usable(report.root, report.refusals))
    _store_labels(store, intake, report)
    return report


def _paired(found: Discovered, words: Pairs, report: IngestReport) -> list[Source | Pair]:
    pairs, refusals = find_pairs(found.series, words, found.root)
    nameless = "an image file names neither patient nor dose: it has no partner"
    report.refusals += refusals
    report.refusals += [Refusal(image, Disposition.EXCLUDED, nameless) for image in found.images]
    return [*pairs]


@dataclass(frozen=True)
class _Item:
    """A volume on its way into the store: under which names, and where it came from.

    target: what it is of, where that is another series than the source. real_input and pair:
    the low-dose partner, and what the report says of it.
    """

    volume: Volume
    name: str
    patient: str
    source: Source
    refusals: list[Refusal]
    target: Series | None = None
    real_input: Volume | None = None
    pair: dict[str, Any] = field(default_factory=dict)


def _item(source: Source | Pair, key: bytes) -> _Item:
    """Raises SeriesRefusedError where nothing of the source can be used."""
    if isinstance(source, Pair):
        both = read_pair(source)
        return _Item(
            both.target.volume,
            source_key(source.target, key),
            patient_key(source.target, key),
            both.source,
            both.refusals,
            both.target.series,
            both.input.volume,
            {"input": source_key(source.input, key), **both.facts},
        )
    if isinstance(source, Series):
        reading = read_volume(source)
        names = source_key(reading.series, key), patient_key(source, key)
        return _Item(reading.volume, *names, reading.series, reading.refusals)
    try:
        volume = read_image(source)
    except Unreadable as fault:
        raise SeriesRefusedError([fault.refusal(source)]) from fault
    # An image file names no patient: it counts as a patient of its own.
    return _Item(volume, source_key(source, key), image_key(source, key, "p"), source, [])


def _store(item: _Item, store: Store, intake: IngestOptions, report: IngestReport) -> None:
    report.refusals.extend(item.refusals)
    volume = prepared(item.volume, intake)
    real_input = None if item.real_input is None else prepared(item.real_input, intake)
    is_new = store.add(volume, key=item.name, patient=item.patient, real_input=real_input)
    report.sources[item.name] = item.source
    report.stored[item.name] = item.target or item.source
    report.series.append(
        {
            "series": item.name,
            "patient": item.patient,
            "slices": len(volume.image_hu),
            "new": is_new,
            "description": {k: v for k, v in volume.provenance.items() if k in DESCRIPTION},
            "warnings": [*volume.provenance["warnings"], *volume.provenance.get("geometry", [])],
            **({"pair": item.pair} if item.pair else {}),
        }
    )


def _store_labels(store: Store, intake: IngestOptions, report: IngestReport) -> None:
    """Put what is labels among the refused files beside the volumes that they are of."""
    choices = Choices.of(intake)
    found = discover_labels(report.refusals, report.stored, choices)
    report.refusals = found.refusals
    for files in found.files:
        own = grid_of(report.stored[files.image])
        try:
            labelmap = on_volume(read_labels(files, own, choices), own, store.load(files.image))
        except Unreadable as fault:
            report.refusals.extend(fault.refusal(path) for path in files.paths)
            continue
        report.labels.append(
            {
                "series": files.image,
                "labels": files.kind,
                "structures": labelmap.present(),
                "new": store.add_labels(files.image, files.kind, labelmap),
                "warnings": labelmap.source.get("warnings", []),
            }
        )
