"""The ledger of what is due, in process and done: one row for each series and model version.

SQLite in WAL mode, so that several workers share it. A worker holds a row by a lock on that row's
file, which the operating system releases when the process dies, however it dies: no lease, no
clock. A step writes its files beside their place and renames them, so that a step that was
interrupted is repeated, and one that was not is not.
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from pipeline.core.errors import ConfigError
from pipeline.core.sanitise import printable_line
from pipeline.pacs.settings.hospital import Priority, Retry
from pipeline.pacs.work.deliveries import Deliveries
from pipeline.pacs.work.due import due_ids, next_due
from pipeline.pacs.work.item import (
    OPEN,
    PacsSeries,
    State,
    WorkItem,
    work_id,
)
from pipeline.pacs.work.ledger_file import LOCKS, open_ledger
from pipeline.pacs.work.private import close_to_others, private_folder


class Ledger:
    """The ledger in a folder; each process and thread opens its own.

    now: the time in seconds since 1970. Raises ConfigError where the folder or database cannot be
    used.
    """

    def __init__(self, folder: Path, *, now: Callable[[], float] = time.time) -> None:
        self.folder, self.now = folder, now
        private_folder(folder)
        close_to_others(folder)
        private_folder(folder / LOCKS)
        # Autocommit: each change below is one statement, or in _transaction.
        self._db = open_ledger(folder)
        self.deliveries = Deliveries(self._db, now)

    def close(self) -> None:
        """Close the database; locks are not affected."""
        self._db.close()

    def add(
        self,
        series: PacsSeries,
        model: str,
        *,
        origin: str,
        rule: str,
        due: float,
        priority: int = Priority.MEDIUM,
    ) -> WorkItem:
        """Add work for a series and a model version; returns the row there is where it has one.

        Superseded work whose images are what there is again is found again. origin: how it came,
        dicomweb, folder or c-store. rule: the name of the rule that it matched.
        """
        name, at = work_id(series.digest, model), self.now()
        with self._transaction():
            added = self._db.execute(
                "INSERT INTO work (id, digest, model, study_uid, series_uid, origin, rule,"
                " instances, state, due, changed, priority)"
                " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (digest, model)"
                " DO UPDATE SET state = excluded.state, due = excluded.due, note = ''"
                " WHERE state = 'superseded'",
                (name, series.digest, model, series.study_uid, series.series_uid, origin, rule,
                 len(series.instance_uids), State.FOUND, due, at, priority),
            )  # fmt: skip
            if added.rowcount:
                self.deliveries.forget(name)
                self._record_event(name, State.FOUND, f"by {origin}, rule {rule}")
        return self.get(name)

    def get(self, name: str) -> WorkItem:
        """The row of that id; raises ConfigError where there is none."""
        row = self._db.execute("SELECT * FROM work WHERE id = ?", (name,)).fetchone()
        if row is None:
            raise ConfigError(f"there is no work {name} in {self.folder}; see `ldct status`")
        return _work(row)

    def all(self, *states: State) -> list[WorkItem]:
        """Every row, or those in the states; oldest change first."""
        selected = states or tuple(State)
        marks = ", ".join("?" * len(selected))
        rows = self._db.execute(
            f"SELECT * FROM work WHERE state IN ({marks}) ORDER BY changed, id", selected
        )
        return [_work(row) for row in rows]

    def first(self, state: State, most: int) -> list[WorkItem]:
        """The rows in a state, oldest change first, and no more than `most` of them."""
        rows = self._db.execute(
            "SELECT * FROM work WHERE state = ? ORDER BY changed, id LIMIT ?", (state, most)
        )
        return [_work(row) for row in rows]

    def of_series(self, series_uid: str) -> list[WorkItem]:
        """Every row of a series, whatever images it had."""
        rows = self._db.execute("SELECT * FROM work WHERE series_uid = ?", (series_uid,))
        return [_work(row) for row in rows]

    def counts(self) -> dict[str, int]:
        """How many rows are in each state; every state is there."""
        rows = self._db.execute("SELECT state, count(*) FROM work GROUP BY state")
        return {str(state): 0 for state in State} | {state: number for state, number in rows}

    def events(self, name: str) -> list[tuple[str, str]]:
        """(state, note) of everything that happened to a piece of work."""
        rows = self._db.execute(
            "SELECT state, note FROM event WHERE id = ? ORDER BY number", (name,)
        )
        return [(row["state"], row["note"]) for row in rows]

    @contextmanager
    def claim(self) -> Iterator[WorkItem | None]:
        """The next piece of work that is due and that no other worker holds; None if there is none.

        It is held until the block ends or the process dies. Its start is counted first, so that a
        series on which workers crash is known.
        """
        for name in self._due():
            with self._lock(name) as locked:
                # Another worker may have done it between the query and the lock.
                if locked and self._is_due(name):
                    self._db.execute("UPDATE work SET starts = starts + 1 WHERE id = ?", (name,))
                    yield self.get(name)
                    return
        yield None

    def advance(self, work: WorkItem, state: State, note: str = "") -> WorkItem:
        """A step is done: the next one is due now, without failures so far."""
        return self._change(work, state, note=note, due=self.now())

    def fail(self, work: WorkItem, reason: str, retry: Retry) -> WorkItem:
        """A step failed and may succeed later: due after a pause, dead after too many attempts."""
        failures = work.failures + 1
        if failures >= retry.attempts:
            return self.mark_dead(work, f"{reason} (after {failures} attempts)")
        due = self.now() + retry.pause_s(failures)
        return self._change(work, work.state, note=reason, due=due, failures=failures)

    def wait(self, work: WorkItem, reason: str, *, pause_s: float, failures: int = 0) -> WorkItem:
        """A step cannot be done until a person has acted, the series is whole, or the destination
        has committed to it: no failure. failures: those before, where they still count."""
        due = self.now() + pause_s
        return self._change(work, work.state, note=reason, due=due, failures=failures)

    def postpone(self, work: WorkItem, reason: str, *, pause_s: float) -> WorkItem:
        """A step failed for what will pass: due after a pause, and not counted as an attempt."""
        due, failures = self.now() + pause_s, max(1, work.failures)
        return self._change(work, work.state, note=reason, due=due, failures=failures)

    def undo_start(self, work: WorkItem) -> None:
        """A step was interrupted in good order: it does not count as a crash."""
        self._db.execute("UPDATE work SET starts = starts - 1 WHERE id = ?", (work.id,))

    def mark_dead(self, work: WorkItem, reason: str) -> WorkItem:
        """A step failed for good: only a person can help."""
        return self._change(
            work, State.DEAD, note=reason, due=self.now(), stopped_in=str(work.state)
        )

    def record(self, work: WorkItem, note: str) -> None:
        """Something happened to work that is in no other state for it."""
        with self._transaction():
            self._record_event(work.id, work.state, printable_line(note))

    def supersede(self, work: WorkItem, reason: str) -> bool:
        """End work on a part of a series; False where it is done, or a worker holds it."""
        with self._lock(work.id) as locked:
            now = self.get(work.id)
            if not locked or now.state not in (*OPEN, State.HELD, State.DEAD):
                return False
            self._change(now, State.SUPERSEDED, note=reason, due=self.now())
            return True

    def require_held(self, work: WorkItem) -> None:
        """Raises ConfigError for work that is not held."""
        if work.state is not State.HELD:
            raise ConfigError(
                f"{work.id} is not held but {work.state}: there is nothing to release"
            )

    def release(self, work: WorkItem, reason: str) -> WorkItem:
        """Held work is due to be sent; the reason is kept. Raises ConfigError for other states."""
        self.require_held(work)
        return self._change(work, State.DERIVED, note=reason, due=self.now())

    def restart(self, work: WorkItem) -> WorkItem:
        """Dead work is due again, at the step that failed; rejected work, to be looked at again.

        Raises ConfigError for other states.
        """
        if work.state not in (State.DEAD, State.REJECTED):
            raise ConfigError(f"{work.id} is not dead but {work.state}: there is nothing to retry")
        self.deliveries.restart(work.id)
        step = State.DERIVED if work.state is State.REJECTED else State(work.stopped_in)
        return self._change(work, step, note="retried", due=self.now())

    def make_due(self, work: WorkItem) -> None:
        """Work that waits for its next attempt is due now, at every destination."""
        self.deliveries.make_due(work.id)
        self._db.execute("UPDATE work SET due = ? WHERE id = ?", (self.now(), work.id))

    def is_anything_due(self) -> bool:
        """Whether a step is due, also where another worker holds it."""
        return next(self._due(), None) is not None

    def next_due(self, *, failed: bool) -> float | None:
        """When the next step will be due that waits for nothing but time; None without any.

        failed: whether another attempt after a failure is one.
        """
        return next_due(self._db, self.now(), failed=failed)

    def _due(self) -> Iterator[str]:
        return due_ids(self._db, self.now())

    def _is_due(self, name: str) -> bool:
        work = self.get(name)
        return work.state in OPEN and work.due <= self.now()

    def _change(
        self,
        work: WorkItem,
        state: State,
        *,
        note: str,
        due: float,
        failures: int = 0,
        stopped_in: str = "",
    ) -> WorkItem:
        note = printable_line(note)
        with self._transaction():
            self._db.execute(
                "UPDATE work SET state = ?, note = ?, due = ?, failures = ?, stopped_in = ?,"
                " starts = 0, changed = ? WHERE id = ?",
                (state, note, due, failures, stopped_in, self.now(), work.id),
            )
            self._record_event(work.id, state, note)
        return self.get(work.id)

    def _record_event(self, name: str, state: State, note: str) -> None:
        self._db.execute(
            "INSERT INTO event (id, at, state, note) VALUES (?, ?, ?, ?)",
            (name, self.now(), state, note),
        )

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            if self._db.in_transaction:  # on a full disk SQLite has rolled back itself
                self._db.execute("ROLLBACK")
            raise
        self._db.execute("COMMIT")

    @contextmanager
    def _lock(self, name: str) -> Iterator[bool]:
        """Lock a piece of work; False where another process has the lock."""
        descriptor = os.open(self.folder / LOCKS / name, os.O_CREAT | os.O_RDWR, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            yield False
            return
        try:
            yield True
        finally:
            os.close(descriptor)


def _work(row: sqlite3.Row) -> WorkItem:
    return WorkItem(**{**dict(row), "state": State(row["state"])})
