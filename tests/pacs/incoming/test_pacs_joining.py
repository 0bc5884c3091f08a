"""A study whose association breaks off, and whose rest comes later: one series in the end."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from helpers.dicom import KEY
from helpers.pacs import FolderPeer, derive, free_port, settings, write_ct
from pynetdicom import AE
from pynetdicom.acse import ACSE
from pynetdicom.association import Association
from pynetdicom.events import Event
from pynetdicom.sop_class import CTImageStorage

from flows.hospital.ledger_status import status
from flows.hospital.prometheus import LedgerFigures
from flows.hospital.status import HospitalStatus, page
from pipeline.pacs.incoming.receiver import Receiver, Swept
from pipeline.pacs.steps.worker import Worker
from pipeline.pacs.work.item import State
from pipeline.pacs.work.ledger import Ledger

MODEL = "models:/test/1"
PATIENCE_S = 1000.0


class Site:
    """A receiver with a clock that is put forward, a worker, and a sender that may break off."""

    def __init__(self, root: Path, **more) -> None:
        self.port = free_port()
        receive = {"port": self.port, "silence_s": 0, "patience_s": PATIENCE_S, "keep_s": 5000}
        self.settings = settings(root / "work", receive=receive, **more)
        self.later_s = 0.0
        self.ledger = Ledger(self.settings.work, now=lambda: time.time() + self.later_s)
        self.destination = FolderPeer(root / "pacs")
        self.worker = Worker(self.settings, self.ledger, derive, {"": self.destination})
        self.start()

    def start(self) -> None:
        self.receiver = Receiver(self.settings, self.ledger, MODEL, KEY)
        self.server = self.receiver.start()

    def send(self, paths: list[Path], *, aborted: bool = False, title: str = "PYNETDICOM") -> None:
        association = self.connect(title)
        for path in paths:
            assert association.send_c_store(path).Status == 0
        association.abort() if aborted else association.release()
        self.wait_open(0)

    def wait_open(self, count: int) -> None:
        """Until the receiver has seen the end of all associations but so many."""
        until = time.monotonic() + 60
        while len(self.receiver._associations.studies) != count:
            assert time.monotonic() < until
            time.sleep(0.02)

    def connect(self, title: str = "PYNETDICOM") -> Association:
        entity = AE(ae_title=title)
        entity.add_requested_context(CTImageStorage)
        return entity.associate("127.0.0.1", self.port, ae_title="LDCT")

    def states(self) -> dict[State, int]:
        return {work.state: work.instances for work in self.ledger.all()}


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    made = Site(tmp_path)
    yield made
    made.server.shutdown()


def test_a_study_that_was_cut_waits_for_its_rest(site, tmp_path):
    paths = write_ct(tmp_path / "in", 1, count=5)
    site.send(paths[:2], aborted=True)
    assert site.receiver.sweep() == Swept()
    site.send(paths[2:])
    assert site.receiver.sweep() == Swept(added=1)
    assert site.states() == {State.FOUND: 5}


def test_it_waits_across_a_restart_of_the_receiver_and_not_for_ever(site, tmp_path):
    site.send(write_ct(tmp_path / "in", 1, count=5)[:2], aborted=True)
    site.server.shutdown()
    site.start()
    assert site.receiver.sweep() == Swept()
    site.later_s = PATIENCE_S + 1
    assert site.receiver.sweep() == Swept(added=1, cut=1)
    assert site.states() == {State.FOUND: 2}


def test_a_release_whose_connection_closes_first_is_no_break(site, tmp_path, monkeypatch):
    """The thread that answers the release may be behind the one that sees the connection end."""
    answer = ACSE.send_release

    def answer_late(acse: ACSE, is_response: bool = False) -> None:
        answer(acse, is_response)
        if is_response:
            time.sleep(0.3)

    monkeypatch.setattr(ACSE, "send_release", answer_late)
    site.send(write_ct(tmp_path / "in", 1, count=2))
    assert site.receiver.sweep() == Swept(added=1)


def test_an_image_that_is_looked_at_after_its_connection_ended_holds_its_study_no_longer(
    site, tmp_path, monkeypatch
):
    """As when a network is cut: the thread that stores is behind the one that sees the end."""
    paths = write_ct(tmp_path / "in", 1, count=3)
    stored, came = site.receiver._stored, threading.Event()

    def late(event: Event) -> object:
        came.set()
        site.wait_open(0)
        return stored(event)

    with monkeypatch.context() as patched:
        patched.setattr(site.receiver, "_stored", late)
        association = site.connect()
        association.dimse_timeout = 2  # for an answer that does not come
        sending = threading.Thread(target=association.send_c_store, args=(paths[0],))
        sending.start()
        assert came.wait(60)
        association.abort()
        sending.join()
        until = time.monotonic() + 60
        while not list(site.receiver.places.incoming.rglob("*.dcm")):
            assert time.monotonic() < until
            time.sleep(0.02)
    assert site.receiver.sweep() == Swept(), "its sending broke off"
    site.send(paths[1:])
    assert site.receiver.sweep() == Swept(added=1)
    assert site.states() == {State.FOUND: 3}


def test_another_association_that_is_open_still_counts(site, tmp_path):
    paths = write_ct(tmp_path / "in", 1, count=3)
    still_open = site.connect()
    still_open.send_c_store(paths[0])
    other = site.connect()
    other.send_c_store(paths[1])
    other.release()
    site.wait_open(1)
    assert site.receiver.sweep() == Swept()
    still_open.abort()
    site.wait_open(0)
    assert site.receiver.sweep() == Swept(), "its own mark has stayed"
    site.send(paths[2:])
    assert site.receiver.sweep() == Swept(added=1)


@pytest.mark.parametrize("steps", [0, 1, 2, 3])
def test_a_rest_that_comes_when_the_part_is_in_work_joins_it(site, tmp_path, steps):
    """Found, here, derived and held for a reader, or sent: in the end there is the whole."""
    paths = write_ct(tmp_path / "in", 1, count=5)
    site.send(paths[:3])
    site.receiver.sweep()
    for _ in range(steps):
        site.worker.step()
    site.send(paths[3:])
    assert site.receiver.sweep() == Swept(added=1)
    done = State.SENT if steps == 3 else State.SUPERSEDED
    assert site.states() == {done: 3, State.FOUND: 5}
    site.worker.run_due()
    assert sorted(site.destination.stored) == sorted(set(site.destination.stored))
    assert len(site.destination.stored) == 5
    site.send(paths[1:4])  # again, and nothing new
    site.receiver.sweep()
    assert site.worker.run_due() == 0
    assert len(site.ledger.all()) == 2


def test_a_part_that_a_worker_is_busy_with_goes_on(site, tmp_path):
    paths = write_ct(tmp_path / "in", 1, count=5)
    site.send(paths[:3])
    site.receiver.sweep()
    site.send(paths[3:])
    with site.ledger.claim() as busy:
        site.receiver.sweep()
        assert site.ledger.get(busy.id).state is State.FOUND
    site.worker.run_due()
    assert site.ledger.counts()["sent"] == 2
    assert len(site.destination.stored) == 5


def test_what_was_sent_is_kept_for_its_rest_and_then_removed(site, tmp_path):
    site.send(write_ct(tmp_path / "in", 1))
    site.receiver.sweep()
    site.worker.run_due()
    (work,) = site.ledger.all(State.SENT)
    assert site.receiver.places.series(work.id).exists()
    site.later_s = 5001
    site.receiver.sweep()
    assert not site.receiver.places.series(work.id).exists()


def test_what_matches_no_rule_is_seen_and_joins_its_rest(tmp_path):
    site = Site(tmp_path, rules=[{"name": "whole", "instances": 4}])
    try:
        paths = write_ct(tmp_path / "in", 1, count=5)
        site.send(paths[:2])
        assert site.receiver.sweep() == Swept(unmatched=1)
        assert status(site.settings).to_dict()["unmatched"] == 1
        shown = page(HospitalStatus([], status(site.settings)))
        assert "Unmatched: 1 received series match no rule" in shown
        figures = {family.name: family for family in LedgerFigures(site.settings.work).collect()}
        assert figures["ldct_unmatched"].samples[0].value == 1
        assert figures["ldct_disk_free_bytes"].samples[0].value > 0
        site.send(paths[2:3])
        assert site.receiver.sweep() == Swept(unmatched=1)
        assert status(site.settings).unmatched == 1
        site.send(paths[3:])
        assert site.receiver.sweep() == Swept(added=1)
        assert status(site.settings).unmatched == 0
        assert site.states() == {State.FOUND: 5}
    finally:
        site.server.shutdown()


def test_joining_again_after_a_kill_changes_nothing(site, tmp_path):
    """Killed after the whole is in the ledger, before its files are moved."""
    paths = write_ct(tmp_path / "in", 1, count=5)
    site.send(paths[:3])
    site.receiver.sweep()
    site.send(paths[3:])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("pipeline.pacs.incoming.receiver.put_away", _killed)
        with pytest.raises(KeyboardInterrupt):
            site.receiver.sweep()
    with closing(Ledger(site.settings.work)) as ledger:
        assert ledger.counts()["found"] == 2
    assert site.receiver.sweep() == Swept(added=1)
    assert site.states() == {State.SUPERSEDED: 3, State.FOUND: 5}
    site.worker.run_due()
    assert len(site.destination.stored) == 5


def _killed(*_: object) -> None:
    raise KeyboardInterrupt


def test_a_series_is_matched_by_who_sent_it(tmp_path):
    """By the calling AE title of its own association, also where another sends the same study."""
    rules = [{"name": "scanner", "calling": ["CT1"], "station": ["ROOM1"]}]
    site = Site(tmp_path, rules=rules)
    try:
        one = write_ct(tmp_path / "a", 1, StationName="room1")
        other = write_ct(tmp_path / "b", 2, StationName="room1", StudyInstanceUID="1.2.826.0.1.9")
        third = write_ct(tmp_path / "c", 3, StationName="room2", StudyInstanceUID="1.2.826.0.1.9")
        site.send(one, title="CT1")
        site.send(other, title="GATE")
        site.send(third, title="CT1")
        assert site.receiver.sweep() == Swept(added=1, unmatched=2)
    finally:
        site.server.shutdown()
    (work,) = site.ledger.all()
    assert (work.rule, work.series_uid.endswith(".1.2")) == ("scanner", True)
    assert not list(site.worker.places.root.rglob(".from-*")), "nothing is left of the notes"
