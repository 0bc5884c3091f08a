"""Figures and health of `ldct schedule`: whether its jobs are looked for, and how they ended."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from uuid import UUID

import httpx
from prefect.client.orchestration import get_client
from prefect.client.schemas import FlowRun, filters, sorting
from prefect.client.schemas.objects import StateType
from prefect.exceptions import PrefectException
from prefect.settings import temporary_settings
from prometheus_client import CollectorRegistry
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from flows.hospital.alerts import Condition, failed_job
from flows.hospital.local_server import Api
from flows.hospital.prometheus import LedgerFigures, ledger_fault
from flows.hospital.watched import Health, Part
from pipeline.pacs.settings.hospital import Pacs

#: As Prefect has it while a process asks for a deployment's runs: within the last minute.
READY = "READY"
NIGHTLY = "nightly"
#: How much longer than two nights none may have ended well.
GRACE = timedelta(hours=1)
_SUCCEEDED = (StateType.COMPLETED,)
_ENDED = (StateType.COMPLETED, StateType.FAILED, StateType.CRASHED)


@dataclass(frozen=True)
class JobRecord:
    """How a job's runs ended. failed: when the last one did, where that failed."""

    job: str
    succeeded: datetime | None
    failed: datetime | None


@dataclass
class ScheduleWatch(Part):
    """Asks Prefect of the jobs of one hospital. deployments: their ids by job.

    nightly_every: the longest time between two nights.
    """

    settings: Pacs
    api: Api
    deployments: Mapping[str, UUID]
    nightly_every: timedelta = timedelta(days=1)
    name: str = "schedule"
    registry: CollectorRegistry = field(default_factory=CollectorRegistry)

    def __post_init__(self) -> None:
        self.began = datetime.now(UTC)
        self.registry.register(LedgerFigures(self.settings.work))
        self.registry.register(_JobFigures(self))

    def health(self) -> Health:
        """Whether Prefect answers, and a process looks for every job's runs."""
        ledger = ledger_fault(self.settings.work)
        facts: dict[str, object] = {"ledger": ledger or "ok"}
        try:
            idle = self._jobs_not_looked_for()
        except (httpx.HTTPError, PrefectException) as error:
            return Health(False, {**facts, "prefect": type(error).__name__})
        return Health(not ledger and not idle, {**facts, "prefect": "ok", "not_looked_for": idle})

    def records(self) -> list[JobRecord]:
        """How each job's last runs ended. Raises httpx.HTTPError and PrefectException."""
        return [self._record(job, own) for job, own in self.deployments.items()]

    def conditions(self) -> list[Condition]:
        """Of each job, whether its last run failed, and of the night whether it is missing.

        None where Prefect does not answer.
        """
        with suppress(httpx.HTTPError, PrefectException):
            return [
                failed_job(one.job, one.failed or self._missing_since(one))
                for one in self.records()
            ]
        return []

    def _missing_since(self, record: JobRecord) -> datetime | None:
        """Now, where no night has ended well for two nights, as when one hangs; else None."""
        now = datetime.now(UTC)
        is_late = now - (record.succeeded or self.began) > 2 * self.nightly_every + GRACE
        return now if record.job == NIGHTLY and is_late else None

    def _jobs_not_looked_for(self) -> list[str]:
        with temporary_settings(self.api.settings), get_client(sync_client=True) as client:
            found = {job: client.read_deployment(own) for job, own in self.deployments.items()}
        return [job for job, row in found.items() if row.status != READY]

    def _record(self, job: str, own: UUID) -> JobRecord:
        last, success = self._last(own, _ENDED), self._last(own, _SUCCEEDED)
        failed = last.end_time if last and last.state_type not in _SUCCEEDED else None
        return JobRecord(job, success.end_time if success else None, failed)

    def _last(self, own: UUID, ends: tuple[StateType, ...]) -> FlowRun | None:
        """The run of a deployment that ended last, of those that ended in one of these ways."""
        ended = filters.FlowRunFilter(
            state=filters.FlowRunFilterState(
                type=filters.FlowRunFilterStateType(any_=list(ends)),
            )
        )
        of_job = filters.DeploymentFilter(id=filters.DeploymentFilterId(any_=[own]))
        with temporary_settings(self.api.settings), get_client(sync_client=True) as client:
            runs = client.read_flow_runs(
                flow_run_filter=ended,
                deployment_filter=of_job,
                sort=sorting.FlowRunSort.END_TIME_DESC,
                limit=1,
            )
        return runs[0] if runs else None


class _JobFigures(Collector):
    """The gauges of jobs; none where Prefect does not answer.

    Their label is `name`: Prometheus has a label `job` of its own.
    """

    def __init__(self, watch: ScheduleWatch) -> None:
        self.watch = watch

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Ask Prefect (prometheus_client calls this at each scrape)."""
        failed = GaugeMetricFamily("ldct_job_failed", "1 if its last run failed.", labels=["name"])
        succeeded = GaugeMetricFamily(
            "ldct_job_last_success_timestamp_seconds",
            "When a run last ended well, since 1970.",
            labels=["name"],
        )
        with suppress(httpx.HTTPError, PrefectException):
            for record in self.watch.records():
                failed.add_metric([record.job], float(record.failed is not None))
                if record.succeeded:
                    succeeded.add_metric([record.job], record.succeeded.timestamp())
        yield failed
        yield succeeded
