"""A hospital's work folder and deployments, written by the version before, go on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from helpers.pacs import FolderPeer
from helpers.upgrade import FIXTURES, recorded, unpack
from prefect.client.orchestration import get_client
from prefect.flows import load_flow_from_entrypoint

from flows.hospital import jobs
from flows.hospital.deployments import deployments
from flows.hospital.ledger_status import release_work, retry_work
from flows.hospital.work import derive_with_models
from pipeline.pacs.settings.hospital import Pacs, load_pacs
from pipeline.pacs.steps.worker import Worker
from pipeline.pacs.work.folder import WorkFolder
from pipeline.pacs.work.item import State
from pipeline.pacs.work.ledger import Ledger

WORK = recorded("work-folder/expected.json")
ITEMS = WORK["items"]
OLD = recorded("prefect/deployments.json")["on_server"]
JOBS = {"ldct-nightly": jobs.nightly, "ldct-retry": jobs.retry, "ldct-retrain": jobs.retrain}


@pytest.fixture
def hospital(tmp_path: Path, own_registry: None) -> Path:
    """The old site's hospital.yaml, its registry the default one."""
    return unpack(tmp_path) / "hospital.yaml"


@pytest.fixture
def ledger(hospital: Path) -> Iterator[Ledger]:
    with closing(Ledger(load_pacs(hospital).work)) as opened:
        yield opened


def worker(hospital: Path, ledger: Ledger, settings: Pacs) -> Worker:
    source, destination = (
        FolderPeer(hospital.parent / f"pacs-{name}") for name in ("source", "destination")
    )
    return Worker(settings, ledger, derive_with_models(settings), {"": destination}, source)


def test_the_ledger_says_what_it_said(
    ldct: Callable[..., Any], hospital: Path, ledger: Ledger
) -> None:
    counts = {**WORK["counts"], "rejected": 0}  # a state that is new
    assert ledger.counts() == counts
    for item in ITEMS.values():
        work = ledger.get(item["id"])
        assert (str(work.state), work.stopped_in, work.failures, work.starts, work.note) == (
            item["state"], item["stopped_in"], item["failures"], item["starts"], item["note"],
        )  # fmt: skip
        assert [list(event) for event in ledger.events(item["id"])] == item["events"]
    shown = ldct("status", hospital, "--json")
    assert shown.code == 0, shown.err
    assert shown.json["counts"] == counts
    assert ldct("status", hospital).code == 0


def test_the_work_goes_on_to_its_end(hospital: Path, ledger: Ledger, prefect_server: None) -> None:
    settings = load_pacs(hospital)
    work = worker(hospital, ledger, settings)
    assert work.run_due() == 10
    assert len(retry_work(settings, [])) == 2
    (released,) = release_work(settings, [ITEMS["held"]["id"]], "it looks right")
    assert released.state is State.DERIVED
    assert work.run_due() == 3
    assert {state: count for state, count in ledger.counts().items() if count} == {
        "sent": 3, "derived": 5, "dead": 1, "superseded": 1,
    }  # fmt: skip
    # What a reader had accepted was sent; what could not be read before cannot be read now.
    for name, state in {"derived_failed_once": State.SENT, "dead_in_derived": State.SENT}.items():
        assert ledger.get(ITEMS[name]["id"]).state is state
    dead = ledger.get(ITEMS["dead_in_here"]["id"])
    assert "files refused" in dead.note
    assert (WorkFolder(settings.work).dead(dead.id) / "why.json").exists()


def old_deployments(hospital: Path) -> dict[str, Any]:
    """Put the old deployments on the server; returns their IDs by flow."""
    made = {}
    with get_client(sync_client=True) as client:
        for row in OLD:
            flow_id = client.create_flow_from_name(row["flow_name"])
            made[row["flow_name"]] = client.create_deployment(
                flow_id,
                name=hospital.stem,
                entrypoint=row["entrypoint"],
                parameters={"hospital": str(hospital)},
                tags=row["tags"],
            )
    return made


@pytest.mark.usefixtures("prefect_server")
def test_a_schedule_is_deployed_over_the_old_one(hospital: Path) -> None:
    schedule = load_pacs(hospital).schedule
    assert schedule is not None
    before = old_deployments(hospital)
    after = {made.flow_name: made.apply() for made in deployments(hospital, schedule)}
    assert after == before
    with get_client(sync_client=True) as client:
        kept = {name: client.read_deployment(made) for name, made in after.items()}
    assert {name: row.entrypoint for name, row in kept.items()} == {
        name: f"flows.hospital.jobs.{name.removeprefix('ldct-')}" for name in JOBS
    }
    old = {row["flow_name"]: row for row in OLD}
    for name, row in kept.items():
        assert row.parameters == {"hospital": str(hospital)}
        assert row.tags == old[name]["tags"]
        (time,) = row.schedules
        assert time.schedule.cron == old[name]["schedules"][0]["schedule"]["cron"]


@pytest.mark.parametrize("flow_name", JOBS)
def test_an_old_entrypoint_still_starts_its_job(
    flow_name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A service that was left running starts its jobs by the module, a worker by the file."""
    monkeypatch.chdir(Path(__file__).parents[3])
    (module,) = [row["entrypoint"] for row in OLD if row["flow_name"] == flow_name]
    files = [
        line.partition("entrypoint: ")[2]
        for line in (FIXTURES / "prefect" / "prefect.yaml").read_text().splitlines()
        if "entrypoint: " in line
    ]
    (file,) = [entry for entry in files if entry.endswith(f":{flow_name.removeprefix('ldct-')}")]
    for entrypoint in (module, file):
        loaded = load_flow_from_entrypoint(entrypoint, use_placeholder_flow=False)
        assert loaded.name == flow_name
        assert loaded.fn.__module__ == "flows.hospital.jobs"
