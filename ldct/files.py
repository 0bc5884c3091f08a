"""From memory to files: derived series, and the store that trainings read."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from ldct.series import CTSeries
from pipeline.config.load import parse_intake
from pipeline.core.errors import ConfigError, LdctError
from pipeline.core.pseudonyms import installation_key
from pipeline.core.refusals import SeriesRefusedError
from pipeline.core.volume import Volume
from pipeline.dicom.derived.encode import UNCOMPRESSED

if TYPE_CHECKING:
    from pipeline.export.series import ExportReport
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
    series: CTSeries,
    folder: str | Path,
    *,
    compress: str = UNCOMPRESSED,
    enhanced: bool = False,
    difference: bool = False,
) -> ExportReport:
    """Write what `denoise` or `simulate` made as a derived DICOM series, or as an image file of
    the source's format, in `folder`.

    The series says DERIVED, what was done and from which images (PS3.3 C.7.6.1.1.2, C.12.4), has
    UIDs of its own, the source's patient and geometry, and is checked before `folder` appears. HU
    are rounded to values that the source can store. compress: none, j2k, jpegls or rle, all without
    loss. enhanced: one multi-frame object. difference: also result minus source, in
    `folder`-difference. Raises ConfigError for a series as it was read, SeriesRefusedError where
    the source cannot be read or referred to, and LdctError where the check fails or `folder` holds
    something else.
    """
    from pipeline.export.series import Derived, Export, export_whole

    operation = series.operation
    if operation is None:
        raise ConfigError("the series is as it was read: denoise or simulate it before writing it")

    def made(volume: Volume) -> Derived:
        """What was made, for the volume as its files have it now."""
        if volume.image_hu.shape != series.image_hu.shape:
            raise LdctError(
                f"the source's files changed since they were read: now {volume.image_hu.shape}, "
                f"then {series.image_hu.shape} [slices, rows, columns]"
            )
        return Derived(series.image_hu, operation, dict(series.details))

    to = Export(Path(folder), compress, difference, enhanced=enhanced)
    # A slice's audit compares the result with the source: not where its dose was simulated first.
    audited = "audit" in series.details and "calibration" not in series.details
    exported = export_whole(series.source, to, made, audited=audited)
    if exported.report is None:
        raise SeriesRefusedError(exported.refusals)
    return exported.report
