"""What a worker takes next, however much is due."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

import pytest

from pipeline.pacs.settings.hospital import Priority
from pipeline.pacs.work import due as module
from pipeline.pacs.work.item import PacsSeries, State, WorkItem
from pipeline.pacs.work.ledger import Ledger

COUNT = 12


@pytest.fixture
def ledger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Ledger:
    """COUNT pieces of work, the later found the earlier due; some are further than others, some
    more urgent."""
    monkeypatch.setattr(module, "_PAGE", 5)
    ledger = Ledger(tmp_path, now=lambda: 100.0)
    for number in range(COUNT):
        series = PacsSeries("1.2", f"1.2.{number}", frozenset({"1"}))
        priority = Priority.HIGH if number % 4 == 2 else Priority.MEDIUM
        due = 50.0 - number // 2
        work = ledger.add(series, "m", origin="t", rule="r", due=due, priority=priority)
        if number % 3 == 1:
            ledger._db.execute("UPDATE work SET state = 'derived' WHERE id = ?", (work.id,))
    ledger.add(PacsSeries("1.2", "1.3", frozenset({"1"})), "m", origin="t", rule="r", due=101.0)
    return ledger


def test_workers_take_all_that_is_due_in_its_order_over_many_pages(ledger: Ledger) -> None:
    due = [work for work in ledger.all() if work.due <= 100]

    def order(work: WorkItem) -> tuple:
        return -work.priority, work.state is not State.DERIVED, work.due, work.id

    expected = [work.id for work in sorted(due, key=order)]
    assert {work.state for work in due} == {State.FOUND, State.DERIVED}
    with ExitStack() as held:
        taken = [held.enter_context(ledger.claim()) for _ in range(COUNT)]
        assert [work.id for work in taken if work] == expected
        with ledger.claim() as nothing_left:
            assert nothing_left is None


def test_a_claim_reads_a_page_of_what_waits(ledger: Ledger) -> None:
    read: list[str] = []
    ledger._db.set_trace_callback(read.append)
    with ledger.claim() as work:
        assert work is not None
    pages = sum("LIMIT 5" in statement for statement in read)
    assert pages <= len(Priority) * 3, "one for each open state"


def test_the_index_gives_the_order(ledger: Ledger) -> None:
    """Without it, SQLite would sort all that waits for each step."""
    plan_text = plan(
        ledger,
        "SELECT due, id FROM work WHERE priority = 1 AND state = 'found'"
        " AND due <= 1 AND (due, id) > (0, '') ORDER BY due, id LIMIT 5",
    )
    assert "COVERING INDEX work_order" in plan_text
    assert "TEMP B-TREE" not in plan_text


def test_figures_of_what_waits_and_fails_come_of_indexes(ledger: Ledger) -> None:
    """Each scrape of /metrics asks for them (flows.hospital.prometheus)."""
    waiting = "SELECT min(due) FROM work WHERE priority IN (0, 1, 2) AND state IN ('found')"
    assert "COVERING INDEX work_order" in plan(ledger, f"{waiting} AND due <= 1")
    failing = "SELECT count(*) FROM work WHERE state IN ('found', 'here') AND failures > 0"
    assert "INDEX work_failing" in plan(ledger, failing)


def plan(ledger: Ledger, query: str) -> str:
    rows = ledger._db.execute(f"EXPLAIN QUERY PLAN {query}").fetchall()
    return " ".join(row["detail"] for row in rows)
