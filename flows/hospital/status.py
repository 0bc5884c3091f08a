"""`ldct status`: the scheduled runs and the ledger, on one page without patients' data."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from prefect.client.orchestration import get_client
from prefect.client.schemas import FlowRun, filters, sorting
from prefect.settings import temporary_settings

from flows.hospital.ledger_status import SHOWN_OF_A_STATE, LedgerStatus, status
from flows.hospital.local_server import configured, running
from flows.hospital.named import hospital_file
from pipeline.core.errors import ConfigError
from pipeline.pacs.settings.hospital import Pacs
from pipeline.pacs.work.item import State, WorkItem

#: On the deployments of `ldct schedule`, and so on their runs.
TAG = "ldct-schedule"
RUNS = 20
JOBS = ("nightly", "retry", "retrain")
_OUTCOMES = {"COMPLETED": "ran", "CANCELLED": "skipped", "FAILED": "failed", "CRASHED": "failed"}
_MESSAGES = {
    "Deployment concurrency limit reached.": "the previous run had not ended",
    "Runner is shutting down.": "ended with `ldct schedule`; the next run goes on",
}
_WAITS_FOR = {
    State.HELD: "until ldct pacs release",
    State.REJECTED: "ended, by a reader",
    State.DEAD: "until ldct retry",
}


@dataclass(frozen=True)
class ScheduledRun:
    """A run of a job of `ldct schedule`. due: local time. message: why it was skipped or failed."""

    job: str
    due: str
    outcome: str
    seconds: int
    message: str

    @classmethod
    def of(cls, run: FlowRun, zone: ZoneInfo) -> ScheduledRun:
        """From Prefect's record of a run that has begun or was skipped."""
        state, due = run.state, run.expected_start_time
        assert state is not None
        assert due is not None
        message = state.message or ""
        return cls(
            job=next((tag for tag in run.tags if tag in JOBS), run.name),
            due=due.astimezone(zone).strftime("%Y-%m-%d %H:%M %Z"),
            outcome=_OUTCOMES.get(state.type.value, str(state.name).lower()),
            seconds=round(run.total_run_time.total_seconds()),
            message=_MESSAGES.get(message, message),
        )

    def to_dict(self) -> dict[str, Any]:
        """As `ldct status --json` has it; `told` is the former name of `message`."""
        return {**asdict(self), "told": self.message}


@dataclass(frozen=True)
class HospitalStatus:
    """runs: newest first; None where no Prefect server answers."""

    runs: list[ScheduledRun] | None
    ledger: LedgerStatus

    def to_dict(self) -> dict[str, Any]:
        """As `ldct status --json` has it."""
        runs = None if self.runs is None else [run.to_dict() for run in self.runs]
        return {"runs": runs, **self.ledger.to_dict()}


def hospital_status(hospital: Path, settings: Pacs, *, everything: bool = False) -> HospitalStatus:
    """The latest scheduled runs of a hospital's YAML, and what its ledger says; of open work
    everything, or the oldest of each state."""
    zone = settings.schedule.time_zone if settings.schedule else "UTC"
    return HospitalStatus(scheduled_runs(hospital, zone), status(settings, everything=everything))


def scheduled_runs(hospital: Path, time_zone: str) -> list[ScheduledRun] | None:
    """The latest RUNS runs of the jobs of `ldct schedule HOSPITAL`, newest first; None without a
    server. Other hospitals' jobs on the same server are not among them."""
    api = running()
    if api is None:
        return None
    with temporary_settings(api.settings), get_client(sync_client=True) as client:
        scheduled = client.read_deployments(
            deployment_filter=filters.DeploymentFilter(
                tags=filters.DeploymentFilterTags(all_=[TAG])
            )
        )
        own = [row.id for row in scheduled if _is_of(row.parameters, hospital)]
        if not own:
            return []
        runs = client.read_flow_runs(
            deployment_filter=filters.DeploymentFilter(id=filters.DeploymentFilterId(any_=own)),
            flow_run_filter=filters.FlowRunFilter(
                state=filters.FlowRunFilterState(
                    name=filters.FlowRunFilterStateName(not_any_=["Scheduled"])
                ),
            ),
            sort=sorting.FlowRunSort.EXPECTED_START_TIME_DESC,
            limit=RUNS,
        )
    return [ScheduledRun.of(run, ZoneInfo(time_zone)) for run in runs]


def _is_of(parameters: dict[str, Any], hospital: Path) -> bool:
    """Whether a job with these parameters, which hold a hospital's path or name, is this one's."""
    try:
        return hospital_file(str(parameters.get("hospital"))).absolute() == hospital.absolute()
    except ConfigError:
        return False


def page(report: HospitalStatus) -> str:
    """The status as Markdown, for a terminal and for Prefect's artifacts."""
    counts = ", ".join(f"{state}: {number}" for state, number in report.ledger.counts.items())
    parts = [f"Series: {counts}", _work_table(report.ledger.open)]
    if report.ledger.unmatched:
        parts.insert(
            1,
            f"Unmatched: {report.ledger.unmatched} received series match no rule; they are kept in "
            "the folder `unmatched`",
        )
    if report.ledger.not_shown:
        parts.append(
            f"{report.ledger.not_shown} more are not shown: of each state the "
            f"{SHOWN_OF_A_STATE} oldest are; `ldct status HOSPITAL --all` shows every one"
        )
    if report.runs is None:
        known = configured()
        where = (
            f"no Prefect server answers at {known.url}"
            if known
            else "`ldct schedule` is not running here"
        )
        parts.insert(0, f"Scheduled runs: unknown, {where}")
    elif report.runs:
        names = ("due", "job", "outcome", "seconds", "message")
        rows = [[getattr(run, name) for name in names] for run in report.runs]
        parts.insert(0, _table(names, rows))
    return "\n\n".join(part for part in parts if part)


def _work_table(works: list[WorkItem]) -> str:
    if not works:
        return ""
    head = ("id", "state", "when", "model", "instances", "failures", "note")
    rows = [[w.id, w.state, _when(w), w.model, w.instances, w.failures, w.note] for w in works]
    return _table(head, rows)


def _when(work: WorkItem) -> str:
    """What a piece of work waits for."""
    wait_s = work.due - time.time()
    due = f"due in {wait_s:.0f} s" if wait_s > 0 else "due now"
    return _WAITS_FOR.get(work.state, due)


def _table(head: tuple[str, ...], rows: Iterable[list[Any]]) -> str:
    """A Markdown table whose columns are padded, so that it can be read at a terminal."""
    cells = [list(head), *([str(cell).replace("|", "/") for cell in row] for row in rows)]
    widths = [max(len(row[n]) for row in cells) for n in range(len(head))]
    lines = ["| " + " | ".join(c.ljust(w) for c, w in zip(r, widths, strict=True)) + " |"
             for r in cells]  # fmt: skip
    return "\n".join([lines[0], "|" + "|".join("-" * (w + 2) for w in widths) + "|", *lines[1:]])
