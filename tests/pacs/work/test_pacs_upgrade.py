"""A hospital that ran version 0.1.0 goes on with its YAML, ledger and work folder."""

from __future__ import annotations

from pathlib import Path

import pytest
from helpers.pacs import FolderPeer, derive
from helpers.upgrade import recorded, unpack

from pipeline.pacs.settings.hospital import Pacs, load_pacs
from pipeline.pacs.steps.worker import Worker, retry
from pipeline.pacs.work.folder import WorkFolder
from pipeline.pacs.work.item import State
from pipeline.pacs.work.ledger import Ledger
from pipeline.review.decisions import Decision, audit_of, decide

IDS = {name: item["id"] for name, item in recorded("work-folder/expected.json")["items"].items()}
#: After all that happened in the work folder.
LATER_S = 2_000_000_000.0


@pytest.fixture
def site(tmp_path: Path) -> Path:
    return unpack(tmp_path)


@pytest.fixture
def settings(site: Path) -> Pacs:
    return load_pacs(site / "hospital.yaml")


@pytest.fixture
def ledger(settings: Pacs) -> Ledger:
    return Ledger(settings.work, now=lambda: LATER_S)


def test_its_yaml_is_read(settings, site):
    assert settings.work == site / "work-folder"
    assert settings.release == "reader"
    assert settings.retry.longest_s == 3600
    assert settings.rules[0].kernel == ("STANDARD", "BONE")
    assert settings.schedule is not None
    assert settings.schedule.retry == "30 * * * *"


def test_its_work_goes_on_to_the_destination(settings, ledger, site):
    destination = FolderPeer(site / "pacs-destination")
    worker = Worker(settings, ledger, derive, {"": destination}, FolderPeer(site / "pacs-source"))

    def states() -> dict[str, str]:
        return {name: str(ledger.get(work).state) for name, work in IDS.items()}

    worker.run_due()
    assert states() == {
        "sent": "sent",
        "derived_failed_once": "sent",  # accepted by a reader under version 0.1.0
        "dead_in_derived": "dead",
        "dead_in_here": "dead",
        "held": "held",
        "superseded": "superseded",
        "found_grown": "derived",
        "derived_waiting_for_reader": "derived",
        "here_crashed_once": "derived",
        "found_failed_once": "derived",
        "found": "derived",
    }
    places = WorkFolder(settings.work)
    retry(ledger, places, ledger.get(IDS["dead_in_derived"]))
    ledger.release(ledger.get(IDS["held"]), "the kernel is known")
    waiting = [work for work in ledger.all(State.DERIVED) if work.id != IDS["dead_in_derived"]]
    for work in waiting:
        (folder,) = [path for path in places.result(work.id).iterdir() if path.is_dir()]
        decide(places.results, work.id, folder, Decision(reader="anna", verdict="accept"))
        ledger.make_due(work)
    worker.run_due()
    assert {name for name, state in states().items() if state != "sent"} == {
        "dead_in_here",
        "superseded",
    }
    assert ledger.counts()["sent"] == 8
    assert len(list(destination.folder.glob("*.dcm"))) == 8 * 2 + 1  # one series has three images
    assert audit_of(places.results).broken() == []


def test_its_dead_letters_can_be_retried(settings, ledger):
    places, dead = WorkFolder(settings.work), ledger.get(IDS["dead_in_here"])
    assert retry(ledger, places, dead).state is State.HERE
    assert len(list(places.series(dead.id).glob("*.dcm"))) == 2
    assert not places.dead(dead.id).exists()
