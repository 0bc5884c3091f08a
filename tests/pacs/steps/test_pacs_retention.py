"""Results that were sent are deleted after a time, and only those; the ledger says so."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from helpers.pacs import derive
from helpers.pacs_bench import Bench

from pipeline.pacs.steps import retention
from pipeline.pacs.steps.worker import Worker
from pipeline.pacs.work.item import State, WorkItem

DAY_S = 86_400


class Kept(Bench):
    """A bench with a worker that notes what it deleted."""

    def __init__(self, root: Path, **more) -> None:
        super().__init__(root, **more)
        self.deleted: list[str] = []
        self.worker = Worker(
            self.settings,
            self.ledger,
            derive,
            {"": self.destination},
            self.source,
            lambda work: self.deleted.append(work.id),
        )

    def notes(self, work: WorkItem) -> list[str]:
        return [note for _, note in self.ledger.events(work.id) if "deleted" in note]


def test_a_result_is_deleted_after_its_time_and_recorded(tmp_path):
    bench = Kept(tmp_path, keep_results_days=2)
    work = bench.add(1)
    bench.worker.run_due()
    bench.clock.at += 2 * DAY_S - 1
    bench.worker.run_due()
    assert bench.places.result(work.id).is_dir()
    bench.clock.at += 1
    bench.worker.run_due()
    assert not bench.places.result(work.id).exists()
    assert bench.deleted == [work.id]
    assert bench.notes(work) == ["result deleted: sent 2 days ago or longer"]
    bench.worker.run_due()
    assert len(bench.notes(work)) == 1
    assert bench.add_to_ledger(1).state is State.SENT, "and it is not derived again"


@pytest.mark.parametrize("state", [State.DERIVED, State.HELD, State.REJECTED, State.DEAD])
def test_what_was_not_sent_is_kept(tmp_path, state):
    bench = Kept(tmp_path, keep_results_days=0)
    work = bench.add(1)
    bench.worker.step()
    bench.ledger.wait(bench.worker.step(), "waits", pause_s=1000 * DAY_S)
    if state is not State.DERIVED:
        bench.ledger.advance(work, state)
    bench.clock.at += 900 * DAY_S
    bench.worker.run_due()
    assert bench.places.result(work.id).is_dir()
    assert bench.deleted == []


def test_all_is_kept_unless_set(tmp_path):
    bench = Kept(tmp_path)
    work = bench.add(1)
    bench.worker.run_due()
    bench.clock.at += 9000 * DAY_S
    bench.worker.run_due()
    assert bench.places.result(work.id).is_dir()


def test_a_kill_while_it_is_deleted_leaves_a_record(tmp_path, monkeypatch):
    bench = Kept(tmp_path, keep_results_days=1)
    work = bench.add(1)
    bench.worker.run_due()
    bench.clock.at += DAY_S

    def killed(folder):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(retention.shutil, "rmtree", killed)
        with pytest.raises(KeyboardInterrupt):
            bench.worker.run_due()
    assert len(bench.notes(work)) == 1
    assert retention.shutil.rmtree is shutil.rmtree
    bench.worker.run_due()
    assert not bench.places.result(work.id).exists()
