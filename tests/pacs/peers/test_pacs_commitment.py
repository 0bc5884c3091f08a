"""Storage commitment: an item is done when the destination has committed to every image."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest
from helpers.archive import Archive, Killed, report
from helpers.pacs import FolderPeer, Orthanc, derive, free_port, series_of, settings, write_ct
from helpers.pacs_bench import MODEL, Bench
from pydicom.dataset import Dataset
from pynetdicom import AE, evt
from pynetdicom.sop_class import (
    StorageCommitmentPushModel,
    StorageCommitmentPushModelInstance,
    Verification,
)

from pipeline.pacs.incoming.receiver import Receiver
from pipeline.pacs.peers.commitment import (
    DAMAGED,
    TAKEN,
    UNKNOWN,
    Commitment,
    action_information,
    take_report,
)
from pipeline.pacs.peers.dimse import DimsePeer
from pipeline.pacs.peers.peer import Refused
from pipeline.pacs.settings.endpoints import Dimse
from pipeline.pacs.steps.worker import Worker
from pipeline.pacs.work.item import AWAITS_COMMITMENT, State
from pipeline.pacs.work.ledger import Ledger

SEND = {"dimse": {"host": "127.0.0.1", "port": 1, "called": "X", "commit": True}}


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return _bench(tmp_path)


def _bench(root: Path, killed_at: str = "", **more) -> Bench:
    bench = Bench(root, send=SEND, **more)
    bench.destination = Archive(root / "archive", killed_at)
    bench.worker = Worker(
        bench.settings, bench.ledger, derive, {"": bench.destination}, bench.source
    )
    return bench


def test_an_item_is_done_once_the_destination_has_committed(bench):
    work, archive = bench.add(1), bench.destination
    archive.answers_later = True
    bench.worker.run_due()
    waiting = bench.ledger.get(work.id)
    assert (waiting.state, waiting.note) == (State.DERIVED, AWAITS_COMMITMENT)
    assert waiting.failures == 0
    assert bench.ledger.next_due(failed=False) == waiting.due, "waited for in the same run"
    bench.clock.at += 60
    bench.worker.run_due()
    assert len(archive.asked) == 1, "not asked again"
    assert len(archive.stored) == 3, "nor sent again"
    archive.answer(bench.places.commitments)
    bench.clock.at += 60
    bench.worker.run_due()
    done = bench.ledger.get(work.id)
    assert done.state is State.SENT
    assert done.note.endswith("which has committed to them")
    assert not bench.places.commitment(work.id).exists()


def test_a_failed_image_is_sent_again_and_then_dead_with_the_reason(tmp_path):
    bench = _bench(tmp_path, retry={"attempts": 3, "first_s": 1})
    work, archive = bench.add(1), bench.destination
    bench.worker.step(), bench.worker.step()
    failed = next(iter(_derived_uids(bench, work)))
    archive.fails = {failed: 0x0112}
    for _ in range(3):
        bench.worker.run_due()
        bench.clock.at += 60
    dead = bench.ledger.get(work.id)
    assert dead.state is State.DEAD
    assert "1 of 3 images: Failure Reason (0008,1197) 0112H, no such object instance" in dead.note
    assert archive.stored.count(failed) == 3
    assert len(archive.stored) == 5
    assert len({asked.TransactionUID for asked in archive.asked}) == 3
    archive.fails = {}
    bench.ledger.restart(dead)
    bench.worker.run_due()
    assert bench.ledger.get(work.id).state is State.SENT


def test_an_image_that_the_report_leaves_out_is_not_committed(bench):
    work, archive = bench.add(1), bench.destination
    archive.answers_later = True
    bench.worker.run_due()
    del archive.asked[0].ReferencedSOPSequence[0]
    archive.answer(bench.places.commitments)
    bench.clock.at += 60
    bench.worker.run_due()
    failing = bench.ledger.get(work.id)
    assert failing.state is State.DERIVED
    assert "1 of 3 images" in failing.note
    assert failing.note.endswith("not in its report")


def test_without_a_report_it_is_asked_again(bench):
    work, archive = bench.add(1), bench.destination
    archive.fails = None
    bench.worker.run_due()
    bench.clock.at += 3600
    bench.worker.run_due()
    assert bench.ledger.get(work.id).note == "no storage commitment report within 3600 s"
    late = report(archive.asked[0], {})
    assert take_report(bench.places.commitments, late) == UNKNOWN, "of a request that is over"
    archive.fails = {}
    bench.clock.at += 3600
    bench.worker.run_due()
    assert len(archive.asked) == 2
    assert bench.ledger.get(work.id).state is State.SENT


@pytest.mark.parametrize(
    "step",
    ["before send", "in send", "after send", "before N-ACTION", "after N-ACTION", "confirmed"],
)
@pytest.mark.parametrize("later", [False, True])
def test_a_kill_at_any_step_ends_right(tmp_path, step, later):
    bench = _bench(tmp_path, step)
    work, archive = bench.add(1), bench.destination
    archive.answers_later = later
    with pytest.raises(Killed):
        bench.worker.run_due()
    again = Worker(bench.settings, bench.ledger, derive, {"": archive}, bench.source)
    for _ in range(3):
        again.run_due()
        if later and bench.places.commitment(work.id).exists():
            archive.answer(bench.places.commitments)
        bench.clock.at += 60
    assert bench.ledger.get(work.id).state is State.SENT
    assert len(archive.stored) == len(set(archive.stored)) == 3, "each image once"


@pytest.mark.parametrize("bad", [SimpleNamespace(event_information=Dataset()), SimpleNamespace()])
def test_a_report_that_cannot_be_read_is_refused(tmp_path, bad):
    assert take_report(tmp_path, bad) == DAMAGED


@contextmanager
def _reporting_scp() -> Iterator[tuple[int, list[int]]]:
    """A storage commitment SCP that reports on the association of the request: its port, and the
    statuses with which its reports were answered."""
    port, answered, asked = free_port(), [], []

    def on_action(event):
        asked.append(event.action_information)
        return 0x0000, None

    def on_sent(event):
        if type(event.message).__name__ == "N_ACTION_RSP":
            threading.Timer(0.05, send_report, (event.assoc,)).start()

    def send_report(association):
        status, _ = association.send_n_event_report(
            report(asked[0], {}).event_information,
            1,
            StorageCommitmentPushModel,
            StorageCommitmentPushModelInstance,
        )
        answered.append(status.get("Status"))  # none where the association has ended

    entity = AE("ARCHIVE")
    entity.add_supported_context(StorageCommitmentPushModel)
    handlers = [(evt.EVT_N_ACTION, on_action), (evt.EVT_DIMSE_SENT, on_sent)]
    server = entity.start_server(("127.0.0.1", port), block=False, evt_handlers=handlers)
    try:
        yield port, answered
    finally:
        server.shutdown()


@pytest.mark.parametrize("late_s", [0, 0.5])
def test_a_report_on_the_requests_association_is_taken(tmp_path, monkeypatch, late_s):
    """late_s: the report is on the disk before the answer to it goes, in another thread."""

    def take_late(root: Path, event: evt.Event) -> int:
        status = take_report(root, event)
        time.sleep(late_s)
        return status

    monkeypatch.setattr("pipeline.pacs.peers.dimse.take_report", take_late)
    paths = write_ct(tmp_path / "series")
    commitment = Commitment(tmp_path / "commitment" / "w-1", 60)
    with _reporting_scp() as (port, answered):
        peer = DimsePeer(Dimse(host="127.0.0.1", port=port, called="ARCHIVE"))
        assert commitment.settle(paths, peer, time.time())
        until = time.monotonic() + 60
        while not answered:
            assert time.monotonic() < until
            time.sleep(0.02)
    assert answered == [TAKEN]


def test_a_pacs_without_storage_commitment_is_named(tmp_path):
    entity = AE("ARCHIVE")
    entity.add_supported_context(Verification)
    port = free_port()
    server = entity.start_server(("127.0.0.1", port), block=False)
    peer = DimsePeer(Dimse(host="127.0.0.1", port=port, called="ARCHIVE"))
    commitment = Commitment(tmp_path / "commitment" / "w-1", 60)
    try:
        with pytest.raises(Refused, match=r"see send.dimse.commit"):
            peer.ask_commitment(commitment, action_information("2.25.1", {}))
    finally:
        server.shutdown()


class Losing(DimsePeer):
    """Orthanc loses an image between C-STORE and the first N-ACTION."""

    orthanc: Orthanc
    lost = False

    def ask_commitment(self, commitment: Commitment, information: Dataset) -> None:
        if not self.lost:
            self.lost = True
            self.orthanc.call("DELETE", f"/instances/{self.orthanc.call('GET', '/instances')[0]}")
        super().ask_commitment(commitment, information)


def test_orthanc_reports_to_the_receiver(orthanc: Orthanc, tmp_path):
    """Its N-EVENT-REPORT comes on an association of its own; a lost image is sent again."""
    port = free_port()
    place = {"AET": "LDCT", "Host": "127.0.0.1", "Port": port}
    orthanc.call("PUT", "/modalities/LDCT", json=place)
    dimse = {"host": "127.0.0.1", "port": orthanc.dicom_port, "called": "ORTHANC", "commit": True}
    chosen = settings(
        tmp_path / "work",
        send={"dimse": dimse},
        receive={"port": port, "callers": ["ORTHANC"]},
        retry={"first_s": 0},
    )
    ledger, source = Ledger(chosen.work), FolderPeer(tmp_path / "source")
    paths = write_ct(tmp_path / "series")
    source.send(paths)
    work = ledger.add(series_of(paths), MODEL, origin="dicomweb", rule="any", due=0)
    destination = Losing(chosen.send.dimse)
    destination.orthanc = orthanc
    server = Receiver(chosen, ledger, MODEL, b"key").start()
    try:
        _work_until_sent(Worker(chosen, ledger, derive, {"": destination}, source), work.id)
    finally:
        server.shutdown()
    notes = [note for _, note in ledger.events(work.id)]
    assert any("0112H, no such object instance" in note for note in notes)
    assert sum(orthanc.series().values()) == 3


def _work_until_sent(worker: Worker, name: str) -> None:
    end = time.monotonic() + 120
    while worker.ledger.get(name).state is not State.SENT and time.monotonic() < end:
        worker.run_due()
        worker.ledger.make_due(worker.ledger.get(name))
        time.sleep(0.1)
    assert worker.ledger.get(name).state is State.SENT


def _derived_uids(bench: Bench, work) -> frozenset[str]:
    return series_of(sorted(bench.places.result(work.id).glob("*/*.dcm"))).instance_uids
