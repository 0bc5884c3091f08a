"""What is done first, what is waited for, and how many associations it takes."""

from __future__ import annotations

import time
from contextlib import contextmanager
from pathlib import Path

import pytest
from helpers.pacs import Orthanc, free_port, write_ct
from helpers.pacs_bench import Bench
from pynetdicom import AE
from pynetdicom.sop_class import CTImageStorage, Verification

from pipeline.pacs.peers import dimse
from pipeline.pacs.peers.dimse import DimsePeer
from pipeline.pacs.peers.kept_association import KeptAssociation
from pipeline.pacs.peers.peer import AWAY_S, NoConnection, Refused, Unreachable
from pipeline.pacs.settings.endpoints import Dimse
from pipeline.pacs.settings.hospital import Priority
from pipeline.pacs.steps.sending import send_series
from pipeline.pacs.work.item import State


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def test_a_series_goes_through_before_the_next_begins(bench):
    for number in (1, 2, 3):
        bench.add(number)
    done: list[str] = []
    bench.worker.run_due(lambda work: done.append(work.id))
    assert len(set(done)) == 3
    assert done == [name for name in dict.fromkeys(done) for _ in range(3)]


def test_a_rules_priority_comes_before_its_age(tmp_path):
    rules = [{"name": "usual"}, {"name": "stroke", "priority": "high"}]
    bench = Bench(tmp_path, rules=rules)
    older = bench.add(1)
    bench.worker.step()
    urgent = bench.settings.priority_of("stroke")
    assert (urgent, bench.settings.priority_of("no longer there")) == (
        Priority.HIGH,
        Priority.MEDIUM,
    )
    bench.add(2)
    bench.ledger._db.execute("UPDATE work SET priority = ? WHERE id != ?", (int(urgent), older.id))
    assert [bench.worker.step().id != older.id for _ in range(4)] == [True] * 3 + [False]


def test_what_only_needs_time_is_waited_for_and_what_needs_a_person_is_not(bench):
    ledger, now = bench.ledger, bench.clock.at
    assert ledger.next_due(failed=True) is None
    settling = bench.add(1)
    ledger._db.execute("UPDATE work SET due = ?", (now + 60,))
    assert ledger.next_due(failed=False) == now + 60
    failed = ledger.fail(settling, "down", bench.settings.retry)
    assert ledger.next_due(failed=False) is None
    assert ledger.next_due(failed=True) == failed.due
    ledger.wait(ledger.advance(failed, State.DERIVED), "no reader has accepted it", pause_s=300)
    assert ledger.next_due(failed=True) is None


def test_a_series_that_is_as_it_was_again_is_found_anew(bench):
    """As after a PACS that lost an image for a moment."""
    work = bench.add(1)
    bench.ledger.advance(work, State.SUPERSEDED, "the source has 2 images now")
    assert bench.add_to_ledger(1).state is State.FOUND
    bench.worker.run_due()
    assert bench.add_to_ledger(1).state is State.SENT


def test_a_source_that_has_nothing_of_a_series_is_asked_again(bench):
    work = bench.add(1)
    kept = {path: path.read_bytes() for path in bench.source.folder.glob("*.dcm")}
    for path in kept:
        path.unlink()
    failed = bench.worker.step()
    assert (failed.state, failed.failures) == (State.FOUND, 1)
    assert failed.note == "the source has none of its images now"
    for path, content in kept.items():
        path.write_bytes(content)
    bench.clock.at = failed.due
    bench.worker.run_due()
    assert bench.ledger.get(work.id).state is State.SENT


@pytest.mark.parametrize("side", ["source", "destination"])
def test_a_pacs_that_is_away_for_moments_costs_one_series_an_attempt_and_not_all(
    bench, monkeypatch, side
):
    works = [bench.add(number) for number in range(1, 8)]
    asked: list[tuple[str, ...]] = []

    def is_away(*uids: str) -> None:
        asked.append(uids)
        raise NoConnection("down")

    with monkeypatch.context() as patched:
        patched.setattr(getattr(bench, side), "list_instances", is_away)
        for times in range(1, 11):  # more than a series has attempts
            bench.worker.run_due()
            assert len(asked) <= times, "one at each absence"
            bench.clock.at += AWAY_S
    assert len(asked) >= len(works)
    assert bench.ledger.counts()["dead"] == 0
    bench.clock.at += bench.settings.retry.longest_s
    bench.worker.run_due()
    assert bench.ledger.counts()["sent"] == 7
    assert len(bench.destination.stored) == 21


@pytest.fixture
def opened(monkeypatch) -> list[str]:
    """A word for each association that is opened."""
    counted: list[str] = []
    associate = dimse.AE.associate

    def counting(entity, *args, **kwargs):
        counted.append("opened")
        return associate(entity, *args, **kwargs)

    monkeypatch.setattr(dimse.AE, "associate", counting)
    return counted


def test_a_studys_series_are_sent_in_one_association(orthanc: Orthanc, opened, tmp_path):
    peer = DimsePeer(Dimse(host="127.0.0.1", port=orthanc.dicom_port, called="ORTHANC"))
    for number in (1, 2, 3):
        same_study = {} if number == 3 else {"StudyInstanceUID": "1.2.826.0.1.3680043.8.498.5"}
        write_ct(tmp_path / str(number), number, **same_study)
        assert send_series(tmp_path / str(number), peer) == 3
    assert len(opened) == 2, "one for each study"
    association = peer._kept.association
    peer.disconnect()
    assert association.is_released
    assert sorted(orthanc.series().values()) == [3, 3, 3]


def test_an_association_without_use_is_released(orthanc: Orthanc, opened, tmp_path):
    peer = DimsePeer(Dimse(host="127.0.0.1", port=orthanc.dicom_port, called="ORTHANC"))
    peer._kept = KeptAssociation(idle_s=0.1)
    paths = write_ct(tmp_path, 1)
    with peer.one_connection(paths):
        peer.send(paths)
        association = peer._kept.association
        time.sleep(0.5)  # in use, however long
        assert association.is_established
    until = time.monotonic() + 20
    while not association.is_released:
        assert time.monotonic() < until
        time.sleep(0.05)
    assert send_series(tmp_path, peer) == 3
    assert len(opened) == 2
    peer.disconnect()


def test_an_error_ends_the_association(orthanc: Orthanc, opened, tmp_path):
    peer = DimsePeer(Dimse(host="127.0.0.1", port=orthanc.dicom_port, called="ORTHANC"))
    paths = write_ct(tmp_path, 1)
    with pytest.raises(Unreachable, match="cut"), peer.one_connection(paths):
        raise Unreachable("cut")
    with peer.one_connection(paths):
        peer.send(paths)
    assert len(opened) == 2
    peer.disconnect()


@contextmanager
def entity(title: str, *, busy: bool):
    """A C-STORE provider; busy: it has one association at most, and that is taken."""
    server_entity = AE(ae_title=title)
    server_entity.require_called_aet = True
    server_entity.maximum_associations = 1
    server_entity.supported_contexts = []
    for kind in (CTImageStorage, Verification):
        server_entity.add_supported_context(kind)
    port = free_port()
    server = server_entity.start_server(("127.0.0.1", port), block=False)
    other = AE()
    other.add_requested_context(Verification)
    taken = other.associate("127.0.0.1", port, ae_title=title) if busy else None
    try:
        yield port
    finally:
        if taken:
            taken.release()
        server.shutdown()


def test_a_transient_rejection_is_tried_again_and_another_is_not(tmp_path):
    paths = write_ct(tmp_path, 1)
    with entity("PACS", busy=True) as port:
        peer = DimsePeer(Dimse(host="127.0.0.1", port=port, called="PACS"))
        with pytest.raises(Unreachable, match="local limit exceeded"):
            peer.send(paths)
    with entity("PACS", busy=False) as port:
        peer = DimsePeer(Dimse(host="127.0.0.1", port=port, called="ANOTHER"))
        with pytest.raises(Refused, match="called ae title not recognised"):
            peer.send(paths)
