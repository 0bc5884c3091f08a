"""`ldct schedule`: the jobs of a hospital as Prefect deployments, served from this computer.

Prefect schedules the runs and starts each in a process of its own.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from uuid import UUID
from zoneinfo import ZoneInfo

import anyio
from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import GlobalConcurrencyLimitUpdate
from prefect.client.schemas.objects import ConcurrencyLimitConfig, ConcurrencyLimitStrategy
from prefect.deployments.runner import RunnerDeployment
from prefect.exceptions import ObjectNotFound
from prefect.schedules import Cron
from prefect.server.schemas.schedules import CronSchedule
from prefect.settings import PREFECT_HOME, temporary_settings
from prefect.types.entrypoint import EntrypointType

from flows.hospital import jobs as scheduled
from flows.hospital.alerts import alerting
from flows.hospital.auditing import auditing
from flows.hospital.local_server import Api, configured, running, started
from flows.hospital.schedule_watch import ScheduleWatch
from flows.hospital.serving import serve_until_ended
from flows.hospital.status import TAG
from flows.hospital.watched import watched
from pipeline.config.schedule import Schedule, required
from pipeline.core.errors import ConfigError, LdctError
from pipeline.pacs.settings.hospital import Pacs

#: How many of the next times of a job are shown.
NEXT = 3


def next_run_times(schedule: Schedule, *, after: datetime | None = None) -> dict[str, list[str]]:
    """The next times of each job, ISO 8601 with offset, as Prefect computes them.

    after: now by default. Raises ConfigError for an expression that is no cron time.
    """
    zone, start = ZoneInfo(schedule.time_zone), after or datetime.now(UTC)
    found = {}
    for job, cron in schedule.times().items():
        try:
            cron_schedule = CronSchedule(cron=cron, timezone=schedule.time_zone)
        except ValueError as error:
            raise ConfigError(f"schedule: {job}: {cron!r} is no cron time") from error
        dates = anyio.run(cron_schedule.get_dates, NEXT, start)
        found[job] = [date.astimezone(zone).isoformat(timespec="minutes") for date in dates]
    return found


def deployments(hospital: Path, schedule: Schedule) -> list[RunnerDeployment]:
    """A deployment for each job.

    One run of a job at a time: a run that is due during another one is skipped, since that one
    does the same work. Named after the YAML; asks the Prefect server for others of that name.
    """
    one_at_a_time = ConcurrencyLimitConfig(
        limit=1, collision_strategy=ConcurrencyLimitStrategy.CANCEL_NEW
    )
    jobs = {"nightly": scheduled.nightly, "retry": scheduled.retry, "retrain": scheduled.retrain}
    name = _free_name(hospital, [job.name for job in jobs.values()])
    return [
        jobs[job].to_deployment(
            name=name,
            schedule=Cron(cron, timezone=schedule.time_zone),
            concurrency_limit=one_at_a_time,
            parameters={"hospital": str(hospital.absolute())},
            tags=[TAG, job],
            entrypoint_type=EntrypointType.MODULE_PATH,
        )
        for job, cron in schedule.times().items()
    ]


def _free_name(hospital: Path, flow_names: Iterable[str]) -> str:
    """The YAML's stem, with a hash of its path where another YAML of that stem has the name."""
    own = str(hospital.absolute())
    with get_client(sync_client=True) as client:
        for flow_name in flow_names:
            try:
                found = client.read_deployment_by_name(f"{flow_name}/{hospital.stem}")
            except ObjectNotFound:
                continue
            if found.parameters.get("hospital") != own:
                return f"{hospital.stem}-{hashlib.sha256(own.encode()).hexdigest()[:8]}"
    return hospital.stem


def serve_jobs(hospital: Path, settings: Pacs, metrics: str | None = None) -> None:
    """Deploy the jobs and run them at their times until SIGTERM, or an interrupt.

    Their schedules stay active when this ends, so that missed runs are known (schedule.catch_up).
    metrics: where /metrics and /health are answered, see flows.hospital.watched. Raises LdctError
    where the server is gone.
    """
    schedule = required(settings.schedule)
    forgotten = configured() is None and running() is None and not _leases().exists()
    with prefect_server() as api:
        with get_client(sync_client=True) as client:
            client.upsert_global_concurrency_limit_by_name(scheduled.GPU, schedule.gpu_slots)
        jobs = deployments(hospital, schedule)
        ids = {job: made.apply() for job, made in zip(schedule.times(), jobs, strict=True)}
        if forgotten:
            _free_slots(ids.values())
        watch = ScheduleWatch(settings, api, ids, _nightly_every(schedule))
        with (
            watched(watch, metrics),
            alerting(settings, watch.registry, watch.conditions),
            auditing(settings, watch.registry, "ldct schedule"),
        ):
            serve_until_ended(jobs, api)


def _leases() -> Path:
    return Path(PREFECT_HOME.value()) / "concurrency_leases"


def _free_slots(deployments: Iterable[UUID]) -> None:
    """Give back what runs held when a server of ours was killed that kept in memory who holds what,
    as before LEASES: no other process would, and the jobs would be skipped for ever."""
    with get_client(sync_client=True) as client:
        limits = [client.read_deployment(each).global_concurrency_limit for each in deployments]
        for name in (scheduled.GPU, *(limit.name for limit in limits if limit)):
            client.update_global_concurrency_limit(
                name, GlobalConcurrencyLimitUpdate(active_slots=0)
            )


def _nightly_every(schedule: Schedule) -> timedelta:
    """The longest time between the next nights, a day without any."""
    nights = [datetime.fromisoformat(at) for at in next_run_times(schedule).get("nightly", [])]
    return max((later - one for one, later in pairwise(nights)), default=timedelta(days=1))


@contextmanager
def prefect_server() -> Iterator[Api]:
    """The server of PREFECT_API_URL, or one on loopback while the block lasts: another
    `ldct schedule`'s, or our own.

    Raises LdctError where the configured server does not answer, or ours does not start.
    """
    with ExitStack() as stack:
        api = running()
        if api is None:
            if known := configured():
                raise LdctError(
                    f"no Prefect server answers at {known.url} (PREFECT_API_URL), or it refuses "
                    "PREFECT_API_AUTH_STRING"
                )
            api = stack.enter_context(started())
        stack.enter_context(temporary_settings(api.settings))
        yield api
