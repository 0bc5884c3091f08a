"""Stage ingest: find series, check them, read them as HU volumes, and store them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from pipeline.config.sections import Pairs
from pipeline.core.crash_file import crash_file
from pipeline.core.errors import ConfigError, LdctError, is_disk_full
from pipeline.core.hu_scale import fault_of
from pipeline.core.ordered_pool import map_in_order
from pipeline.core.pseudonyms import pseudonym
from pipeline.core.refusals import (
    Disposition,
    Refusal,
    SeriesRefusedError,
    Unreadable,
    name_below,
    nothing_usable,
    reason_of,
)
from pipeline.core.volume import Volume
from pipeline.dicom.read.ingest_options import IngestOptions
from pipeline.dicom.read.series import Series
from pipeline.dicom.read.volume import patient_key, read_volume
from pipeline.ingest.dose_pairs import Pair, find_pairs, read_pair
from pipeline.ingest.known_sources import KnownSource, KnownSources
from pipeline.ingest.regrid import apply_intake
from pipeline.ingest.report import IngestedLabels, IngestedSeries, IngestReport, PairedInput
from pipeline.io.discover import Discovered, Source, discover, files_of, source_key
from pipeline.io.image_names import BY_FILE, EACH_ITS_OWN, ImagePatients
from pipeline.io.volume_files import ANY_VALUES, read_image
from pipeline.labels.discover import discover_labels, grid_of
from pipeline.labels.read import LabelOptions, on_volume, read_labels
from pipeline.store.series_record import SCALE_FAULT
from pipeline.store.store import Store

Progress = Callable[[str, int, int], None]
#: The attributes that a report lists of a series' acquisition.
DESCRIPTION = ("Manufacturer", "ConvolutionKernel", "KVP", "SliceThickness")


def ingest(
    root: Path,
    store: Store,
    *,
    key: bytes,
    intake: IngestOptions = IngestOptions(),  # noqa: B008  (frozen)
    pairs: Pairs | None = None,
    progress: Progress = lambda what, done, total: None,
) -> IngestReport:
    """Store every usable CT volume below `root` with its labels; two volumes, or two pairs, are in
    memory at a time: one is read while the one before it is stored.

    key: the installation's, for pseudonyms. pairs: store full-dose series with their low-dose
    partners, and nothing else (see pipeline.ingest.dose_pairs). progress: called with (step,
    done, total). Raises NothingUsableError, with the commonest reason, where nothing could be
    used.
    """
    found = discover(root, lambda files: progress("reading headers", files, 0), intake=intake)
    report = IngestReport(found.root, refusals=list(found.refusals))
    patients = ImagePatients.of(intake.patients, found.root)
    sources: list[Source | Pair] = [*found.sources]
    if pairs is not None:
        sources = _find_pairs(found, pairs, report)
    stage = _Stage(store, intake, patients, KnownSources(store, key, intake), found.root)
    for done, outcome in enumerate(stage.outcomes(sources), start=1):
        outcome.add_to(report)
        progress("storing series", done, len(sources))
    if intake.patients == BY_FILE and len(found.images) > 1:
        report.series = [_each_its_own(row) for row in report.series]
    if not report.series:
        raise nothing_usable(report.root, report.refusals, report.to_dict())
    _store_labels(store, intake, report)
    return report


@dataclass(frozen=True)
class _Outcome:
    """What became of a source. row: of the series that the store has now; None where it has none,
    for the reasons in `refusals`. source, stored: whose pixels are seen, and whose place in the
    store it is: of a pair, the low-dose series and the full-dose one. skipped: not read again."""

    refusals: list[Refusal]
    row: IngestedSeries | None = None
    source: Source | None = None
    stored: Source | None = None
    skipped: bool = False

    def add_to(self, report: IngestReport) -> None:
        report.refusals.extend(self.refusals)
        report.skipped += self.skipped
        if self.row is not None and self.source is not None and self.stored is not None:
            report.series.append(self.row)
            report.sources[self.row.series] = self.source
            report.stored[self.row.series] = self.stored


@dataclass(frozen=True)
class _Stage:
    """The reading and storing of one ingest, which does each step of a source where `root` is."""

    store: Store
    intake: IngestOptions
    patients: ImagePatients
    known: KnownSources
    root: Path

    def outcomes(self, sources: list[Source | Pair]) -> Iterator[_Outcome]:
        """Of each source, in order. Raises what is not a source's fault: a wrong configuration, a
        full disk."""
        # Files of equal bytes are one image: the second is known once the first is stored.
        images = [source for source in sources if isinstance(source, Path)]
        others = [source for source in sources if not isinstance(source, Path)]
        for some, ahead in ((others, 2), (images, 1)):
            yield from map_in_order(self._stored, map(self._read, some), threads=1, max_ahead=ahead)

    def _read(self, source: Source | Pair) -> _Item | _Outcome:
        """A volume to be stored; the outcome where the store has it from the same files, and where
        nothing of it can be used. Pairs are always read."""
        files = tuple(_files_of(source))
        try:
            if isinstance(source, Pair):
                item = _item(source, self.known.key, self.intake, self.patients)
                return replace(item, files=files)
            patient = _patient(source, self.known.key, self.patients)
            same = self.known.of(source, patient)
            if (row := same.read()) is not None:
                row = replace(row, source_file=_file_name(source, self.root))
                return _Outcome([], row, source, source, skipped=True)
            item = _item(source, self.known.key, self.intake, self.patients)
            return replace(item, known=same, files=files)
        except SeriesRefusedError as refused:
            return _Outcome(refused.refusals)
        except Exception as error:  # of this series alone: the others go on
            return _Outcome(_failed(files, error))

    def _stored(self, item: _Item | _Outcome) -> _Outcome:
        if isinstance(item, _Outcome):
            return item
        try:
            row = self._row(item)
            # Or what was refused would not be named again.
            if item.known is not None and not item.refusals:
                item.known.write(row)
        except SeriesRefusedError as refused:
            return _Outcome(refused.refusals)
        except Exception as error:
            return _Outcome(_failed(item.files, error))
        return _Outcome(item.refusals, row, item.source, item.target or item.source)

    def _row(self, item: _Item) -> IngestedSeries:
        volume = apply_intake(item.volume, self.intake)
        real_input = None if item.real_input is None else apply_intake(item.real_input, self.intake)
        is_new = self.store.add(volume, key=item.name, patient=item.patient, real_input=real_input)
        return IngestedSeries(
            series=item.name,
            patient=item.patient,
            slices=len(volume.image_hu),
            new=is_new,
            description={k: v for k, v in volume.provenance.items() if k in DESCRIPTION},
            warnings=[*volume.provenance["warnings"], *volume.provenance.get("geometry", [])],
            source_file=_file_name(item.source, self.root),
            pair=item.pair,
        )


def _patient(source: Source, key: bytes, patients: ImagePatients) -> str:
    """The patient's pseudonym; raises SeriesRefusedError for an image file that has none."""
    if isinstance(source, Series):
        return patient_key(source, key)
    try:
        return patients.key_of(source, key)
    except Unreadable as fault:
        raise SeriesRefusedError([fault.refusal(source)]) from fault


def _each_its_own(row: IngestedSeries) -> IngestedSeries:
    """With a warning where it is an image file, one of several."""
    return replace(row, warnings=[*row.warnings, EACH_ITS_OWN]) if row.source_file else row


def _failed(files: Sequence[Path], error: Exception) -> list[Refusal]:
    """What failed stays with its files; raises the error where it is not theirs: a wrong
    configuration, a full disk."""
    if isinstance(error, Unreadable):
        return [error.refusal(file) for file in files]
    if isinstance(error, ConfigError) or is_disk_full(error):
        raise error
    path = None if isinstance(error, LdctError) else crash_file(error)
    reason = reason_of(error) + (f"; details: {path}" if path else "")
    return [Refusal(file, Disposition.QUARANTINED, reason) for file in files]


def _files_of(source: Source | Pair) -> list[Path]:
    sources = (source.target, source.input) if isinstance(source, Pair) else (source,)
    return [file for each in sources for file in files_of(each)]


def _find_pairs(found: Discovered, words: Pairs, report: IngestReport) -> list[Source | Pair]:
    pairs, refusals = find_pairs(found.series, words, found.root)
    reason = "an image file has neither a patient nor a dose: it cannot be paired"
    report.refusals += refusals
    report.refusals += [Refusal(image, Disposition.EXCLUDED, reason) for image in found.images]
    return [*pairs]


@dataclass(frozen=True)
class _Item:
    """A volume to be stored, with its keys and its source.

    target: the full-dose series of a pair, whose source is the low-dose one. real_input and
    pair: the low-dose partner's volume, and its row in the report. known: where to note that the
    store has it. files: all that it was read from.
    """

    volume: Volume
    name: str
    patient: str
    source: Source
    refusals: list[Refusal]
    target: Series | None = None
    real_input: Volume | None = None
    pair: PairedInput | None = None
    known: KnownSource | None = None
    files: tuple[Path, ...] = ()


def _item(
    source: Source | Pair, key: bytes, intake: IngestOptions, patients: ImagePatients
) -> _Item:
    """Raises SeriesRefusedError where nothing of the source can be used."""
    if isinstance(source, Pair):
        both = read_pair(source)
        return _Item(
            _marked(both.target.volume, both.input.volume),
            _pair_key(source, key),
            patient_key(source.target, key),
            both.source,
            both.refusals,
            both.target.series,
            both.input.volume,
            PairedInput(
                source_key(source.input, key), both.unmatched_input_mm, both.unmatched_target_mm
            ),
        )
    if isinstance(source, Series):
        reading = read_volume(source).without_drawn()
        names = source_key(reading.series, key), _patient(source, key, patients)
        return _Item(_marked(reading.volume), *names, reading.series, reading.refusals)
    patient = _patient(source, key, patients)
    try:
        volume = read_image(source, air=intake.air)
    except Unreadable as fault:
        raise SeriesRefusedError([fault.refusal(source)]) from fault
    return _Item(volume, source_key(source, key), patient, source, [])


def _pair_key(pair: Pair, key: bytes) -> str:
    """That of the full-dose series, which stands in the store once for each of its inputs."""
    target = source_key(pair.target, key)
    if not pair.one_of_several:
        return target
    return pseudonym(key, "s", target, source_key(pair.input, key))


def _marked(volume: Volume, partner: Volume | None = None) -> Volume:
    """The volume, with what says that its values or its low-dose partner's are no HU in its
    provenance: the store keeps it, and runs leave it out (SeriesRecord.scale_fault)."""
    both = [volume] if partner is None else [volume, partner]
    faults = [fault_of(one.image_hu, one.valid) for one in both]
    fault = next(filter(None, faults), "")
    if not fault:
        return volume
    warning = f"held back from training, since its values may be no HU: {fault}; {ANY_VALUES}"
    facts = {SCALE_FAULT: fault, "warnings": [*volume.provenance["warnings"], warning]}
    return replace(volume, provenance={**volume.provenance, **facts})


def _file_name(source: Source, root: Path) -> str:
    """Of an image file, its path below the root of what is ingested."""
    return name_below(source, root) if isinstance(source, Path) else ""


def _store_labels(store: Store, intake: IngestOptions, report: IngestReport) -> None:
    """Store the labels among the refused files with the volumes that they belong to."""
    choices = LabelOptions.of(intake)
    found = discover_labels(report.refusals, report.stored, choices)
    report.refusals = found.refusals
    for files in found.files:
        own = grid_of(report.stored[files.image])
        try:
            labelmap = on_volume(read_labels(files, own, choices), own, store.load(files.image))
            is_new = store.add_labels(files.image, files.kind, labelmap)
        except Exception as error:  # of these labels alone: their volume is stored
            report.refusals += _failed(files.paths, error)
            continue
        warnings, structures = labelmap.source.get("warnings", []), labelmap.present()
        report.labels.append(IngestedLabels(files.image, files.kind, structures, is_new, warnings))
