"""A hospital with a schedule, and its nightly job on the Prefect server of the test."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import Deployment
from prefect.deployments.runner import RunnerDeployment
from prefect.states import Pending

from flows.hospital import jobs as scheduled
from flows.hospital.deployments import deployments
from pipeline.config.schedule import Schedule

DAILY = "30 2 * * *"


def hospital(folder: Path, **schedule: Any) -> Path:
    path = folder / "hospital.yaml"
    described = {
        "model": "identity@champion",
        "work": str(folder / "work"),
        "rules": [{"name": "any"}],
        "send": {"dimse": {"host": "127.0.0.1", "port": 1, "called": "X"}},
        "schedule": {"time_zone": "Europe/Zurich", **schedule},
    }
    path.write_text(yaml.safe_dump(described, sort_keys=False))
    return path


def nightly_job(path: Path) -> tuple[RunnerDeployment, Deployment]:
    """The nightly job of a hospital, without its times: the test says when."""
    (job,) = deployments(path, Schedule(time_zone="UTC", retry=None))
    job.schedules = []
    with get_client(sync_client=True) as client:
        client.upsert_global_concurrency_limit_by_name(scheduled.GPU, 1)
        return job, client.read_deployment(job.apply())


def slots_held(deployment: Deployment) -> int:
    with get_client(sync_client=True) as client:
        limit = client.read_deployment(deployment.id).global_concurrency_limit
    return limit.active_slots


def pending(deployment: Deployment) -> None:
    """A run that has its job's slot, of a process that is no more."""
    with get_client(sync_client=True) as client:
        run = client.create_flow_run_from_deployment(deployment.id)
        client.set_flow_run_state(run.id, Pending())
