"""The figures of a denoised series, measured again on what was written, as a DICOM SR."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from pipeline.core.atomic_files import replacing_folder
from pipeline.core.errors import LdctError
from pipeline.core.types import Json
from pipeline.dicom.derived.measurement_report import (
    FILE,
    SeriesFigures,
    write_measurement_report,
)
from pipeline.dicom.derived.write import Operation
from pipeline.dicom.read.series import Series, find_series
from pipeline.dicom.read.volume import read_slices
from pipeline.export.output_record import STRUCTURED_REPORT
from pipeline.inference.drift import LINE, UNLIKE
from pipeline.inference.traits import measured_slices, noise_hu


def write_series_report(
    source: Series, folder: Path, operation: Operation, details: Mapping[str, object]
) -> Json:
    """Write `folder`-report with an SR on the derived series in `folder`; its row of the report.

    source: the slices that were denoised. details: of the derived series' row, with drift, dose and
    audit where they are known. Raises LdctError as write_measurement_report does, and where the
    folder's images are not one series, one for each slice of the source.
    """
    found = find_series(folder).series
    if len(found) != 1 or len(found[0].instances) != len(source.instances):
        raise LdctError(f"{folder.name} is not one series with an image for each of the source's")
    (derived,) = found
    figures = _figures(source, derived, details)
    beside = folder.with_name(f"{folder.name}{STRUCTURED_REPORT}")
    with replacing_folder(beside) as partial:
        write_measurement_report(figures, source, derived, operation, partial)
    return {
        "folder": beside.name,
        "file": FILE,
        "noise_before_hu": figures.noise_before_hu,
        "noise_after_hu": figures.noise_after_hu,
    }


def _figures(source: Series, derived: Series, details: Mapping[str, object]) -> SeriesFigures:
    numbers = measured_slices(len(source.instances))
    before = read_slices(source, numbers)
    after = read_slices(derived, numbers)
    dose, audit = _section(details, "dose"), _section(details, "audit")
    drift = details.get(UNLIKE)
    comments = [details.get(LINE), audit.get("summary"), dose.get("why")]
    return SeriesFigures(
        _rounded(noise_hu(before, before.image_hu)),
        _rounded(noise_hu(before, after.image_hu)),
        tuple(int(number) for number in numbers),
        dose_ratio=dose.get("dose_ratio"),
        audited=audit.get("measured"),
        flagged=len(audit["flagged"]) if "flagged" in audit else None,
        unlike=bool(drift) if isinstance(drift, list) else None,
        comments=tuple(_ascii(str(text)) for text in comments if text),
    )


def _section(details: Mapping[str, object], name: str) -> Json:
    found = details.get(name)
    return found if isinstance(found, dict) else {}


def _rounded(value_hu: float | None) -> float | None:
    return None if value_hu is None else round(value_hu, 2)


def _ascii(text: str) -> str:
    """What training saw may be named in another character set than the source's."""
    return text.encode("ascii", "replace").decode("ascii")
