"""Stage export: write what was made of a source in the source's form, a derived DICOM series or
an image file of the same format."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.config import computing
from pipeline.core.atomic_files import replacing_folder
from pipeline.core.errors import ConfigError
from pipeline.core.hu_scale import values_of
from pipeline.core.ordered_pool import map_in_order
from pipeline.core.refusals import Disposition, Refusal, SeriesRefusedError, Unreadable
from pipeline.core.volume import Volume
from pipeline.dicom.derived.difference import write_slice_difference
from pipeline.dicom.derived.encode import UNCOMPRESSED, require_syntax
from pipeline.dicom.derived.publish import (
    PublishedSeries,
    SeriesWriter,
    SliceWriter,
    derived_series,
)
from pipeline.dicom.derived.write import Operation, write_slice
from pipeline.dicom.read.pixels import read_slice
from pipeline.dicom.read.series import Series
from pipeline.dicom.read.volume import Slice, read_volume
from pipeline.export.audit import SeriesAudit
from pipeline.export.uncertainty import SeriesUncertainty
from pipeline.io.discover import Source
from pipeline.io.image_formats import written_suffix
from pipeline.io.image_names import result_name
from pipeline.io.volume_files import Air, read_padded
from pipeline.io.volume_writer import write_image

#: Of a row of report.json, "gate": the model did not pass it.
FAILED = "failed"
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

    def warned(self, warnings: list[str]) -> ExportReport:
        """The report with these warnings before its own."""
        own = self.details.get("warnings")
        return self.with_details(warnings=warnings + (own if isinstance(own, list) else []))

    def to_dict(self) -> dict[str, object]:
        """A row of report.json."""
        return {"folder": self.folder, "instances": self.instances, **self.details}


class Exported(NamedTuple):
    """What was written for a source, None where nothing was, and what was refused.

    skipped: why nothing had to be written.
    """

    report: ExportReport | None
    refusals: list[Refusal]
    skipped: str = ""

    def marked(self, missed: str) -> Exported:
        """The same, marked as by a model that did not pass its gate. missed: the limits that it
        misses; "" where it passed."""
        if self.report is None or not missed:
            return self
        report = self.report.warned([f"the model did not pass its gate: {missed}"])
        return self._replace(report=report.with_details(gate=FAILED))


@dataclass(frozen=True)
class Export:
    """Where and how to write results.

    syntax: the encoding of DICOM pixels, a key of encode.SYNTAXES (all lossless). difference:
    also write result minus source as a series of its own, in `folder`-difference. labels: the
    form of labels of a series, one of pipeline.export.labels.FORMS. air: whether image files
    without HU are refused (IngestOptions.air). enhanced: a derived series is one multi-frame
    object, Enhanced CT Image, which has no difference. skip_unneeded: nothing is written of a
    series in which a dose-conditioned denoiser has nothing to make up for. uncertainty: also write
    how far each voxel of a denoiser's result may be off, in `folder`-uncertainty. compute: how a
    denoiser is computed (pipeline.models.computing.choice).
    structured_report: also write an SR with the figures of a denoised series, in `folder`-report.
    """

    folder: Path
    syntax: str = UNCOMPRESSED
    difference: bool = False
    labels: str = "seg"
    air: Air = "require"
    enhanced: bool = False
    skip_unneeded: bool = False
    uncertainty: bool = False
    compute: computing.Compute = "fp32"
    structured_report: bool = False

    def __post_init__(self) -> None:
        require_syntax(self.syntax)
        if self.enhanced and self.difference:
            raise ConfigError(
                "--enhanced with --difference: the difference would name CT images that are not "
                "written; leave out one of the two"
            )


@dataclass(frozen=True)
class Derived:
    """A processed volume: image_hu [slices, rows, columns], the operation, report details, and how
    far its voxels may be off, where that was asked for."""

    image_hu: NDArray[np.float32]
    operation: Operation
    details: dict[str, object] = field(default_factory=dict)
    uncertainty: SeriesUncertainty | None = None


Compute = Callable[[Volume], Derived]


def export_whole(
    source: Source, to: Export, compute: Compute, *, audited: bool = False
) -> Exported:
    """Process a source with what needs all of its volume at once, and write the result.

    audited: what a denoiser changed beyond noise in a slice stands in its header (export.audit).

    Raises LdctError as `publish` and `write_image` do.
    """
    if not isinstance(source, Series):
        return export_image(source, to, compute)
    try:
        return _export_series(source, to, compute, SeriesAudit() if audited else None)
    except SeriesRefusedError as refused:
        return Exported(None, refused.refusals)


def _export_series(
    series: Series, to: Export, compute: Compute, audit: SeriesAudit | None
) -> Exported:
    require_identifiers(series)
    reading = read_volume(series)
    derived = compute(reading.volume)
    pairs = zip(reading.series.instances, derived.image_hu, strict=True)
    processed = (Slice(instance, read_slice(instance), image_hu) for instance, image_hu in pairs)
    report = publish(processed, reading.series, derived.operation, to, audit)
    warnings = warnings_of(reading.volume)
    return Exported(report.warned(warnings).with_details(**derived.details), reading.refusals)


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


def export_image(path: Path, to: Export, compute: Compute) -> Exported:
    """Process an image file, and write the result, and its uncertainty, in the file's format.

    Its padding is put back. Raises LdctError as `write_image` does.
    """
    try:
        found = read_padded(path, air=to.air)
    except Unreadable as fault:
        return Exported(None, [fault.refusal(path)])
    volume = found.volume
    derived = compute(volume)
    result = replace(volume, image_hu=derived.image_hu)
    name = f"{result_name(path, file_stem(derived.operation))}{written_suffix(path)}"
    write_image(result, to.folder / name, padding=found.padding)
    if derived.uncertainty is not None:
        stem = f"{file_stem(derived.operation)}-uncertainty"
        beside = to.folder / f"{result_name(path, stem)}{written_suffix(path)}"
        write_image(replace(volume, image_hu=derived.uncertainty.deviation_hu), beside)
    details = {"clipped_pixels": 0, "warnings": warnings_of(volume), **derived.details}
    return Exported(ExportReport(to.folder.name, len(volume.image_hu), details), [])


def file_stem(operation: Operation) -> str:
    """The part of a file name that says what was done, from the operation's label."""
    return operation.label.lower().replace(" ", "-").replace("%", "")


def publish(
    processed: Iterable[Slice],
    source: Series,
    operation: Operation,
    to: Export,
    audit: SeriesAudit | None = None,
    uncertainty: SeriesUncertainty | None = None,
) -> ExportReport:
    """Write and check the derived series, and what goes with it, while `processed` is computed.

    audit: asked of each slice before it is written, for its header and the report. uncertainty:
    collects that of each slice, for an object of its own. Raises LdctError as derived_series does;
    then nothing is written.
    """
    with ExitStack() as stack:

        def writer(folder: Path, write: SliceWriter) -> SeriesWriter:
            """A series' writer, which is finished when the stack is left."""
            return stack.enter_context(
                derived_series(
                    folder, source, operation, write, syntax=to.syntax, enhanced=to.enhanced
                )
            )

        # Left in reverse: the derived series is in its place before what goes with it.
        map_name = f"{to.folder.name}-uncertainty"
        map_folder = uncertainty and stack.enter_context(
            replacing_folder(to.folder.with_name(map_name))
        )
        beside = to.folder.with_name(f"{to.folder.name}-difference")
        difference = writer(beside, write_slice_difference) if to.difference else None
        derived = writer(to.folder, write_slice)
        writers = [derived] if difference is None else [derived, difference]
        _write_slices(processed, writers, audit, uncertainty)
        rows: dict[str, object] = {}
        if uncertainty and map_folder:
            rows["uncertainty"] = uncertainty.write(source, operation, map_folder, map_name)
    if audit is not None:
        rows["audit"] = audit.to_dict()
    if difference is not None:
        rows["difference"] = _checked(difference.published).to_dict()
    return _report_of(derived.published).with_details(**rows)


def _write_slices(
    processed: Iterable[Slice],
    writers: list[SeriesWriter],
    audit: SeriesAudit | None,
    uncertainty: SeriesUncertainty | None,
) -> None:
    """Write each slice of every series while the next ones are computed."""

    def write_all(one: Slice) -> None:
        """Write a slice of every series."""
        if audit is not None:
            one = audit.audited(one)
        if uncertainty is not None:
            uncertainty.add(one)
        for series in writers:
            series.write(one)

    for _ in map_in_order(write_all, processed, threads=1, max_ahead=MAX_UNWRITTEN_SLICES):
        pass


def _checked(series: PublishedSeries) -> ExportReport:
    return ExportReport(series.folder, series.instances, {"check": series.check.to_dict()})


def _report_of(series: PublishedSeries) -> ExportReport:
    details = {
        "clipped_pixels": series.clipped.pixels,
        "largest_clipped_excess_hu": series.clipped.max_excess_hu,
        "check": series.check.to_dict(),
    }
    report = ExportReport(series.folder, series.instances, details)
    return report.warned(list(series.remarks)) if series.remarks else report
