"""The ledger and its workers: exactly once in effect, whatever dies when."""

from __future__ import annotations

import json
import shutil
import threading
from pathlib import Path

import pydicom
import pytest
from helpers.dicom import KEY
from helpers.pacs import (
    FolderPeer,
    derive,
    series_of,
    settings,
    write_ct,
)
from helpers.pacs_bench import MODEL, Bench

from pipeline.core.errors import ConfigError, LdctError
from pipeline.pacs.incoming.receiver import Receiver
from pipeline.pacs.peers.peer import OutOfResources, Unreachable
from pipeline.pacs.settings.hospital import Retry
from pipeline.pacs.steps.sending import RESOURCES_POLL_S
from pipeline.pacs.steps.worker import Worker, retry
from pipeline.pacs.work.folder import WorkFolder
from pipeline.pacs.work.item import State, work_id
from pipeline.pacs.work.ledger import Ledger
from pipeline.review.decisions import Decision, Policy, decide, set_policy


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def derived_in(folder: Path) -> list[str]:
    return sorted(path.stem.split("_")[1] for path in folder.glob("*.dcm"))


def test_a_series_goes_all_the_way_and_is_counted(bench):
    work = bench.add()
    assert bench.worker.run_due() == 3
    done = bench.ledger.get(work.id)
    assert (done.state, done.note) == (State.SENT, "3 images counted at the destination")
    assert len(derived_in(bench.destination.folder)) == 3
    assert not bench.places.series(work.id).exists()
    assert [state for state, _ in bench.ledger.events(work.id)] == [
        "found", "here", "derived", "sent",
    ]  # fmt: skip


def test_the_same_series_and_model_are_one_work_another_model_is_another(bench):
    first = bench.add()
    bench.worker.run_due()
    again = bench.add_to_ledger(1)
    assert (again.id, again.state) == (first.id, State.SENT)
    assert bench.worker.run_due() == 0
    series = series_of(list(bench.source.folder.glob("*.dcm")))
    other = bench.ledger.add(series, "models:/test/2", origin="x", rule="any", due=0)
    assert other.id != first.id
    assert len(bench.ledger.all()) == 2
    assert len(bench.destination.stored) == 3


def test_a_digest_is_of_the_images_not_of_their_order_or_transfer_syntax(tmp_path):
    paths = write_ct(tmp_path, 1)
    assert series_of(paths).digest == series_of(paths[::-1]).digest
    assert series_of(paths[:2]).digest != series_of(paths).digest
    assert work_id("a", "b") != work_id("a", "c")


def test_a_destination_without_space_is_tried_again_however_often(tmp_path):
    bench = Bench(tmp_path, retry={"attempts": 2, "first_s": 10})
    work = bench.add()
    bench.worker.step(), bench.worker.step()
    full = OutOfResources("C-STORE was answered with status 0xA700")
    bench.destination.answers = [full] * 5
    for _ in range(5):
        waiting = bench.worker.step()
        assert (waiting.state, waiting.failures) == (State.DERIVED, 1)
        assert waiting.due - bench.clock.at == RESOURCES_POLL_S
        assert bench.worker.step() is None  # not before it is due
        bench.clock.at = waiting.due
    assert bench.ledger.next_due(failed=True) is None
    assert bench.worker.step().state is State.SENT
    assert bench.ledger.get(work.id).failures == 0


def test_network_failures_are_retried_after_longer_and_longer_pauses(bench):
    bench.add()
    bench.worker.step(), bench.worker.step()
    bench.destination.answers = [Unreachable("down")] * 3
    pauses = []
    for _ in range(3):
        failed = bench.worker.step()
        pauses.append(failed.due - bench.clock.at)
        assert bench.worker.step() is None  # not before it is due
        bench.clock.at = failed.due
    assert pauses == [60, 120, 240]
    assert bench.worker.step().state is State.SENT


def test_after_too_many_attempts_work_is_dead_and_can_be_retried(tmp_path):
    bench = Bench(tmp_path, retry={"attempts": 2, "first_s": 0})
    work = bench.add()
    bench.worker.step(), bench.worker.step()
    bench.destination.answers = [Unreachable("down")] * 2
    bench.worker.run_due()
    dead = bench.ledger.get(work.id)
    assert (dead.state, dead.stopped_in) == (State.DEAD, "derived")
    assert dead.note == "down (after 2 attempts)"
    letter = bench.places.dead(work.id)
    assert json.loads((letter / "why.json").read_text())["note"] == dead.note
    assert len(list((letter / "series").glob("*.dcm"))) == 3
    assert bench.worker.step() is None
    assert retry(bench.ledger, bench.places, dead).state is State.DERIVED
    assert not letter.exists()
    bench.worker.run_due()
    assert bench.ledger.get(work.id).state is State.SENT
    assert len(bench.destination.stored) == 3
    with pytest.raises(ConfigError, match="not dead but sent"):
        bench.ledger.restart(bench.ledger.get(work.id))


def test_after_a_final_error_work_is_dead_at_once_and_other_work_goes_on(tmp_path):
    bench = Bench(tmp_path)
    bad, good = bench.add(1), bench.add(2)

    def picky(series: Path, model: str, out: Path) -> None:
        if any("Chest 1" in str(pydicom.dcmread(p).SeriesDescription) for p in series.glob("*")):
            raise LdctError("the model gave NaN")
        derive(series, model, out)

    Worker(bench.settings, bench.ledger, picky, {"": bench.destination}, bench.source).run_due()
    assert bench.ledger.get(bad.id).note == "the model gave NaN"
    assert bench.ledger.get(bad.id).state is State.DEAD
    assert bench.ledger.get(good.id).state is State.SENT


def test_images_that_come_after_their_work_died_are_kept_for_a_retry(tmp_path):
    chosen = settings(tmp_path / "work", receive={"silence_s": 0})
    ledger, places = Ledger(chosen.work), WorkFolder(chosen.work)
    receiver, paths = Receiver(chosen, ledger, MODEL, KEY), write_ct(tmp_path / "in", 1)
    work = ledger.add(series_of(paths), MODEL, origin="c-store", rule="any", due=0)
    dead = ledger.mark_dead(work, "its files were never handed over")
    for path in paths:
        receiver._save(path.read_bytes(), "study", "series", path.stem)
    receiver.sweep()
    assert retry(ledger, places, dead).state is State.FOUND
    assert len(list(places.series(work.id).glob("*.dcm"))) == 3


def test_only_what_the_destination_lacks_is_sent(bench):
    bench.add()
    bench.worker.step(), bench.worker.step()
    bench.destination.answers = [None, None, Unreachable("cut off after one image")]
    first = bench.worker.step()
    assert first.note == "cut off after one image"
    assert len(bench.destination.stored) == 1
    bench.clock.at = first.due
    assert bench.worker.step().state is State.SENT
    assert sorted(bench.destination.stored) == derived_in(bench.destination.folder)


def test_a_destination_that_answers_success_and_stores_nothing_is_noticed(bench, monkeypatch):
    bench.add()
    monkeypatch.setattr(bench.destination, "send", lambda paths: None)
    bench.worker.run_due()
    (work,) = bench.ledger.all()
    assert (work.state, work.note) == (State.DERIVED, "3 of 3 images did not arrive")


def test_a_series_that_grew_since_it_was_found_is_superseded(bench):
    old = bench.add(1, count=2)
    paths = write_ct(bench.source.folder / "new", 1, count=3)
    bench.source.send(paths[2:])
    shutil.rmtree(bench.source.folder / "new")
    bench.worker.run_due()
    assert bench.ledger.get(old.id).state is State.SUPERSEDED
    assert bench.ledger.counts()["sent"] == 1
    assert len(derived_in(bench.destination.folder)) == 3


def test_a_series_on_which_workers_crash_is_dead(tmp_path):
    bench = Bench(tmp_path, retry={"crashes": 3})
    work = bench.add()
    for _ in range(3):  # claimed, and never heard of again: as after kill -9
        with bench.ledger.claim() as claimed:
            assert claimed.id == work.id
    bench.worker.step()
    assert bench.ledger.get(work.id).note == "ended its worker 3 times"
    assert bench.ledger.get(work.id).state is State.DEAD


def test_an_interrupted_worker_is_no_crash(bench):
    work = bench.add()

    def interrupted(*_):
        raise KeyboardInterrupt

    worker = Worker(
        bench.settings, bench.ledger, interrupted, {"": bench.destination}, bench.source
    )
    worker.step()
    with pytest.raises(KeyboardInterrupt):
        worker.step()
    assert bench.ledger.get(work.id).starts == 0


def test_a_policy_holds_results_back_until_a_reader_accepts_them(bench):
    work = bench.add()
    set_policy(bench.places.results, Policy(send="accepted"))
    bench.worker.run_due()
    held = bench.ledger.get(work.id)
    assert (held.state, held.failures) == (State.DERIVED, 0)
    assert "no reader has accepted it" in held.note
    assert bench.destination.stored == []
    folder = bench.places.result(work.id) / "s-1-test-v1"
    decide(bench.places.results, "case", folder, Decision(reader="r1", verdict="accept"))
    bench.clock.at = held.due
    bench.worker.run_due()
    assert bench.ledger.get(work.id).state is State.SENT


def test_a_rejected_series_is_done_until_the_reader_thinks_better_of_it(bench):
    work = bench.add()
    set_policy(bench.places.results, Policy(send="accepted"))
    bench.worker.run_due()
    folder = bench.places.result(work.id) / "s-1-test-v1"
    no = Decision(reader="r1", verdict="reject", reason="smeared vessels")
    decided = decide(bench.places.results, "case", folder, no)
    bench.clock.at = bench.ledger.get(work.id).due
    bench.worker.run_due()
    rejected = bench.ledger.get(work.id)
    assert rejected.state is State.REJECTED
    assert "rejected by r1: smeared vessels" in rejected.note
    bench.clock.at += 1e6
    assert bench.worker.run_due() == 0
    assert bench.ledger.next_due(failed=True) is None  # nothing is waited for
    assert bench.destination.stored == []
    yes = Decision(reader="r1", verdict="accept", seen=decided.time)
    decide(bench.places.results, "case", folder, yes)
    retry(bench.ledger, bench.places, rejected)
    bench.worker.run_due()
    assert bench.ledger.get(work.id).state is State.SENT


def test_two_workers_at_once_never_hold_the_same_work(tmp_path):
    bench = Bench(tmp_path)
    for number in range(1, 9):
        bench.add(number)
    done: list[str] = []

    def work(name: str) -> None:
        worker = Worker(
            bench.settings,
            Ledger(bench.settings.work, now=bench.clock),
            derive,
            {"": FolderPeer(tmp_path / "pacs")},
            bench.source,
        )
        worker.run_due(lambda work: done.append(f"{work.id} {work.state}"))

    threads = [threading.Thread(target=work, args=(name,)) for name in "ab"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(done) == len(set(done)) == 8 * 3
    log = (tmp_path / "pacs" / "log").read_text().split()
    assert len(log) == len(set(log)) == 8 * 3


def test_what_is_reported_of_work_identifies_no_patient(bench):
    work = bench.add()
    reported = json.dumps([work.to_dict(), bench.ledger.events(work.id)])
    for secret in ("SECRET-4711", "Geheim", work.study_uid, work.series_uid, "19991231"):
        assert secret not in reported
    assert (bench.settings.work.stat().st_mode & 0o077) == 0


def test_pauses_double_up_to_the_longest():
    plan = Retry(first_s=10, longest_s=100)
    assert [plan.pause_s(failures) for failures in (1, 2, 3, 4, 5, 500)] == [
        10, 20, 40, 80, 100, 100,
    ]  # fmt: skip
