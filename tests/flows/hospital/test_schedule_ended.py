"""`ldct schedule` as it is started: away for a while, slower than its times, and killed.

The kills take minutes: 100 by `pytest -m slow tests/flows/hospital/test_schedule_ended.py`.
"""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import httpx
import mlflow
import pydicom
import pytest
from helpers.flows import identity_config, register
from helpers.schedule_site import (
    ScheduleSite,
    TeamServer,
    team_server,
    wait_until,
)
from prefect.concurrency.services import ConcurrencySlotAcquisitionWithLeaseService
from prefect.concurrency.sync import concurrency
from prefect.settings import temporary_settings

from flows.hospital.jobs import GPU
from flows.runtime.prefect_server import free_port
from flows.tracking.registry import Registry
from pipeline.pacs.work.ledger import Ledger

LIMIT = ("Cancelled", "Deployment concurrency limit reached.")
OFF = ("Skipped", "missed, and schedule.catch_up is off")
ENDED = ("Cancelled", "Runner is shutting down.")
MADE_UP_FOR = ("Skipped", "missed; a later run has done its work")


@pytest.fixture(scope="module")
def team(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TeamServer]:
    with team_server(tmp_path_factory.mktemp("team")) as server:
        yield server


@contextmanager
def gpu_in_use(team: TeamServer) -> Iterator[None]:
    """By another process. Prefect keeps the server's address for all that this process does later
    with a slot of the same name, until what asks for slots is ended."""
    with temporary_settings(team.api.settings):
        with concurrency(GPU, occupy=1, strict=True):
            yield
        ConcurrencySlotAcquisitionWithLeaseService.instance(frozenset([GPU])).drain()


@pytest.fixture
def ended(own_registry: None) -> Iterator[list[ScheduleSite]]:
    """The sites of a test, of which no process is left behind."""
    sites: list[ScheduleSite] = []
    register(identity_config())
    yield sites
    for site in sites:
        site.stop()


def counts(site: ScheduleSite) -> dict[str, int]:
    if not (site.root / "work").is_dir():
        return {"sent": 0}
    ledger = Ledger(site.root / "work")
    try:
        return ledger.counts()
    finally:
        ledger.close()


def require_each_once(site: ScheduleSite) -> None:
    """Every series has one derived series, whole, and was sent once."""
    images = [pydicom.dcmread(path) for path in (site.root / "results").rglob("*.dcm")]
    assert Counter(image.SeriesDescription for image in images) == {
        f"AI DENOISED identity v1 | Chest {number}": 3 for number in range(1, site.series + 1)
    }
    assert all(image.pixel_array.size for image in images)  # whole, or it raises
    ledger = Ledger(site.root / "work")
    for work in ledger.all():
        states = [state for state, _ in ledger.events(work.id)]
        assert states.count("sent") == 1, states
    assert len(ledger.all()) == site.series
    ledger.close()


def test_a_service_that_was_away_and_a_job_that_takes_longer_than_its_interval(
    tmp_path, team, ended
):
    site = ScheduleSite(tmp_path / "site", team)
    ended.append(site)
    site.start()
    site.wait_served()
    assert site.end() == 0
    site.add_series()

    site.write(catch_up=False)
    missed = [site.ask_for("nightly", hours_ago=hours) for hours in (72, 48, 24)]
    site.start()
    wait_until(lambda: all(site.state(run) in (LIMIT, OFF) for run in missed), lambda: "they ran")
    assert OFF in [site.state(run) for run in missed]
    assert counts(site)["sent"] == 0
    assert site.end() == 0
    site.wait_gone()

    site.write(catch_up=True)
    missed = [site.ask_for("nightly", hours_ago=hours) for hours in (72, 48, 24)]
    site.start()

    def is_made_up_for() -> bool:
        """By one run."""
        states = [site.state(run) for run in missed]
        skipped = [state in (LIMIT, MADE_UP_FOR) for state in states]
        return sorted(skipped) == [False, True, True] and "Completed" in dict(states)

    wait_until(is_made_up_for, lambda: str([site.state(run) for run in missed]))
    require_each_once(site)

    with gpu_in_use(team):
        site.add_series()
        long = site.ask_for("nightly")  # it waits for the GPU, and so goes on
        site.wait_for(long, "Running")
        meanwhile = [site.ask_for("nightly") for _ in range(2)]
        wait_until(
            lambda: [site.state(run) for run in meanwhile] == [LIMIT, LIMIT], lambda: "they ran"
        )
        assert site.state(long)[0] == "Running"
    site.wait_for(long, "Completed")
    site.wait_for(site.ask_for("nightly"), "Completed")
    require_each_once(site)

    with gpu_in_use(team):
        under_way = site.ask_for("nightly")
        site.wait_for(under_way, "Running")
        assert {*site.listening()} == {"0100007F"}  # loopback alone
        assert site.end() == 0
        site.wait_gone()
    assert site.state(under_way) == ENDED
    assert site.log().count("ldct schedule: ended by SIGTERM") == 3, "each time it was ended"
    assert "Traceback" not in site.log()


@pytest.mark.slow
@pytest.mark.parametrize("wanted", [60])
def test_killed_at_any_moment_on_a_team_s_server(tmp_path, team, ended, wanted):
    site = ScheduleSite(tmp_path / "site", team, retrain=wanted > 5)
    ended.append(site)
    kill_and_go_on(site, wanted, random.Random(5))


@pytest.mark.slow
@pytest.mark.parametrize("wanted", [40])
def test_killed_at_any_moment_with_the_server_that_it_started(tmp_path, ended, wanted):
    site = ScheduleSite(tmp_path / "site", None, retrain=True)
    ended.append(site)
    kill_and_go_on(site, wanted, random.Random(6))


@pytest.mark.slow
def test_its_own_server_killed_alone(tmp_path, ended):
    """It says so within seconds and ends with 1, so that systemd starts it again; nothing of it
    says that all is well meanwhile, and what was under way is done once."""
    site = ScheduleSite(tmp_path / "site", None)
    ended.append(site)
    port = free_port("127.0.0.1")
    site.add_series(3)
    site.start("--metrics", str(port))
    wait_until(lambda: health(port) == 200 and bool(site.jobs()), site.log)
    site.kill_server()
    killed, answers = time.monotonic(), []
    while site.is_running and time.monotonic() < killed + 60:
        answers.append(health(port))
        time.sleep(0.1)
    assert site.ended(1) == 1
    assert time.monotonic() - killed < 30, "with a job to end first"
    assert {*answers} <= {503, None}, answers
    assert site.log().count("has ended (by SIGKILL); start `ldct schedule` again") == 1
    assert "Traceback" not in site.log()
    site.wait_gone()
    site.expire_leases()
    run_until_done(site, series=1)
    require_nothing_left(site)
    require_each_once(site)


def health(port: int) -> int | None:
    """What /health answers; None where nothing does."""
    try:
        return httpx.get(f"http://127.0.0.1:{port}/health", timeout=30).status_code
    except httpx.HTTPError:
        return None


def kill_and_go_on(site: ScheduleSite, wanted: int, chance: random.Random) -> None:
    began = time.monotonic()
    run_until_done(site, series=1)
    longest_s = 1.2 * (time.monotonic() - began)
    assert site.end() == 0
    kills = processes = 0
    while kills < wanted:
        if not site.is_running:
            site.start()
        site.add_series()
        if site.retrain and all_trained(site):
            site.next_training()
        site.ask_for_jobs()
        time.sleep(chance.uniform(0, longest_s))
        killed = site.kill(chance)
        kills, processes = kills + bool(killed), processes + killed
        if not site.is_running:
            site.wait_gone()
        site.expire_leases()
        print(f"{kills} kills, {processes} processes, {counts(site)}", flush=True)
    site.age_leftovers()
    run_until_done(site, series=1)
    require_nothing_left(site)
    require_each_once(site)
    versions = Counter(version.name for version in Registry.default().list())
    assert versions["tiny"] == site.trainings, "each once"


def all_trained(site: ScheduleSite) -> bool:
    return len(Registry.default().list()) == 1 + site.trainings  # beside the model in use


def run_until_done(site: ScheduleSite, *, series: int) -> None:
    """Without a kill, until all that there is was sent, and the last training is registered."""
    site.add_series(series)
    if not site.is_running:
        site.start()
    site.ask_for_jobs()

    def is_done() -> bool:
        if counts(site)["sent"] == site.series and all_trained(site):
            return True
        if chance.random() < 0.05:  # what was asked for may have been skipped
            site.ask_for_jobs()
        return False

    chance = random.Random(0)
    wait_until(is_done, lambda: f"{counts(site)}, {site.log()}")


def require_nothing_left(site: ScheduleSite) -> None:
    """After it has ended in good order: no process, no temporary file, no run that is RUNNING."""
    assert site.end() == 0
    site.wait_gone()
    assert site.leftovers() == []
    client = Registry.default().client
    experiments = [row.experiment_id for row in client.search_experiments()]
    runs = client.search_runs(experiments, run_view_type=mlflow.entities.ViewType.ALL)
    assert "RUNNING" not in {run.info.status for run in runs}
