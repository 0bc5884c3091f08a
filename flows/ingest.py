"""`ldct ingest`: CT into a store, in a module that imports no torch."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from flows.runtime.orchestration import in_flow, stage_task
from flows.runtime.progress import StageProgress, log
from flows.runtime.run_log import log_facts
from pipeline.config.sections import Pairs
from pipeline.core.pseudonyms import installation_key
from pipeline.core.types import Json
from pipeline.dicom.read.ingest_options import IngestOptions
from pipeline.ingest.ingest import IngestReport, ingest
from pipeline.store.store import Store


def ingest_flow(
    source: Path,
    store_folder: Path,
    intake: IngestOptions,
    pairs: Pairs | None = None,
    *,
    as_flow: bool = False,
) -> Json:
    """Ingest into a store; returns the report. as_flow: see flows.runtime.orchestration.in_flow."""
    store = Store(store_folder)

    def body() -> Json:
        return ingest_stage(source, store, intake, pairs).to_dict()

    return in_flow("ldct-ingest", body, always=as_flow)


@stage_task("ingest")
def ingest_stage(
    source: Path, store: Store, intake: IngestOptions, pairs: Pairs | None = None
) -> IngestReport:
    """CT below a source into the store; `pairs` as in pipeline.ingest.ingest."""
    with StageProgress("ingest", unit="files") as stage:
        key = installation_key()
        report = ingest(source, store, key=key, intake=intake, pairs=pairs, progress=stage.show)
    return logged(report)


def logged(report: IngestReport) -> IngestReport:
    """The report, with its counts in the log."""
    refused = Counter(str(refusal.disposition) for refusal in report.refusals)
    patients = {row.patient for row in report.series}
    new = sum(row.new for row in report.series)
    counts = {"series": len(report.series), "new": new, "patients": len(patients)}
    if report.skipped:
        of = f"{report.skipped} of {len(report.series)} series"
        line = f"ingest: skipped {of}: the store has them from the same files"
        log("stage", line, {"stage": "ingest", "skipped": report.skipped})
    log_facts("ingest", {**counts, "skipped": report.skipped, "refused": refused})
    return report
