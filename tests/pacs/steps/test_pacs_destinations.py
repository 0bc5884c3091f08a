"""Several destinations: each is tried and recorded for itself, and an item is done when all have
it."""

from __future__ import annotations

import errno
import sqlite3
import threading
import time
from pathlib import Path

import pytest
import yaml
from helpers.archive import Archive
from helpers.pacs import FolderPeer, derive, free_port, settings, write_ct
from helpers.pacs_bench import Bench
from helpers.upgrade import unpack

from flows.hospital.endpoints import peers
from flows.hospital.ledger_status import status
from flows.hospital.prometheus import LedgerFigures
from pipeline.core.errors import ConfigError
from pipeline.pacs.peers.peer import OutOfResources, Refused, Unreachable
from pipeline.pacs.settings.hospital import Pacs, load_pacs
from pipeline.pacs.steps import sending
from pipeline.pacs.steps.worker import Worker, retry
from pipeline.pacs.work.folder import WorkFolder
from pipeline.pacs.work.item import AWAITS_COMMITMENT, State, WorkItem
from pipeline.pacs.work.ledger import Ledger
from pipeline.review.decisions import Decision, decide

NAMES = ("archive", "research")
PLACE = {"host": "127.0.0.1", "port": 1, "called": "X"}
SEND = [{"name": name, "dimse": PLACE} for name in NAMES]


class Site(Bench):
    """A bench with two destinations."""

    def __init__(self, root: Path, **more) -> None:
        super().__init__(root, **{"send": SEND, **more})
        self.archive, self.research = (FolderPeer(root / name) for name in NAMES)
        self.worker = self.new_worker()

    def new_worker(self) -> Worker:
        to = {"archive": self.archive, "research": self.research}
        return Worker(self.settings, self.ledger, derive, to, self.source)

    def states(self, work: WorkItem) -> dict[str, str]:
        return {each.destination: str(each.state) for each in self.ledger.deliveries.known(work.id)}


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


def test_an_item_is_done_when_every_destination_has_it(site):
    work = site.add()
    site.worker.run_due()
    done = site.ledger.get(work.id)
    assert done.state is State.SENT
    assert site.states(work) == {"archive": "sent", "research": "sent"}
    assert len(site.archive.stored) == len(site.research.stored) == 3
    assert done.note == (
        "archive: sent, 3 images counted at the destination; "
        "research: sent, 3 images counted at the destination"
    )


def test_one_that_does_not_answer_does_not_hold_up_the_other(site):
    works = [site.add(number) for number in (1, 2, 3)]
    site.archive.answers = [Unreachable("down")] * 3
    site.worker.run_due()
    assert len(site.research.stored) == 9
    assert site.archive.stored == []
    waiting = site.ledger.get(works[0].id)
    assert (waiting.state, waiting.failures) == (State.DERIVED, 1)
    assert "archive: waits, down; research: sent" in waiting.note
    assert site.ledger.next_due(failed=True) == waiting.due
    site.clock.at += 60
    site.worker.run_due()
    assert {site.ledger.get(work.id).state for work in works} == {State.SENT}
    assert len(site.archive.stored) == 9
    assert len(site.research.stored) == 9, "not sent again to the other"


def test_one_that_is_slow_holds_up_no_other(site, monkeypatch):
    """The second has everything, and that is recorded, before the first has taken one image."""
    recorded = threading.Event()
    send, record = site.archive.send, site.ledger.deliveries.sent

    def slow(paths: list[Path]) -> None:
        assert recorded.wait(60), "the other waits for this one"
        send(paths)

    def noted(delivery, note: str) -> None:
        record(delivery, note)
        if delivery.destination == "research":
            recorded.set()

    monkeypatch.setattr(site.archive, "send", slow)
    monkeypatch.setattr(site.ledger.deliveries, "sent", noted)
    work = site.add()
    site.worker.run_due()
    assert site.ledger.get(work.id).state is State.SENT
    assert len(site.archive.stored) == len(site.research.stored) == 3


def test_one_that_keeps_everybody_waiting_is_left_for_a_while(site, monkeypatch):
    """An association that times out after a minute costs that minute once, not once a series."""
    monkeypatch.setattr(sending, "SLOW_FAILURE_S", 0.0)
    monkeypatch.setattr(sending, "SLOW_PAUSE", 1e6)
    works = [site.add(number) for number in (1, 2, 3)]
    asked = []

    def times_out(*uids: str):
        asked.append(uids)
        time.sleep(0.001)
        raise Unreachable("down")

    monkeypatch.setattr(site.archive, "list_instances", times_out)
    site.worker.run_due()
    assert len(asked) == 1
    assert len(site.research.stored) == 9
    left = site.ledger.get(works[1].id)
    assert "did not answer when another series was sent" in left.note
    monkeypatch.undo()
    site.clock.at += 1e5
    site.worker.run_due()
    assert {site.ledger.get(work.id).state for work in works} == {State.SENT}


def test_what_failed_for_good_at_one_is_retried_there_alone(site):
    work = site.add()
    site.archive.answers = [Refused("C-STORE was answered with status 0x0110")]
    site.worker.run_due()
    dead = site.ledger.get(work.id)
    assert dead.state is State.DEAD
    assert "archive: failed for good, C-STORE was answered with status 0x0110" in dead.note
    assert site.states(work) == {"archive": "dead", "research": "sent"}
    assert (site.places.dead(work.id) / "why.json").exists()
    retry(site.ledger, site.places, dead)
    site.worker.run_due()
    assert site.ledger.get(work.id).state is State.SENT
    assert len(site.archive.stored) == len(site.research.stored) == 3


def test_attempts_are_counted_for_each(tmp_path):
    site = Site(tmp_path, retry={"attempts": 3, "first_s": 1})
    work = site.add()
    site.archive.answers = [Unreachable("down")] * 3
    site.research.answers = [Unreachable("asleep")]
    for _ in range(4):
        site.worker.run_due()
        site.clock.at += 60
    dead = site.ledger.get(work.id)
    assert dead.state is State.DEAD
    assert "archive: failed for good, down (after 3 attempts); research: sent" in dead.note


def test_one_out_of_resources_or_space_does_not_stop_the_other(site, monkeypatch):
    works = [site.add(number) for number in (1, 2)]
    full = OSError(errno.ENOSPC, "No space left on device")
    site.archive.answers = [OutOfResources("out of resources"), full]
    site.worker.run_due()
    assert len(site.research.stored) == 6
    assert [site.ledger.get(work.id).failures for work in works] == [1, 1]
    assert "no space left there" in site.ledger.get(works[1].id).note
    site.clock.at += sending.RESOURCES_POLL_S
    site.worker.run_due()
    assert {site.ledger.get(work.id).state for work in works} == {State.SENT}


def test_a_rule_names_its_destinations(tmp_path):
    rules = [{"name": "any", "send": ["research"]}]
    site = Site(tmp_path, rules=rules)
    work = site.add()
    site.worker.run_due()
    assert site.ledger.get(work.id).state is State.SENT
    assert site.states(work) == {"research": "sent"}
    assert site.archive.stored == []


def test_a_dry_run_says_where_a_result_would_go(tmp_path, ldct):
    folders = {name: tmp_path / name for name in ("studies", *NAMES)}
    for folder in folders.values():
        folder.mkdir()
    write_ct(folders["studies"], 1, BodyPartExamined="CHEST")
    write_ct(folders["studies"], 2, BodyPartExamined="HEAD")
    write_ct(folders["studies"], 3, BodyPartExamined="FOOT")
    described = {
        "model": "swift@pretrained",
        "work": str(tmp_path / "work"),
        "source": {"folder": str(folders["studies"])},
        "rules": [
            {"name": "chest", "body_part": ["CHEST"], "send": ["research"]},
            {"name": "head", "body_part": ["HEAD"]},
        ],
        "send": [{"name": name, "folder": str(folders[name])} for name in NAMES],
    }
    path = tmp_path / "hospital.yaml"
    path.write_text(yaml.safe_dump(described))
    shown = ldct("pacs", "pull", path, "--dry-run")
    assert shown.code == 0, shown.err
    assert "3 images: matches chest, to research\n" in shown.out
    assert "3 images: matches head, to archive, research\n" in shown.out
    assert "3 images: no rule matches\n" in shown.out
    rows = ldct("pacs", "pull", path, "--dry-run", "--json").json["series"]
    assert {row["rule"]: row["send"] for row in rows} == {
        "chest": ["research"],
        "head": list(NAMES),
        None: [],
    }


def test_a_result_of_a_rule_that_is_gone_goes_nowhere(tmp_path):
    site = Site(tmp_path, rules=[{"name": "other", "send": ["research"]}])
    work = site.add()  # of rule `any`
    site.worker.run_due()
    dead = site.ledger.get(work.id)
    assert dead.state is State.DEAD
    assert "rule any is in the YAML no more" in dead.note
    assert site.archive.stored == site.research.stored == []


def test_a_rule_that_is_gone_matters_not_where_all_go_everywhere(tmp_path):
    site = Site(tmp_path, rules=[{"name": "other"}])
    work = site.add()
    site.worker.run_due()
    assert site.states(work) == {"archive": "sent", "research": "sent"}


def test_a_kill_between_the_two_goes_on_with_the_second(site, monkeypatch):
    work = site.add()

    def killed(paths):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(site.research, "send", killed)
        with pytest.raises(KeyboardInterrupt):
            site.worker.run_due()
    assert site.states(work) == {"archive": "sent", "research": "derived"}
    asked = len(site.archive.stored)
    site.new_worker().run_due()
    assert site.ledger.get(work.id).state is State.SENT
    assert len(site.archive.stored) == asked == 3
    assert len(site.research.stored) == 3


def test_one_waits_for_commitment_while_the_other_has_it(tmp_path):
    send = [SEND[0] | {"dimse": {**PLACE, "commit": True}}, SEND[1]]
    site = Site(tmp_path, send=send)
    site.archive = Archive(tmp_path / "committing")
    site.archive.answers_later = True
    site.worker = site.new_worker()
    work = site.add()
    site.worker.run_due()
    waiting = site.ledger.get(work.id)
    assert site.states(work) == {"archive": "derived", "research": "sent"}
    assert AWAITS_COMMITMENT in waiting.note
    assert waiting.failures == 0
    assert site.ledger.next_due(failed=False) == waiting.due, "waited for in the same run"
    site.archive.answer(site.places.commitments)
    site.clock.at += 60
    site.worker.run_due()
    assert site.ledger.get(work.id).state is State.SENT
    assert len(site.archive.asked) == 1
    assert site.places.commitments_of(work.id) == [site.places.commitment(work.id)]
    assert not any(site.places.commitments.iterdir())


def test_status_and_metrics_say_which_destination_lacks_what(site):
    work = site.add()
    site.archive.answers = [Unreachable("down")]
    site.worker.run_due()
    found = status(site.settings).to_dict()["deliveries"][work.id]
    assert {row["destination"]: (row["state"], row["failures"]) for row in found} == {
        "archive": ("derived", 1),
        "research": ("sent", 0),
    }
    families = {each.name: each for each in LedgerFigures(site.settings.work).collect()}
    samples = families["ldct_undelivered"].samples
    assert {s.labels["destination"]: s.value for s in samples} == {"archive": 1, "research": 0}


def test_a_ledger_of_before_goes_on_with_its_failures(tmp_path):
    bench = Bench(tmp_path, retry={"attempts": 3, "first_s": 1})
    work = bench.add()
    bench.destination.answers = [Unreachable("down")] * 3
    for _ in range(2):
        bench.worker.run_due()
        bench.clock.at += 60
    bench.ledger.close()
    with sqlite3.connect(bench.settings.work / "ledger.db") as database:
        database.execute("DROP TABLE delivery")
    old = Ledger(bench.settings.work, now=bench.clock)
    assert old.get(work.id).failures == 2
    Worker(bench.settings, old, derive, {"": bench.destination}, bench.source).run_due()
    assert old.get(work.id).note == "down (after 3 attempts)"


def test_an_old_site_that_names_two_destinations_sends_to_both(tmp_path):
    """Version 0.1.0's work folder; what was sent before is not sent to the new one."""
    site = unpack(tmp_path)
    text = yaml.safe_load((site / "hospital.yaml").read_text())
    chosen = Pacs.model_validate({**text, "send": SEND})
    ledger = Ledger(chosen.work, now=lambda: 2_000_000_000.0)
    to = {"archive": FolderPeer(site / "pacs-destination"), "research": FolderPeer(site / "new")}
    before, places = ledger.counts(), WorkFolder(chosen.work)
    worker = Worker(chosen, ledger, derive, to, FolderPeer(site / "pacs-source"))
    worker.run_due()
    for work in ledger.all(State.DERIVED):  # they wait for a reader
        (folder,) = [path for path in places.result(work.id).iterdir() if path.is_dir()]
        decide(places.results, work.id, folder, Decision(reader="anna", verdict="accept"))
        ledger.make_due(work)
    worker.run_due()
    counts = ledger.counts()
    assert counts["found"] == counts["here"] == counts["derived"] == 0
    sent = counts["sent"] - before["sent"]
    assert sent == 5
    series = {path.name.partition("_")[0] for path in to["research"].folder.glob("*.dcm")}
    assert len(series) == sent


def test_orthanc_a_folder_and_an_address_where_nobody_listens(orthanc, tmp_path):
    (tmp_path / "results").mkdir()
    chosen = settings(
        tmp_path / "work",
        send=[
            {"name": "gone", "dimse": {**PLACE, "port": free_port(), "timeout_s": 2}},
            {"name": "pacs", "dimse": {**PLACE, "port": orthanc.dicom_port, "called": "ORTHANC"}},
            {"name": "web", "folder": str(tmp_path / "results")},
        ],
        retry={"attempts": 2, "first_s": 0},
    )
    bench = Bench(tmp_path)
    bench.settings, bench.ledger = chosen, Ledger(chosen.work)
    paths = write_ct(tmp_path / "series")
    bench.source.send(paths)
    work = bench.add_to_ledger(1)
    Worker(chosen, bench.ledger, derive, peers(chosen), bench.source).run_due()
    ended = bench.ledger.get(work.id)
    assert ended.state is State.DEAD
    assert "gone: failed for good, no association with X" in ended.note
    assert "pacs: sent" in ended.note
    assert sum(orthanc.series().values()) == 3
    assert len(list((tmp_path / "results").glob("*/*/*.dcm"))) == 3


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"send": []}, "send: .*at least 1"),
        ({"send": [{"dimse": PLACE}, SEND[0]]}, "needs a name of its own"),
        ({"send": [SEND[0], SEND[0]]}, "needs a name of its own"),
        ({"send": [{"name": "a/b", "dimse": PLACE}]}, "send.0.name: "),
        ({"send": [{"name": "a", "dimse": {**PLACE, "port": -1}}]}, "send.0.dimse.port: "),
        ({"rules": [{"name": "r", "send": ["elsewhere"]}]}, "rule r: send: .*elsewhere"),
        ({"rules": [{"name": "r", "send": []}]}, "rules.0.send: "),
    ],
)
def test_what_is_wrong_is_named(tmp_path, changes, message):
    text = {"model": "m", "work": "work", "rules": [{"name": "any"}], "send": SEND, **changes}
    (tmp_path / "hospital.yaml").write_text(yaml.safe_dump(text))
    with pytest.raises(ConfigError, match=f"hospital.yaml: .*{message}"):
        load_pacs(tmp_path / "hospital.yaml")
