"""Jobs at their times: Prefect's own reckoning, runs that were missed or overlap, and the page."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import anyio
import httpx
import pytest
import yaml
from helpers.images import run_data, tiny_store, tiny_train
from helpers.pacs import series_of, write_ct
from helpers.schedule import DAILY, hospital, nightly_job, pending, slots_held
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import Deployment, StateType
from prefect.deployments.runner import RunnerDeployment
from prefect.runner import Runner
from prefect.settings import (
    PREFECT_API_AUTH_STRING,
    PREFECT_API_URL,
    PREFECT_CLIENT_MAX_RETRIES,
    PREFECT_HOME,
    PREFECT_RUNNER_POLL_FREQUENCY,
    temporary_settings,
)
from prefect.states import Scheduled

from flows.hospital import jobs as scheduled
from flows.hospital import local_server, serving
from flows.hospital.deployments import deployments, next_run_times, prefect_server
from flows.hospital.ledger_status import LedgerStatus
from flows.hospital.schedule_watch import READY
from flows.hospital.status import HospitalStatus, page, scheduled_runs
from flows.runtime.prefect_server import PrefectServer, free_port
from flows.tracking.registry import Registry
from pipeline.config.schedule import Schedule
from pipeline.core.errors import ConfigError, LdctError
from pipeline.pacs.settings.hospital import load_pacs
from pipeline.pacs.work.ledger import Ledger

ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"time_zone": "Europe/Zurch"}, "no time zone Europe/Zurch"),
        ({"nightly": "1 2 3"}, "schedule.nightly"),
        ({"nigthly": DAILY}, "schedule.nigthly"),
        ({"retrain": {"config": "c"}}, "schedule.retrain.store"),
    ],
)
def test_a_wrong_schedule_is_named(tmp_path, settings, message):
    with pytest.raises(ConfigError, match=message):
        load_pacs(hospital(tmp_path, **settings))


def test_a_time_that_prefect_does_not_take_is_named():
    with pytest.raises(ConfigError, match=r"nightly: '99 \* \* \* \*' is no cron time"):
        next_run_times(Schedule(time_zone="UTC", nightly="99 * * * *"))


@pytest.mark.parametrize(
    ("after", "expected"),
    [  # summer time begins: 02:30 does not exist; it ends: 02:30 comes twice
        ("2026-03-27T12:00+01:00", ["03-28T02:30+01:00", "03-29T01:30+01:00", "03-30T02:30+02:00"]),
        ("2026-10-24T12:00+02:00", ["10-25T02:30+02:00", "10-26T02:30+01:00", "10-27T02:30+01:00"]),
    ],
)
def test_once_a_night_by_the_hospitals_clock(after, expected):
    schedule = Schedule(time_zone="Europe/Zurich", nightly=DAILY, retry=None)
    found = next_run_times(schedule, after=datetime.fromisoformat(after))
    assert found == {"nightly": [f"2026-{time}" for time in expected]}


def test_the_command_shows_the_times(ldct, tmp_path):
    shown = ldct("schedule", hospital(tmp_path, retry=None), "--dry-run", "--json")
    assert shown.code == 0, shown.err
    assert [time[11:16] for time in shown.json["next"]["nightly"]] == ["01:00"] * 3
    (tmp_path / "hospital.yaml").write_text(
        (tmp_path / "hospital.yaml").read_text().partition("schedule:")[0]
    )
    assert "does not say when" in ldct("schedule", tmp_path / "hospital.yaml").err


def missed(deployment: Deployment, hours: list[int]) -> None:
    with get_client(sync_client=True) as client:
        for ago in hours:
            due = datetime.now(UTC) - timedelta(hours=ago)
            client.create_flow_run_from_deployment(
                deployment.id, state=Scheduled(scheduled_time=due), tags=deployment.tags
            )


@pytest.mark.usefixtures("prefect_server")
def test_two_schedules_of_the_same_file_name_are_two(tmp_path):
    chosen = Schedule(time_zone="UTC")
    made = []
    for site in ("north", "south", "north"):
        path = tmp_path / site / "a-hospital-of-two-sites.yaml"
        made.append({job.flow_name: job.apply() for job in deployments(path, chosen)})
    assert made[0] == made[2]  # started again, each finds its own
    assert not set(made[0].values()) & set(made[1].values())
    with get_client(sync_client=True) as client:
        kept = [client.read_deployment(found["ldct-nightly"]) for found in made[:2]]
    assert [Path(row.parameters["hospital"]).parent.name for row in kept] == ["north", "south"]
    assert kept[0].name == "a-hospital-of-two-sites"
    assert kept[1].name.startswith("a-hospital-of-two-sites-")


async def serve_once(job: RunnerDeployment) -> None:
    runner = Runner(pause_on_shutdown=False)
    await runner.aadd_deployment(job)
    await runner.start(run_once=True)


@pytest.mark.parametrize(("retry", "waits"), [(None, True), ("30 * * * *", False)])
def test_without_the_job_retry_the_night_makes_the_other_attempts(
    tmp_path, monkeypatch, retry, waits
):
    asked: list[bool] = []
    monkeypatch.setattr(scheduled, "work_flow", lambda *_, retries, **__: asked.append(retries))
    monkeypatch.setattr(scheduled, "_run", lambda path, job: job(load_pacs(Path(path))))
    scheduled.nightly.fn(str(hospital(tmp_path, retry=retry)))
    assert asked == [waits]


@pytest.mark.usefixtures("prefect_server", "own_registry")
def test_missed_runs_are_made_up_for_once(tmp_path, monkeypatch):
    """Three nights without the service: one run; the page shows all."""
    path = hospital(tmp_path, nightly=DAILY)
    paths = write_ct(tmp_path / "in", 1)
    settings = load_pacs(path)
    ledger = Ledger(settings.work)
    ledger.add(series_of(paths), "models:/none/1", origin="test", rule="any", due=0)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), *filter(None, sys.path)]))
    job, deployment = nightly_job(path)
    (tmp_path / "other").mkdir()
    missed(nightly_job(hospital(tmp_path / "other"))[1], [24])  # on the same server
    missed(deployment, [72, 48, 24])
    anyio.run(serve_once, job)
    runs = scheduled_runs(path, "UTC")
    assert sorted((run.outcome, run.message) for run in runs) == [
        ("ran", ""),
        ("skipped", "the previous run had not ended"),
        ("skipped", "the previous run had not ended"),
    ]
    (work,) = ledger.all()
    assert "not moved its files" in work.note  # it worked the ledger off, in its own process

    # A fourth, that was submitted after the one was done.
    monkeypatch.setenv("PREFECT__RUNTIME__DEPLOYMENT__ID", str(deployment.id))
    due = datetime.now(UTC) - timedelta(hours=2)
    monkeypatch.setattr(scheduled.flow_run, "scheduled_start_time", due, raising=False)
    assert "a later run has done its work" in scheduled._reason_to_skip(settings.schedule)
    off = settings.schedule.model_copy(update={"catch_up": False})
    assert "catch_up is off" in scheduled._reason_to_skip(off)
    soon = datetime.now(UTC) + timedelta(hours=1)
    monkeypatch.setattr(scheduled.flow_run, "scheduled_start_time", soon, raising=False)
    assert scheduled._reason_to_skip(off) == ""

    report = HospitalStatus(runs, LedgerStatus(ledger.counts(), [work]))
    shown = page(report) + json.dumps(report.to_dict())
    assert [run["told"] for run in report.to_dict()["runs"]] == [run.message for run in runs]
    with get_client(sync_client=True) as client:
        artifacts = client.request("POST", "/artifacts/filter", json={}).json()
    kept = [row["data"] for row in artifacts if row["key"] == scheduled.PAGE]
    assert any(work.id in each for each in kept)
    for secret in ("SECRET-4711", "Geheim", "826.0.1.3680043"):
        assert secret not in shown + json.dumps(artifacts)


@pytest.mark.usefixtures("prefect_server", "own_registry")
def test_retraining_evaluates_registers_and_skips_what_it_knows(tmp_path):
    store = tiny_store(tmp_path / "store")
    config = tmp_path / "config.yaml"
    config.write_text(yaml.safe_dump(run_data(train=tiny_train(iterations=1))))
    retrain = {"config": str(config), "store": str(store.path), "promote": True}
    path = hospital(tmp_path, retrain=retrain)
    with get_client(sync_client=True) as client:
        client.upsert_global_concurrency_limit_by_name(scheduled.GPU, 1)
    first = scheduled.retrain(str(path), return_state=True)
    assert (first.type, first.name) == (StateType.COMPLETED, "Gate failed")
    assert "PSNR gain in window" in first.message
    (version,) = Registry.default().list()
    assert version.gate == "failed"  # one iteration denoises nothing: no champion of it
    assert version.aliases == []
    again = scheduled.retrain(str(path), return_state=True)
    assert (again.type, again.name) == (StateType.CANCELLED, "Skipped")
    assert "/1 was trained on the same data" in again.message
    assert len(Registry.default().list()) == 1


@pytest.fixture
def nothing_configured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Neither a server nor a note of one."""
    monkeypatch.setenv("PREFECT_HOME", str(tmp_path / "prefect"))
    with temporary_settings({PREFECT_API_URL: None, PREFECT_HOME: tmp_path / "prefect"}):
        yield


@pytest.mark.usefixtures("nothing_configured", "own_registry")
def test_a_server_of_its_own_runs_jobs_and_takes_them_from_nobody_else(tmp_path, monkeypatch):
    """Who may change a deployment's entrypoint runs code as this user."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), *filter(None, sys.path)]))
    path = hospital(tmp_path, nightly=DAILY)
    assert local_server.running() is None
    with prefect_server():
        api = local_server.running()
        assert api is not None
        assert api.url == PREFECT_API_URL.value()
        job, deployment = nightly_job(path)
        missed(deployment, [1])
        anyio.run(serve_once, job)
        runs = scheduled_runs(path, "UTC")
        assert [(run.outcome, run.message) for run in runs] == [("ran", "")]

        changed = {"entrypoint": "somebody.else:job", "pull_steps": []}
        address = f"{api.url}/deployments/{deployment.id}"
        for auth in (None, httpx.BasicAuth("ldct", "guessed")):
            assert httpx.patch(address, json=changed, auth=auth).status_code == 401
            assert httpx.get(address, auth=auth).status_code == 401
        page = {"Origin": "https://a.page.example", "Access-Control-Request-Method": "PATCH"}
        allowed = httpx.options(address, headers=page).headers
        assert "access-control-allow-origin" not in allowed
        with get_client(sync_client=True) as client:
            assert client.read_deployment(deployment.id).entrypoint == deployment.entrypoint

        with temporary_settings({PREFECT_API_URL: None, PREFECT_API_AUTH_STRING: None}):
            assert local_server.running() == api  # as `ldct status` finds it
            (note,) = tmp_path.glob("prefect/*.json")
            assert note.stat().st_mode & 0o077 == 0
            assert api.auth in note.read_text()
            assert api.auth not in repr(api)
            note.chmod(0o644)
            assert local_server.running() is None
            note.chmod(0o600)
            with prefect_server():  # a second `ldct schedule`
                assert PREFECT_API_URL.value() == api.url
    assert not api.answers()
    assert not list(tmp_path.glob("prefect/*.json"))


@pytest.mark.slow
@pytest.mark.usefixtures("nothing_configured", "own_registry")
def test_a_slot_of_a_run_that_died_with_the_server_is_given_back(tmp_path, monkeypatch):
    monkeypatch.setenv("PREFECT_SERVER_CONCURRENCY_INITIAL_DEPLOYMENT_LEASE_DURATION", "30")
    with prefect_server():
        _, deployment = nightly_job(hospital(tmp_path, nightly=DAILY))
        pending(deployment)
    with prefect_server():
        assert slots_held(deployment) == 1
        until = time.monotonic() + 120
        while slots_held(deployment):
            assert time.monotonic() < until, "the job is skipped for ever"
            time.sleep(1)


@pytest.mark.usefixtures("nothing_configured")
def test_a_server_that_refuses_us_is_not_used():
    """Another user's, on the port that is configured."""
    with prefect_server():
        url = PREFECT_API_URL.value()
        with temporary_settings({PREFECT_API_AUTH_STRING: "ldct:another"}):
            assert local_server.running() is None
            with pytest.raises(LdctError, match="PREFECT_API_AUTH_STRING"), prefect_server():
                pass
        assert PREFECT_API_URL.value() == url


@pytest.mark.slow
@pytest.mark.parametrize(
    ("settings", "away_s", "message"),
    [
        ({}, 3, "has not answered for 3 s"),
        # Prefect's own patience, which is longer unless it is set otherwise.
        ({PREFECT_CLIENT_MAX_RETRIES: 0, PREFECT_RUNNER_POLL_FREQUENCY: 1}, 600, "answers no more"),
    ],
)
@pytest.mark.usefixtures("nothing_configured")
def test_another_s_server_that_is_gone_ends_the_schedule_in_a_sentence(
    tmp_path, monkeypatch, settings, away_s, message
):
    monkeypatch.setattr(serving, "ASK_S", 1.0)
    monkeypatch.setattr(serving, "AWAY_S", away_s)
    server = PrefectServer.start("127.0.0.1", free_port("127.0.0.1"))
    before = signal.getsignal(signal.SIGTERM)
    try:
        assert server.wait_until_ready(300)
        api = local_server.Api(server.api_url, server.auth)
        with temporary_settings({**api.settings, **settings}):
            job, deployment = nightly_job(hospital(tmp_path, nightly=DAILY))
            threading.Thread(target=stopped_once_served, args=[server, api, deployment]).start()
            with pytest.raises(LdctError, match=f"{api.url} {message}"):
                serving.serve_until_ended([job], api)
    finally:
        server.stop()
    assert signal.getsignal(signal.SIGTERM) is before


def stopped_once_served(server, api, deployment) -> None:
    with temporary_settings(api.settings), get_client(sync_client=True) as client:
        while client.read_deployment(deployment.id).status != READY:
            time.sleep(0.2)
    server.stop()
