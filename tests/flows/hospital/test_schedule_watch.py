"""What is seen of the jobs of `ldct schedule`: health, metrics, alerts, and slots that are held."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
from helpers.schedule import DAILY, hospital, nightly_job, pending, slots_held
from prefect.client.orchestration import get_client
from prefect.states import Completed, Failed
from prometheus_client import CollectorRegistry, generate_latest

from flows.hospital import deployments as served
from flows.hospital import local_server
from flows.hospital.alerts import failed_job
from flows.hospital.schedule_watch import GRACE, ScheduleWatch
from flows.hospital.watched import Health
from pipeline.config.schedule import Schedule
from pipeline.pacs.settings.hospital import load_pacs
from pipeline.pacs.work.ledger import Ledger


@pytest.mark.usefixtures("prefect_server")
def test_slots_that_nobody_gives_back_are_given_back(tmp_path):
    _, deployment = nightly_job(hospital(tmp_path, nightly=DAILY))
    pending(deployment)
    assert slots_held(deployment) == 1
    served._free_slots([deployment.id])
    assert slots_held(deployment) == 0


@pytest.mark.usefixtures("prefect_server")
def test_what_became_of_jobs_is_seen_by_health_metrics_and_alerts(tmp_path):
    path = hospital(tmp_path, nightly=DAILY)
    _, deployment = nightly_job(path)
    api = local_server.running()
    assert api is not None
    watch = ScheduleWatch(load_pacs(path), api, {"nightly": deployment.id})
    Ledger(load_pacs(path).work)
    assert watch.health() == Health(  # no process looks for its runs
        False, {"ledger": "ok", "prefect": "ok", "not_looked_for": ["nightly"]}
    )
    assert watch.conditions() == [failed_job("nightly", None)]
    for state, failed in ((Completed(), False), (Failed(message="x"), True), (Completed(), False)):
        with get_client(sync_client=True) as client:
            run = client.create_flow_run_from_deployment(deployment.id)
            client.set_flow_run_state(run.id, state, force=True)
        (condition,) = watch.conditions()
        assert bool(condition.items) is failed
        text = generate_latest(watch.registry).decode()
        assert f'ldct_job_failed{{name="nightly"}} {float(failed)}' in text
        assert 'ldct_job_last_success_timestamp_seconds{name="nightly"}' in text
    late = replace(watch, nightly_every=-GRACE / 2, registry=CollectorRegistry())
    assert late.conditions()[0].name == "failed nightly"
    assert late.conditions()[0].items

    gone = replace(
        watch, api=local_server.Api("http://127.0.0.1:1/api"), registry=CollectorRegistry()
    )
    assert gone.health().facts["prefect"] == "ConnectError"
    assert gone.conditions() == []
    assert "ldct_job_failed{" not in generate_latest(gone.registry).decode()


def test_how_long_a_night_may_be_missing_is_its_schedule_s():
    weekly = Schedule(time_zone="UTC", nightly="0 1 * * 1", retry=None)
    assert served._nightly_every(weekly) == timedelta(days=7)
    weekdays = Schedule(time_zone="UTC", nightly="0 1 1,2 * *", retry=None)
    assert served._nightly_every(weekdays) >= timedelta(days=26)
    assert served._nightly_every(Schedule(time_zone="UTC", nightly=None)) == timedelta(days=1)
