"""Flows that a person starts, from Prefect's UI or by `prefect deployment run`.

Their parameters are checked names (flows.hospital.named): no path, and nothing of a patient.
"""

# No `from __future__ import annotations`: Prefect would look the types up where redact_errors is.
from pathlib import Path

from prefect import flow
from prefect.artifacts import create_table_artifact
from prefect.client.schemas.objects import State

from flows.evaluate import evaluate_flow
from flows.hospital.jobs import gpu_slot, prepare_process, state_of, train_new
from flows.hospital.named import (
    ConfigName,
    HospitalName,
    ModelReference,
    StoreName,
    hospital_file,
    store_folder,
)
from flows.ingest import ingest_flow
from flows.runtime.private_errors import redact_errors
from flows.tracking.mlflow_run import flat
from pipeline.config.load import load_config
from pipeline.config.schedule import required
from pipeline.core.errors import ConfigError
from pipeline.core.types import Json
from pipeline.dicom.read.ingest_options import IngestOptions
from pipeline.evaluation.requests import EvaluateRequest
from pipeline.pacs.settings.hospital import load_pacs

FIGURES = "ldct-figures"


@flow(name="ldct-train-store", flow_run_name="train {config} on {store}")
@redact_errors("ldct-train-store")
def train(store: StoreName, config: ConfigName, promote: bool = False) -> State | None:
    """Train on what a store holds, evaluate and register; promote: if it beats the champion.

    Skipped where a version of these data and this configuration is registered already.
    """
    prepare_process()
    run, folder = load_config(Path(config)), store_folder(store)
    promote_as = "training on request" if promote else None
    return state_of(lambda: train_new(run, folder, promote_as))


@flow(name="ldct-evaluate-store", flow_run_name="evaluate {model} on {store}")
@redact_errors("ldct-evaluate-store")
def evaluate(
    store: StoreName, model: ModelReference, baselines: bool = False, phantoms: bool = False
) -> None:
    """Measure a model on the test patients of a store; the figures are the run's artifact."""
    prepare_process()
    asked = EvaluateRequest(model, store_folder(store), baselines=baselines, phantoms=phantoms)
    with gpu_slot():
        report = evaluate_flow(asked, None)
    create_table_artifact(key=FIGURES, table=_rows(report), description=report["model"])


@flow(name="ldct-ingest-hospital", flow_run_name="ingest for {hospital}")
@redact_errors("ldct-ingest-hospital")
def ingest(hospital: HospitalName) -> None:
    """Check and store what the hospital's YAML names as the data of its retraining."""
    prepare_process()
    retraining = required(load_pacs(hospital_file(hospital)).schedule).retrain
    if retraining is None or retraining.data is None:
        raise ConfigError("schedule.retrain.data: not in the hospital's YAML")
    ingest_flow(retraining.data, retraining.store, IngestOptions())


def _rows(report: Json) -> list[Json]:
    """Every number that was measured, by its dotted name."""
    measured = {name: report.get(name) or {} for name in ("figures", "baselines", "phantoms")}
    return [
        {"figure": name, "value": value}
        for name, value in flat(measured).items()
        if isinstance(value, int | float) and not isinstance(value, bool)
    ]
