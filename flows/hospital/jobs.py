"""The jobs of `ldct schedule`, which Prefect runs at their times.

Their only parameter is the hospital: the name or path of its YAML (flows.hospital.named). Each ends
with the page of `ldct status` as an artifact.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from prefect import flow
from prefect.artifacts import create_markdown_artifact
from prefect.client.orchestration import get_client
from prefect.client.schemas import filters
from prefect.client.schemas.objects import State, StateType
from prefect.concurrency.sync import concurrency
from prefect.runtime import deployment, flow_run

from flows.hospital.alerts import AlertWatch, failed_job, look_once
from flows.hospital.auditing import auditing
from flows.hospital.ledger_status import log_step
from flows.hospital.named import hospital_file
from flows.hospital.pull import pull_series
from flows.hospital.status import hospital_status, page
from flows.hospital.work import work_flow
from flows.runtime.json_log import use_json_everywhere
from flows.runtime.lost_signals import raise_lost_signals_again
from flows.runtime.private_errors import redact_errors
from flows.runtime.progress import log
from pipeline.config.schedule import Schedule, required
from pipeline.core.crash_file import crash_file
from pipeline.core.errors import ConfigError, LdctError
from pipeline.core.library_warnings import catch_library_warnings
from pipeline.core.malloc import keep_freed_memory
from pipeline.core.verdicts import Verdict
from pipeline.pacs.settings.hospital import Pacs, load_pacs

if TYPE_CHECKING:
    from pipeline.config.run import RunConfig

#: The limit, on the Prefect server, of jobs that compute at once.
GPU = "ldct-gpu"
#: A run that begins so much later than it was due counts as missed.
MISSED = timedelta(minutes=10)
PAGE = "ldct-status"


@flow(name="ldct-nightly")
@redact_errors("ldct-nightly")
def nightly(hospital: str) -> State | None:
    """Search the source for series that the rules select, and do all work that is due."""

    def job(settings: Pacs) -> None:
        if settings.source:
            pull_series(settings, dry_run=False)
        # Without the job `retry`, what failed must not wait for the next night.
        _do_due_work(settings, retries=required(settings.schedule).retry is None)

    return _run(hospital, job)


@flow(name="ldct-retry")
@redact_errors("ldct-retry")
def retry(hospital: str) -> State | None:
    """Do all work that is due again after a failure; dead letters wait for `ldct retry`."""
    return _run(hospital, _do_due_work)


@flow(name="ldct-retrain")
@redact_errors("ldct-retrain")
def retrain(hospital: str) -> State | None:
    """Train on what the store holds now, evaluate and register; promote where configured."""
    return _run(hospital, _retrain)


def _run(hospital: str, job: Callable[[Pacs], None]) -> State | None:
    prepare_process()
    path = hospital_file(hospital)
    settings = load_pacs(path)
    reason = _reason_to_skip(required(settings.schedule))
    if reason:
        return State(type=StateType.CANCELLED, name="Skipped", message=reason)

    def reported() -> None:
        with _reported(settings, flow_run.flow_name), auditing(settings):
            job(settings)

    try:
        return state_of(reported)
    finally:
        create_markdown_artifact(page(hospital_status(path, settings)), key=PAGE)


def prepare_process() -> None:
    """What the command line does at its start: a worker of Prefect's starts here."""
    keep_freed_memory()
    catch_library_warnings()
    raise_lost_signals_again()
    use_json_everywhere()


def state_of(job: Callable[[], None]) -> State | None:
    """Do a job; the state that its run ends in, None for Prefect's own."""
    try:
        job()
    except _NothingToDo as nothing:
        return State(type=StateType.CANCELLED, name="Skipped", message=str(nothing))
    except _GateFailed as missed:
        return State(type=StateType.COMPLETED, name="Gate failed", message=str(missed))
    return None


@contextmanager
def _reported(settings: Pacs, name: str) -> Iterator[None]:
    """Log how a job ended, an error by its type and the file that has its words; send alerts.

    One that SIGTERM ended, as at the end of `ldct schedule`, has neither failed nor succeeded.
    """
    began, outcome = time.monotonic(), "interrupted"
    why: dict[str, str] = {}
    try:
        yield
        outcome = "ran"
    except (_NothingToDo, _GateFailed) as end:
        outcome = end.outcome
        raise
    except Exception as error:
        outcome = "failed"
        why = {"error": type(error).__name__, "details": str(crash_file(error))}
        raise
    finally:
        seconds = round(time.monotonic() - began, 3)
        line = f"{name}: {outcome} in {seconds:.0f} s {why.get('details', '')}"
        log("job", line, {"job": name, "outcome": outcome, "seconds": seconds, **why})
        ended = failed_job(name.removeprefix("ldct-"), datetime.now(UTC) if why else None)
        look_once(AlertWatch(settings, lambda: [] if outcome == "interrupted" else [ended]))


class _NothingToDo(Exception):
    """There was nothing to do."""

    outcome = "skipped"


class _GateFailed(Exception):
    """All was done, but the new version did not pass its gate: which limits it missed."""

    outcome = "gate failed"


def _reason_to_skip(schedule: Schedule) -> str:
    """Why this run is skipped, or "". Of missed runs only one is made up for, if configured."""
    due, now = flow_run.scheduled_start_time, datetime.now(UTC)
    if now - due < MISSED:
        return ""
    if not schedule.catch_up:
        return "missed, and schedule.catch_up is off"
    with get_client(sync_client=True) as client:
        later = client.read_flow_runs(
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
    others = [run for run in later if str(run.id) != flow_run.id]
    return "missed; a later run has done its work" if others else ""


def _do_due_work(settings: Pacs, *, retries: bool = False) -> None:
    work_flow(settings, log_step, forever=False, retries=retries, slot=gpu_slot)


def _retrain(settings: Pacs) -> None:
    retraining = required(settings.schedule).retrain
    if retraining is None:
        raise ConfigError("schedule.retrain: not in the hospital's YAML")
    from flows.ingest import ingest_flow
    from pipeline.config.load import load_config
    from pipeline.dicom.read.ingest_options import IngestOptions

    if retraining.data:
        ingest_flow(retraining.data, retraining.store, IngestOptions())
    promote_as = "scheduled training" if retraining.promote else None
    train_new(load_config(retraining.config), retraining.store, promote_as)


def train_new(config: RunConfig, store: Path, promote_as: str | None) -> None:
    """Train, evaluate and register; promote_as: for which reason it is promoted where it beats the
    champion. A job of `state_of`, which says where the version was known already, or did not pass
    its gate."""
    # What trains takes seconds to import, which the other jobs do not need.
    from flows.commands import train_flow
    from flows.tracking.promotion import Wish, promote
    from flows.tracking.registry import Registry

    with gpu_slot():
        trained = train_flow(config, store, unless_known=True)
    if "known" in trained:
        raise _NothingToDo(
            f"{trained['known']} was trained on the same data by the same configuration"
        )
    if promote_as:
        model = trained["model"]
        with suppress(LdctError):  # refused; the reasons are kept with the version
            promote(Registry.default(), Wish(model["name"], model["version"], promote_as))
    gate = Verdict.from_dict(trained["gate"])
    if not gate.passed:
        raise _GateFailed(gate.reasons)


@contextmanager
def gpu_slot() -> Iterator[None]:
    """Wait for a slot and hold it. A training goes on while the server does not answer."""
    with concurrency(GPU, occupy=1, strict=True, raise_on_lease_renewal_failure=False):
        yield
