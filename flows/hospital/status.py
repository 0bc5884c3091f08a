"""One page: the scheduled runs, what the ledger holds, what failed and why. Nobody's name."""

from __future__ import annotations

import time
from collections.abc import Iterable
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

import httpx
from prefect.client.orchestration import get_client
from prefect.client.schemas import filters, sorting
from prefect.settings import PREFECT_API_URL, temporary_settings

from flows.hospital.pacs import status
from pipeline.pacs.hospital_config import Pacs

#: Where `ldct schedule` starts a server, and `ldct status` asks, unless PREFECT_API_URL is set.
LOCAL_API = "http://127.0.0.1:4200/api"
#: On the deployments of `ldct schedule`, and so on their runs.
TAG = "ldct-schedule"
RUNS = 20
JOBS = ("nightly", "retry", "retrain")
_RAN = {"COMPLETED": "ran", "CANCELLED": "skipped", "FAILED": "failed", "CRASHED": "failed"}
_TOLD = {"Deployment concurrency limit reached.": "the one before was not done yet"}


def whole_status(settings: Pacs) -> dict[str, Any]:
    """{"runs", "counts", "open"}; runs is None where no Prefect server answers."""
    zone = settings.schedule.time_zone if settings.schedule else "UTC"
    return {"runs": scheduled_runs(zone), **status(settings)}


def scheduled_runs(time_zone: str) -> list[dict[str, Any]] | None:
    """The latest runs of the jobs of `ldct schedule`, newest first."""
    url = api_url()
    if not reachable(url):
        return None
    with temporary_settings({PREFECT_API_URL: url}), get_client(sync_client=True) as client:
        runs = client.read_flow_runs(
            flow_run_filter=filters.FlowRunFilter(
                tags=filters.FlowRunFilterTags(all_=[TAG]),
                state=filters.FlowRunFilterState(
                    name=filters.FlowRunFilterStateName(not_any_=["Scheduled"])
                ),
            ),
            sort=sorting.FlowRunSort.EXPECTED_START_TIME_DESC,
            limit=RUNS,
        )
    return [_row(run, ZoneInfo(time_zone)) for run in runs]


def api_url() -> str:
    return PREFECT_API_URL.value() or LOCAL_API


def reachable(url: str) -> bool:
    """Whether a Prefect server answers there."""
    try:
        return httpx.get(f"{url}/health", timeout=2).is_success
    except httpx.HTTPError:
        return False


def page(report: dict[str, Any]) -> str:
    """The report as Markdown, for people at a terminal and on Prefect's page."""
    counts = ", ".join(f"{state}: {number}" for state, number in report["counts"].items())
    parts = [f"Series: {counts}", _series(report["open"])]
    if report["runs"] is None:
        parts.insert(0, f"Scheduled runs: unknown, no Prefect server answers at {api_url()}")
    elif report["runs"]:
        names = ("due", "job", "outcome", "seconds", "told")
        parts.insert(0, _table(names, [[run[name] for name in names] for run in report["runs"]]))
    return "\n\n".join(part for part in parts if part)


def _series(rows: list[dict[str, Any]]) -> str:
    if not rows:
        return ""
    names = ("id", "state", "when", "model", "instances", "failures", "note")
    return _table(names, [[(row | {"when": _when(row)})[name] for name in names] for row in rows])


def _when(row: dict[str, Any]) -> str:
    """What a series waits for."""
    wait_s = row["due"] - time.time()
    due = f"due in {wait_s:.0f} s" if wait_s > 0 else "due now"
    return {"held": "until ldct pacs release", "dead": "until ldct retry"}.get(row["state"], due)


def _table(head: tuple[str, ...], rows: Iterable[list[Any]]) -> str:
    """Markdown, its columns as wide as they need to be to be read as they are."""
    cells = [list(head), *([str(cell).replace("|", "/") for cell in row] for row in rows)]
    widths = [max(len(row[n]) for row in cells) for n in range(len(head))]
    lines = ["| " + " | ".join(c.ljust(w) for c, w in zip(r, widths, strict=True)) + " |"
             for r in cells]  # fmt: skip
    return "\n".join([lines[0], "|" + "|".join("-" * (w + 2) for w in widths) + "|", *lines[1:]])


def _row(run: Any, zone: ZoneInfo) -> dict[str, Any]:
    told = run.state.message or ""
    return {
        "job": next((tag for tag in run.tags if tag in JOBS), run.name),
        "due": _local(run.expected_start_time, zone),
        "outcome": _RAN.get(run.state.type.value, run.state.name.lower()),
        "seconds": round(run.total_run_time.total_seconds()),
        "told": _TOLD.get(told, told),
    }


def _local(at: datetime, zone: ZoneInfo) -> str:
    return at.astimezone(zone).strftime("%Y-%m-%d %H:%M %Z")
