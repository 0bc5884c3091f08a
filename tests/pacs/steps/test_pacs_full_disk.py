"""A full disk: nothing counts as failed, nothing half written stays, and all goes on afterwards."""

from __future__ import annotations

import errno
import os
import sqlite3
from pathlib import Path

import pytest
from helpers.dicom import KEY
from helpers.pacs import derive, free_port, settings, write_ct
from helpers.pacs_bench import MODEL, Bench

from flows.hospital.space import WaitForSpace
from pipeline.core.errors import ConfigError, LdctError
from pipeline.pacs.incoming.receiver import Receiver, Swept
from pipeline.pacs.peers.dimse import DimsePeer
from pipeline.pacs.peers.peer import OutOfResources
from pipeline.pacs.settings.endpoints import Dimse
from pipeline.pacs.steps.worker import Worker
from pipeline.pacs.work.folder import NoSpace
from pipeline.pacs.work.item import State
from pipeline.pacs.work.ledger import Ledger
from pipeline.pacs.work.received_files import move_unless_there

FULL = OSError(errno.ENOSPC, "No space left on device")


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def full_for(times: int, error: Exception = FULL):
    """A derive that finds the disk full, so many times."""
    left = [error] * times

    def derive_or_not(series: Path, model: str, out: Path) -> None:
        if left:
            (out / "half").write_bytes(b"written before it was full")
            raise left.pop()
        derive(series, model, out)

    return derive_or_not


def _fill(ledger: Ledger) -> None:
    for _ in range(1000):
        ledger._record_event("w-other", State.FOUND, "x" * 50)


@pytest.mark.parametrize("wrapped", [False, True])
def test_a_worker_that_finds_the_disk_full_has_not_begun(bench, wrapped):
    work = bench.add()
    error: Exception = FULL
    if wrapped:
        error = LdctError("pydicom failed")
        error.__cause__ = FULL
    filled = full_for(20, error)
    worker = Worker(bench.settings, bench.ledger, filled, {"": bench.destination}, bench.source)
    for _ in range(20):  # more than attempts and crashes
        with pytest.raises(NoSpace):
            worker.run_due()
    now = bench.ledger.get(work.id)
    assert (now.state, now.failures, now.starts) == (State.HERE, 0, 0)
    assert not list(bench.settings.work.rglob("half"))
    worker.run_due()
    assert bench.ledger.get(work.id).state is State.SENT


def test_a_ledger_without_space_loses_no_step(bench):
    """SQLite's own error, of a database that may not grow."""
    works = [bench.add(number) for number in range(1, 6)]
    database = bench.ledger._db
    (pages,) = database.execute("PRAGMA page_count").fetchone()
    database.execute(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(sqlite3.OperationalError, match="full"):
        _fill(bench.ledger)
    with pytest.raises(NoSpace):
        bench.worker.run_due()
    database.execute("PRAGMA max_page_count = 100000")
    bench.worker.run_due()
    assert bench.ledger.counts()["sent"] == len(works)
    assert len(bench.destination.stored) == len(set(bench.destination.stored)) == 15


def test_it_is_said_once_and_again_when_it_is_over(bench, capsys):
    bench.add()
    filled = full_for(2)
    worker = Worker(bench.settings, bench.ledger, filled, {"": bench.destination}, bench.source)
    space = WaitForSpace()
    said = []
    for _ in range(4):
        with space.tried():
            worker.run_due()
        said.append((space.full, capsys.readouterr().err.strip()))
    assert [full for full, _ in said] == [True, True, False, False]
    assert [bool(line) for _, line in said] == [True, False, True, False]
    with pytest.raises(PermissionError), space.tried():
        raise PermissionError(errno.EACCES, "another fault is not waited for")


def test_a_receiver_without_space_refuses_and_goes_on(tmp_path, monkeypatch):
    port = free_port()
    chosen = settings(tmp_path / "work", receive={"port": port, "silence_s": 0})
    receiver = Receiver(chosen, Ledger(chosen.work), MODEL, KEY)
    server = receiver.start()
    paths = write_ct(tmp_path / "in", 1)
    peer = DimsePeer(Dimse(host="127.0.0.1", port=port, called="LDCT"))
    try:
        write = Path.write_bytes

        def half(path: Path, content: bytes) -> int:
            write(path, content[:100])
            raise FULL

        with monkeypatch.context() as patch:
            patch.setattr(Path, "write_bytes", half)
            with pytest.raises(OutOfResources, match="0xA700"):
                peer.send(paths)
        assert not [path for path in chosen.work.rglob("*.dcm") if path.is_file()]
        peer.send(paths)
        space = WaitForSpace()
        with monkeypatch.context() as patch:
            patch.setattr(receiver.ledger, "add", _full)
            with space.tried():
                receiver.sweep()
            assert space.full
        with space.tried():
            assert receiver.sweep() == Swept(added=1)
        assert not space.full
        (work,) = receiver.ledger.all()
        assert work.instances == 3
    finally:
        server.shutdown()


def test_an_acknowledged_image_outlasts_a_power_cut(tmp_path, monkeypatch):
    """The file and every folder on the way to it are flushed, however new they are."""
    chosen = settings(tmp_path / "work")
    receiver = Receiver(chosen, Ledger(chosen.work), MODEL, KEY)
    flushed: list[str] = []
    fsync = os.fsync

    def noting(descriptor: int) -> None:
        flushed.append(os.readlink(f"/proc/self/fd/{descriptor}"))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", noting)
    receiver._save(b"image", "study", "series", "image")
    incoming = receiver.places.incoming
    folders = [incoming / "study" / "series", incoming / "study", incoming, chosen.work]
    assert {str(folder) for folder in folders} <= set(flushed)
    assert any(name.endswith("series/.image.dcm") for name in flushed)
    flushed.clear()
    work = receiver.places.root / "series" / "w-1"
    move_unless_there(incoming / "study" / "series", work)
    assert {str(work.parent), str(incoming / "study")} <= set(flushed)


def _full(*_: object, **__: object) -> None:
    raise FULL


@pytest.mark.parametrize("damage", ["emptied", "gone", "cut", "overwritten"])
def test_a_damaged_ledger_is_named_with_what_to_do(bench, damage):
    bench.add()
    bench.worker.run_due()
    bench.ledger.close()
    path = bench.settings.work / "ledger.db"
    if damage == "gone":
        path.unlink()
    else:
        content = path.read_bytes()
        changed = {"emptied": b"", "cut": content[:5000], "overwritten": b"x" * len(content)}
        path.write_bytes(changed[damage])
    with pytest.raises(ConfigError, match="restore it from a backup, or move it") as refused:
        Ledger(bench.settings.work).counts()
    assert str(path) in str(refused.value)
