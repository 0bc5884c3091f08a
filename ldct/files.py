"""From memory to files: derived series, and the store that trainings read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from ldct.segmentation import Segmentation
from ldct.series import CTSeries
from pipeline.config.load import parse_intake
from pipeline.core.atomic_files import replacing_folder
from pipeline.core.errors import ConfigError, LdctError
from pipeline.core.pseudonyms import installation_key
from pipeline.core.refusals import SeriesRefusedError
from pipeline.core.volume import Volume
from pipeline.dicom.derived.encode import UNCOMPRESSED
from pipeline.dicom.derived.write import Operation
from pipeline.dicom.read.series import Series
from pipeline.export.labels import SEG, export_labels, require_form
from pipeline.export.series import Derived, Export, ExportReport, export_whole, file_stem
from pipeline.io.discover import Source
from pipeline.io.volume_writer import write_image
from pipeline.labels.files import write_labels
from pipeline.labels.grid import LabelGrid

if TYPE_CHECKING:
    from pipeline.ingest.ingest import IngestReport


def ingest(
    source: str | Path, store: str | Path, *, intake: Mapping[str, str] | None = None
) -> IngestReport:
    """Check every CT volume below `source` and keep it in HU in the folder `store`, under keyed
    hashes instead of names, as `ldct ingest` does.

    intake: choices such as {"air": "any"}, see docs/configuration.md. `.series` of the result says
    what was stored, `.refusals` which files were not and why. Raises NothingUsableError, with the
    commonest reason, where nothing could be used, and ConfigError for an unknown choice.
    """
    from pipeline.ingest.ingest import ingest as ingest_into
    from pipeline.store.store import Store

    options = parse_intake([f"{name}={choice}" for name, choice in (intake or {}).items()])
    return ingest_into(Path(source), Store(Path(store)), key=installation_key(), intake=options)


def write_derived(
    made: CTSeries | Segmentation,
    folder: str | Path,
    *,
    compress: str = UNCOMPRESSED,
    enhanced: bool = False,
    difference: bool = False,
    labels: str = SEG,
) -> ExportReport:
    """Write what `denoise`, `simulate` or `segment` made in `folder`: of DICOM as a derived series
    or an object of labels, of an image file in its format, of an array as NIfTI.

    A derived series says DERIVED, what was done and from which images (PS3.3 C.7.6.1.1.2, C.12.4),
    has UIDs of its own, the source's patient and geometry, and is checked before `folder` appears.
    HU are rounded to values that the source can store. compress: none, j2k, jpegls or rle, all
    without loss. enhanced: one multi-frame object. difference: also result minus source, in
    `folder`-difference. An uncertainty that `denoise` was asked for goes into `folder`-uncertainty,
    a DICOM Parametric Map (PS3.3 A.75), or into an image file in `folder`. labels: of a DICOM
    series' structures: seg, labelmap, rtstruct or nifti.

    Raises ConfigError for a series as it was read, SeriesRefusedError where the source cannot be
    read or referred to, and LdctError where the check fails or `folder` holds something else.
    """
    to = Export(Path(folder), compress, difference, require_form(labels), enhanced=enhanced)
    if isinstance(made, Segmentation):
        return _write_labels(made, to)
    if made.operation is None:
        raise ConfigError("the series is as it was read: denoise or simulate it before writing it")
    if made.source is None:
        return _write_array(made, made.operation, to)
    report = _write_series(made, made.source, made.operation, to)
    if made.uncertainty is None or not isinstance(made.source, Series):
        return report
    beside = to.folder.with_name(f"{to.folder.name}-uncertainty")
    with replacing_folder(beside) as partial:
        row = made.uncertainty.write(made.source, made.operation, partial, beside.name)
    return report.with_details(uncertainty=row)


def _write_series(made: CTSeries, source: Source, operation: Operation, to: Export) -> ExportReport:
    def derived(volume: Volume) -> Derived:
        """What was made, for the volume as its files have it now."""
        if volume.image_hu.shape != made.image_hu.shape:
            raise LdctError(
                f"the source's files changed since they were read: now {volume.image_hu.shape}, "
                f"then {made.image_hu.shape} [slices, rows, columns]"
            )
        return Derived(made.image_hu, operation, dict(made.details), made.uncertainty)

    # A slice's audit compares the result with the source: not where its dose was simulated first.
    audited = "audit" in made.details and "calibration" not in made.details
    exported = export_whole(source, to, derived, audited=audited)
    if exported.report is None:
        raise SeriesRefusedError(exported.refusals)
    return exported.report


def _write_array(made: CTSeries, operation: Operation, to: Export) -> ExportReport:
    """An array has no header that DICOM could be derived from."""
    if to != Export(to.folder, labels=to.labels):
        raise ConfigError("an array is written as NIfTI: compress, enhanced and difference are not")
    to.folder.mkdir(parents=True, exist_ok=True)
    stem = file_stem(operation)
    write_image(made.volume, to.folder / f"{stem}.nii.gz")
    if made.uncertainty is not None:
        off = replace(made.volume, image_hu=made.uncertainty.deviation_hu)
        write_image(off, to.folder / f"{stem}-uncertainty.nii.gz")
    return ExportReport(to.folder.name, len(made.image_hu), dict(made.details))


def _write_labels(made: Segmentation, to: Export) -> ExportReport:
    """The structures in the form that was asked for."""
    if to != Export(to.folder, labels=to.labels):
        raise ConfigError("labels take neither compress nor enhanced nor difference")
    source = made.series.source
    if source is None:
        path = to.folder / f"{file_stem(made.operation)}.nii.gz"
        to.folder.mkdir(parents=True, exist_ok=True)
        write_labels(made.labelmap, LabelGrid.of_volume(made.series.volume), path)
        return ExportReport(to.folder.name, 1, {"structures": len(made.names)})
    return export_labels(made.labelmap, source, to.folder, made.operation, form=to.labels)
