"""Stage export: apply a model to a source, and write the result in the source's form: a derived
DICOM series, or an image file of the same format."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch import nn

from pipeline.core.hu_scale import values_of
from pipeline.core.ordered_pool import map_in_order
from pipeline.core.refusals import Disposition, Refusal, SeriesRefusedError, Unreadable
from pipeline.core.types import Progress
from pipeline.core.versions import VERSION
from pipeline.core.volume import Volume
from pipeline.dicom.derived.difference import write_slice_difference
from pipeline.dicom.derived.encode import UNCOMPRESSED, require_syntax
from pipeline.dicom.derived.publish import (
    PublishedSeries,
    SeriesWriter,
    SliceWriter,
    derived_series,
)
from pipeline.dicom.derived.write import DOSE_SIMULATED, Operation, write_slice
from pipeline.dicom.read.pixels import read_slice
from pipeline.dicom.read.series import Series
from pipeline.dicom.read.volume import Slice, SliceReader, read_slices, read_volume
from pipeline.inference.denoise import apply_model, apply_to_slices
from pipeline.inference.dose_choice import choose_dose
from pipeline.inference.drift import TrainingTraits, drift, measured_slices, traits
from pipeline.io.discover import Source
from pipeline.io.image_names import result_name
from pipeline.io.volume_files import Air, read_padded, write_image, written_suffix
from pipeline.models.adapters.any_dose import AnyDoseModel, at_dose_ratio
from pipeline.models.adapters.card import ModelCard
from pipeline.physics.calibration import Calibration
from pipeline.physics.lowdose import LowDoseCT

#: Slices that wait to be written while the next ones are computed: two batches.
MAX_UNWRITTEN_SLICES = 8


@dataclass(frozen=True)
class ExportReport:
    """What was written for one source.

    folder: its name, below the run's output. instances: DICOM objects, or slices of an image
    file. details: figures of this kind of export, in JSON's types.
    """

    folder: str
    instances: int
    details: dict[str, object] = field(default_factory=dict)

    def with_details(self, **details: object) -> ExportReport:
        """The report with more details."""
        return replace(self, details={**self.details, **details})

    def to_dict(self) -> dict[str, object]:
        """A row of report.json."""
        return {"folder": self.folder, "instances": self.instances, **self.details}


class Exported(NamedTuple):
    """What was written for a source, None where all of it was refused, and what was refused."""

    report: ExportReport | None
    refusals: list[Refusal]


@dataclass(frozen=True)
class Export:
    """Where and how to write results.

    syntax: the encoding of DICOM pixels, a key of encode.SYNTAXES (all lossless). difference:
    also write result minus source as a series of its own, in `folder`-difference. labels: the
    form of labels of a series, one of pipeline.export.labels.FORMS. air: whether image files
    without HU are refused (IngestOptions.air).
    """

    folder: Path
    syntax: str = UNCOMPRESSED
    difference: bool = False
    labels: str = "seg"
    air: Air = "require"

    def __post_init__(self) -> None:
        require_syntax(self.syntax)


def export_denoised(
    model: nn.Module,
    card: ModelCard,
    source: Source,
    to: Export,
    progress: Progress = lambda slices: None,
    *,
    operation: Operation | None = None,
) -> Exported:
    """Denoise a source: write a derived series, or an image file of the source's format.

    operation: what the model does, where that is no denoising. A series is processed as a stream:
    only some slices are in memory, which are decoded, denoised, written and checked in parallel.
    The report's detail "drift" holds what is unlike the series that the model learned from, "dose"
    what a model that is told the dose made up for, and why (inference.dose_choice). Raises
    LdctError for a derived series that fails its check, which is then not written.
    """

    def drift_of(volume: Volume) -> dict[str, object]:
        """The detail "drift", for a model that knows what its training series were like."""
        if card.seen is None:
            return {}
        return {"drift": drift(traits(volume), TrainingTraits.from_dict(card.seen))}

    def compute(volume: Volume) -> Derived:
        """The denoised volume."""
        applied = _applied(model, card, lambda: volume, operation)
        output_hu = apply_model(applied.model, volume.image_hu, progress=progress)
        return Derived(output_hu, applied.operation, {**applied.details, **drift_of(volume)})

    if not isinstance(source, Series):
        return _export_image(source, to, compute)
    try:
        applied = _applied(model, card, lambda: _sample(source), operation)
        report, reader = _stream_series(source, to, applied.model, applied.operation, progress)
    except SeriesRefusedError as refused:
        return Exported(None, refused.refusals)
    details = {**applied.details, **drift_of(_sample(reader.series))}
    warnings = [*reader.series.warnings, *reader.values.remarks()]
    return Exported(report.with_details(warnings=warnings, **details), reader.refusals)


def _sample(series: Series) -> Volume:
    """Some slices, on which a series is measured."""
    return read_slices(series, measured_slices(len(series.instances)))


class _Applied(NamedTuple):
    """A model as it is applied to one source, what that is called, and details for the report."""

    model: nn.Module
    operation: Operation
    details: dict[str, object]


def _applied(
    model: nn.Module,
    card: ModelCard,
    sample: Callable[[], Volume],
    operation: Operation | None,
) -> _Applied:
    """The model as it is; one that is told the dose, at the ratio for this source."""
    if not isinstance(model, AnyDoseModel) or card.dose is None:
        return _Applied(model, operation or card.operation(), {})

    def denoise(image_hu: NDArray[np.float32], dose_ratio: float) -> NDArray[np.float32]:
        """One slice at one ratio."""
        return apply_model(at_dose_ratio(model, dose_ratio), image_hu[None])[0]

    choice = choose_dose(card.dose, sample(), denoise)
    told = at_dose_ratio(model, choice.dose_ratio)
    return _Applied(told, card.operation(choice), {"dose": choice.to_dict()})


def export_simulated(physics: LowDoseCT, source: Source, to: Export, *, seed: int) -> Exported:
    """Write a simulated low-dose copy of a source; the same seed gives the same noise.

    The report's detail "calibration" is the scanner's setting, configured or measured. Raises
    CalibrationError where it had to be measured and could not be, and LdctError as
    export_denoised does.
    """

    def compute(volume: Volume) -> Derived:
        """The volume with noise inserted."""
        scan = physics.calibration(volume)
        image_hu = physics(volume, np.random.default_rng(seed), scan)
        operation = _simulation(physics, scan, seed)
        return Derived(image_hu, operation, {"calibration": scan.facts()})

    if not isinstance(source, Series):
        return _export_image(source, to, compute)
    try:
        return _export_whole(source, to, compute)
    except SeriesRefusedError as refused:
        return Exported(None, refused.refusals)


def _simulation(physics: LowDoseCT, scan: Calibration, seed: int) -> Operation:
    noise = physics.description
    if physics.photons_per_ray is None:
        noise += f" ({scan.photons_per_ray:.3g} measured, {scan.measured_noise_hu:.1f} HU of noise)"
    return Operation(
        label=f"SIMULATED {physics.dose_fraction:.0%} DOSE",
        description=(
            f"Simulated at dose fraction {physics.dose_fraction:g} by noise insertion (Yu et al. "
            f"2012), {noise}, seed {seed}. Not for diagnosis."
        ),
        code=DOSE_SIMULATED,
        equipment="dose simulation",
        equipment_version=VERSION,
        identity=f"{physics!r}/{seed}",
    )


@dataclass(frozen=True)
class Derived:
    """A processed volume: image_hu [slices, rows, columns], the operation, and report details."""

    image_hu: NDArray[np.float32]
    operation: Operation
    details: dict[str, object] = field(default_factory=dict)


Compute = Callable[[Volume], Derived]


def _stream_series(
    series: Series, to: Export, model: nn.Module, operation: Operation, progress: Progress
) -> tuple[ExportReport, SliceReader]:
    """Decode, infer and write in parallel; the reader has then read all slices."""
    require_identifiers(series)
    reader = SliceReader(series)
    return publish(_denoised(model, reader, progress), series, operation, to), reader


def _denoised(model: nn.Module, reader: SliceReader, progress: Progress) -> Iterator[Slice]:
    """Each slice with the model's output; the model works on a few slices at a time."""
    in_progress: deque[Slice] = deque()

    def inputs() -> Iterator[NDArray[np.float32]]:
        """Each slice in HU, kept until its output is there."""
        for slice_ in reader.slices():
            in_progress.append(slice_)
            yield slice_.image_hu

    for output_hu in apply_to_slices(model, inputs(), progress=progress):
        yield replace(in_progress.popleft(), image_hu=output_hu)


def _export_whole(series: Series, to: Export, compute: Compute) -> Exported:
    """Process a series with what needs all of its volume at once."""
    require_identifiers(series)
    reading = read_volume(series)
    derived = compute(reading.volume)
    pairs = zip(reading.series.instances, derived.image_hu, strict=True)
    processed = (Slice(instance, read_slice(instance), image_hu) for instance, image_hu in pairs)
    report = publish(processed, reading.series, derived.operation, to)
    warnings = warnings_of(reading.volume)
    return Exported(report.with_details(warnings=warnings, **derived.details), reading.refusals)


def warnings_of(volume: Volume) -> list[str]:
    """A volume's warnings, and what its values say of themselves."""
    values = values_of(volume.image_hu, volume.valid)
    return [*volume.provenance["warnings"], *values.remarks()]


def require_identifiers(series: Series) -> None:
    """Raises SeriesRefusedError where slices lack a UID of their own that a result could refer
    to."""
    reason = "has no identifiers but its folder's: for training only, not for export"
    unidentified = [
        Refusal(instance.path, Disposition.QUARANTINED, reason, "SOPInstanceUID")
        for instance in series.instances
        if instance.is_unidentified
    ]
    if unidentified:
        raise SeriesRefusedError(unidentified)


def _export_image(path: Path, to: Export, compute: Compute) -> Exported:
    try:
        found = read_padded(path, air=to.air)
    except Unreadable as fault:
        return Exported(None, [fault.refusal(path)])
    volume = found.volume
    derived = compute(volume)
    result = replace(volume, image_hu=derived.image_hu)
    name = f"{result_name(path, file_stem(derived.operation))}{written_suffix(path)}"
    write_image(result, to.folder / name, padding=found.padding)
    details = {"clipped_pixels": 0, "warnings": warnings_of(volume), **derived.details}
    return Exported(ExportReport(to.folder.name, len(volume.image_hu), details), [])


def file_stem(operation: Operation) -> str:
    """The part of a file name that says what was done, from the operation's label."""
    return operation.label.lower().replace(" ", "-").replace("%", "")


def publish(
    processed: Iterable[Slice], source: Series, operation: Operation, to: Export
) -> ExportReport:
    """Write and check the derived series, and its difference, while `processed` is computed.

    Raises LdctError as derived_series does; then neither series is written.
    """
    with ExitStack() as stack:

        def writer(folder: Path, write: SliceWriter) -> SeriesWriter:
            """A series' writer, which is finished when the stack is left."""
            return stack.enter_context(
                derived_series(folder, source, operation, write, syntax=to.syntax)
            )

        # Left in reverse: the derived series is in its place before its difference is checked.
        beside = to.folder.with_name(f"{to.folder.name}-difference")
        difference = writer(beside, write_slice_difference) if to.difference else None
        derived = writer(to.folder, write_slice)
        writers = [derived] if difference is None else [derived, difference]

        def write_all(one: Slice) -> None:
            """Write a slice of every series."""
            for series in writers:
                series.write(one)

        for _ in map_in_order(write_all, processed, threads=1, max_ahead=MAX_UNWRITTEN_SLICES):
            pass
    report = _report_of(derived.published)
    if difference is None:
        return report
    written = difference.published
    checked = ExportReport(written.folder, written.instances, {"check": written.check.to_dict()})
    return report.with_details(difference=checked.to_dict())


def _report_of(series: PublishedSeries) -> ExportReport:
    details = {
        "clipped_pixels": series.clipped.pixels,
        "largest_clipped_excess_hu": series.clipped.max_excess_hu,
        "check": series.check.to_dict(),
    }
    return ExportReport(series.folder, series.instances, details)
