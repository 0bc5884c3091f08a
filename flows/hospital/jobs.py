"""The jobs of `ldct schedule`: what Prefect runs at their times.

Their only parameter is the path of the hospital's YAML. Each ends with the page of `ldct status`
as an artifact.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

from prefect import flow
from prefect.artifacts import create_markdown_artifact
from prefect.client.orchestration import get_client
from prefect.client.schemas import filters
from prefect.client.schemas.objects import State, StateType
from prefect.concurrency.sync import concurrency
from prefect.runtime import deployment, flow_run

from flows.commands import ingest_flow, train_flow
from flows.hospital.pacs import pull_series, work_flow
from flows.hospital.status import page, whole_status
from flows.runtime.private_errors import redact_errors
from flows.tracking.promotion import Wish, promote
from flows.tracking.registry import Registry
from pipeline.config.run import load_config
from pipeline.config.schedule import Schedule, required
from pipeline.core.errors import ConfigError, LdctError
from pipeline.core.malloc import keep_freed_memory
from pipeline.dicom.read.ingest_options import IngestOptions
from pipeline.pacs.hospital_config import Pacs, load_pacs

#: The limit, on the Prefect server, of jobs that compute at once.
GPU = "ldct-gpu"
#: A run that begins so much later than it was due is one that was missed.
MISSED = timedelta(minutes=10)
PAGE = "ldct-status"


@flow(name="ldct-nightly")
@redact_errors("ldct-nightly")
def nightly(hospital: str) -> State | None:
    """Ask the source which series are wanted, and work off what is due."""

    def job(settings: Pacs) -> None:
        if settings.source:
            pull_series(settings, dry_run=False)
        _work_off(settings)

    return _run(hospital, job)


@flow(name="ldct-retry")
@redact_errors("ldct-retry")
def retry(hospital: str) -> State | None:
    """Work off what waits after a failure; dead letters wait for a person."""
    return _run(hospital, _work_off)


@flow(name="ldct-retrain")
@redact_errors("ldct-retrain")
def retrain(hospital: str) -> State | None:
    """Train anew on what the store holds now, evaluate, register; promote where asked to."""
    return _run(hospital, _retrain)


def _run(hospital: str, job: Callable[[Pacs], None]) -> State | None:
    keep_freed_memory()  # a worker of Prefect's starts here, not at the command line
    settings = load_pacs(Path(hospital))
    why = _reason_to_skip(required(settings.schedule))
    if why:
        return State(type=StateType.CANCELLED, name="Skipped", message=why)
    try:
        job(settings)
    except _Nothing as nothing:
        return State(type=StateType.CANCELLED, name="Skipped", message=str(nothing))
    finally:
        create_markdown_artifact(page(whole_status(settings)), key=PAGE)
    return None


class _Nothing(Exception):
    """There was nothing to do."""


def _reason_to_skip(schedule: Schedule) -> str:
    """Of a run that was missed while the service was away: it is made up for once, if at all."""
    due, now = flow_run.scheduled_start_time, datetime.now(UTC)
    if now - due < MISSED:
        return ""
    if not schedule.catch_up:
        return "missed, and schedule.catch_up is off"
    with get_client(sync_client=True) as client:
        since = client.read_flow_runs(
            deployment_filter=filters.DeploymentFilter(
                id=filters.DeploymentFilterId(any_=[deployment.id])
            ),
            flow_run_filter=filters.FlowRunFilter(
                start_time=filters.FlowRunFilterStartTime(after_=due),
                state=filters.FlowRunFilterState(
                    type=filters.FlowRunFilterStateType(
                        any_=[StateType.COMPLETED, StateType.RUNNING]
                    )
                ),
            ),
        )
    others = [run for run in since if str(run.id) != flow_run.id]
    return "missed; a later run has done its work" if others else ""


def _work_off(settings: Pacs) -> None:
    with _gpu():
        work_flow(settings, lambda work: None, forever=False)


def _retrain(settings: Pacs) -> None:
    asked = required(settings.schedule).retrain
    if asked is None:
        raise ConfigError("schedule.retrain: not in the hospital's YAML")
    if asked.data:
        ingest_flow(asked.data, asked.store, IngestOptions())
    with _gpu():
        trained = train_flow(load_config(asked.config), asked.store, unless_known=True)
    if "known" in trained:
        raise _Nothing(f"{trained['known']} was trained on the same data by the same configuration")
    if asked.promote:
        model = trained["model"]
        try:
            promote(Registry.default(), Wish(model["name"], model["version"], "scheduled training"))
        except LdctError:
            return  # refused, for reasons that are with the version


@contextmanager
def _gpu() -> Iterator[None]:
    """Wait for a slot, and hold it. A training outlives a server that is away for a while."""
    with concurrency(GPU, occupy=1, strict=True, raise_on_lease_renewal_failure=False):
        yield
