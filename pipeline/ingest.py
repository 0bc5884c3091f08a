"""The first stage: find series, check them, build HU volumes, store them, tell what happened."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipeline.dicom.findings import Refusal, SeriesRefusedError, by_fate
from pipeline.dicom.read import patient_key, read_volume, series_key
from pipeline.dicom.series import Series, find_series
from pipeline.errors import NothingUsableError
from pipeline.store import Store

Progress = Callable[[str, int, int], None]


@dataclass
class IngestReport:
    """What went where. `sources` leads back to the source files, in memory only: the store
    and the report know series by their keys."""

    root: Path
    series: list[dict[str, Any]] = field(default_factory=list)
    refusals: list[Refusal] = field(default_factory=list)
    sources: dict[str, Series] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        return {"series": self.series, **by_fate(self.refusals, self.root)}


def ingest(
    root: Path,
    store: Store,
    *,
    key: bytes,
    progress: Progress = lambda what, done, total: None,
) -> IngestReport:
    """Store every usable CT series below `root`; one series is in memory at a time.

    Raises NothingUsableError where nothing could be used, naming the commonest reason.
    """
    discovery = find_series(root, lambda files: progress("reading headers", files, 0))
    report = IngestReport(root, refusals=list(discovery.refusals))
    for done, series in enumerate(discovery.series, start=1):
        try:
            _store_series(series, store, key, report)
        except SeriesRefusedError as refused:
            report.refusals.extend(refused.refusals)
        progress("storing series", done, len(discovery.series))
    if not report.series:
        raise NothingUsableError(nothing_usable(report.root, report.refusals))
    return report


def _store_series(series: Series, store: Store, key: bytes, report: IngestReport) -> None:
    reading = read_volume(series)
    report.refusals.extend(reading.refusals)
    name, patient = series_key(series, key), patient_key(series, key)
    is_new = store.add(reading.volume, key=name, patient=patient)
    report.sources[name] = reading.series
    report.series.append(
        {
            "series": name,
            "patient": patient,
            "slices": len(reading.series.instances),
            "new": is_new,
            "description": {
                k: v
                for k, v in reading.volume.provenance.items()
                if k in ("Manufacturer", "ConvolutionKernel", "KVP", "SliceThickness")
            },
            "warnings": list(reading.series.warnings),
        }
    )


def nothing_usable(root: Path, refusals: list[Refusal]) -> str:
    """One line: why nothing below `root` could be used."""
    if not refusals:
        return f"{root} is empty: no file to read"
    reasons = [refusal.reason for refusal in refusals]
    commonest = Counter(reasons).most_common(1)[0][0]
    return (
        f"no usable CT series in {root}: {len(refusals)} files refused, "
        f"{reasons.count(commonest)} of them: {commonest}"
    )
