"""The held-back series as a run measured them: simulated low dose, and the model's result on it."""

from __future__ import annotations

from pathlib import Path

from flows import stages
from flows.runtime.batch import Batch
from pipeline.config.run import RunConfig
from pipeline.config.task_runs import DenoiseRun
from pipeline.core.types import Json
from pipeline.degradations.digest import degradation_digest
from pipeline.export.low_dose import LowDoseSeries, OtherGridError
from pipeline.ingest.ingest import IngestReport
from pipeline.io.discover import files_of
from pipeline.models.adapters.card import LoadedModel
from pipeline.store.store import Store

FOLDER = "low-dose"


def export_low_dose_series(
    loaded: LoadedModel,
    ingested: IngestReport,
    store: Store,
    config: RunConfig,
    keys: list[str],
    out: Path,
    batch: Batch,
) -> list[Json]:
    """Write OUT/low-dose/...: rows with "input" and "output", or with the "reason" why there is
    nothing; none for a run without a simulated input.

    keys: series whose normal dose was exported. batch: gets those that fail.
    """
    if not isinstance(config, DenoiseRun) or config.degradation is None:
        return []
    rows: list[Json] = []
    for key in keys:
        folder = f"{FOLDER}/{key}-{_dose_of(config)}"
        source = ingested.sources[key]
        with batch.together([{"series": key, "folder": folder}], files_of(source)):
            try:
                made = stages.low_dose_stage(loaded, source, store, key, config, out / folder)
            except OtherGridError as error:
                rows.append({"series": key, "reason": str(error)})
            else:
                rows.append({"series": key, **_written(made, out, batch)})
    return rows


def _written(made: LowDoseSeries, out: Path, batch: Batch) -> Json:
    row: Json = {}
    for kind, exported in made._asdict().items():
        batch.refusals.extend(exported.refusals)
        if exported.report is not None:
            folder = f"{FOLDER}/{exported.report.folder}"
            batch.uids.add(out / folder)
            row[kind] = {**exported.report.to_dict(), "folder": folder}
    return row


def _dose_of(config: DenoiseRun) -> str:
    """For a folder's name: the dose, and which degradation and draw it is."""
    assert config.degradation is not None
    fraction = config.degradation.args.get("dose_fraction")
    dose = f"dose{fraction:g}" if fraction else "degraded"
    return f"{dose}-{degradation_digest(config, 0)[:8]}"
