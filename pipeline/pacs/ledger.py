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
from pipeline.pacs.hospital_config import Retry
from pipeline.pacs.work_item import OPEN, PacsSeries, State, WorkItem, work_id

FILE = "ledger.db"
LOCKS = "locks"
_BUSY_MS = 30_000
_PAGE = 50
_SCHEMA = """
CREATE TABLE IF NOT EXISTS work (
    id TEXT PRIMARY KEY,
    digest TEXT NOT NULL,
    model TEXT NOT NULL,
    study_uid TEXT NOT NULL,
    series_uid TEXT NOT NULL,
    origin TEXT NOT NULL,
    rule TEXT NOT NULL,
    instances INTEGER NOT NULL,
    state TEXT NOT NULL,
    stopped_in TEXT NOT NULL DEFAULT '',
    failures INTEGER NOT NULL DEFAULT 0,
    starts INTEGER NOT NULL DEFAULT 0,
    due REAL NOT NULL,
    note TEXT NOT NULL DEFAULT '',
    changed REAL NOT NULL,
    UNIQUE (digest, model)
);
CREATE INDEX IF NOT EXISTS work_next ON work (state, due, id);
DROP INDEX IF EXISTS work_due;
CREATE TABLE IF NOT EXISTS event (
    number INTEGER PRIMARY KEY,
    id TEXT NOT NULL,
    at REAL NOT NULL,
    state TEXT NOT NULL,
    note TEXT NOT NULL
);
"""


class Ledger:
    """The ledger in a folder; each process and thread opens its own.

    now: the time in seconds since 1970. Raises ConfigError where the folder or database cannot be
    used.
    """

    def __init__(self, folder: Path, *, now: Callable[[], float] = time.time) -> None:
        self.folder, self.now = folder, now
        private_folder(folder)
        private_folder(folder / LOCKS)
        try:
            # autocommit: each change below is one statement, or in _transaction.
            self._db = sqlite3.connect(folder / FILE, isolation_level=None)
            self._db.row_factory = sqlite3.Row
            self._db.execute(f"PRAGMA busy_timeout = {_BUSY_MS}")
            self._db.execute("PRAGMA journal_mode = WAL")
            # WAL's default, NORMAL, may lose the last changes when the power fails.
            self._db.execute("PRAGMA synchronous = FULL")
            self._db.executescript(_SCHEMA)
        except sqlite3.Error as error:
            raise ConfigError(f"cannot use the ledger {folder / FILE}: {error}") from error

    def close(self) -> None:
        """Close the database; locks are not affected."""
        self._db.close()

    def add(
        self, series: PacsSeries, model: str, *, origin: str, rule: str, due: float
    ) -> WorkItem:
        """Add work for a series and a model version; returns the row there is where it has one.

        origin: how it came, dicomweb or c-store. rule: the name of the rule that it matched.
        """
        name, at = work_id(series.digest, model), self.now()
        with self._transaction():
            added = self._db.execute(
                "INSERT INTO work (id, digest, model, study_uid, series_uid, origin, rule,"
                " instances, state, due, changed) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
                " ON CONFLICT (digest, model) DO NOTHING",
                (name, series.digest, model, series.study_uid, series.series_uid, origin, rule,
                 len(series.instance_uids), State.FOUND, due, at),
            )  # fmt: skip
            if added.rowcount:
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

    def wait(self, work: WorkItem, reason: str, *, pause_s: float) -> WorkItem:
        """A step cannot be done until a person has acted; that is no failure."""
        due = self.now() + pause_s
        return self._change(work, work.state, note=reason, due=due, failures=work.failures)

    def undo_start(self, work: WorkItem) -> None:
        """A step was interrupted in good order: it does not count as a crash."""
        self._db.execute("UPDATE work SET starts = starts - 1 WHERE id = ?", (work.id,))

    def mark_dead(self, work: WorkItem, reason: str) -> WorkItem:
        """A step failed for good: only a person can help."""
        return self._change(
            work, State.DEAD, note=reason, due=self.now(), stopped_in=str(work.state)
        )

    def release(self, work: WorkItem, reason: str) -> WorkItem:
        """Held work is due to be sent; the reason is kept. Raises ConfigError for other states."""
        if work.state is not State.HELD:
            raise ConfigError(
                f"{work.id} is not held but {work.state}: there is nothing to release"
            )
        return self._change(work, State.DERIVED, note=reason, due=self.now())

    def restart(self, work: WorkItem) -> WorkItem:
        """Dead work is due again, at the step that failed. Raises ConfigError for other states."""
        if work.state is not State.DEAD:
            raise ConfigError(f"{work.id} is not dead but {work.state}: there is nothing to retry")
        return self._change(work, State(work.stopped_in), note="retried", due=self.now())

    def make_due(self, work: WorkItem) -> None:
        """Work that waits for its next attempt is due now."""
        self._db.execute("UPDATE work SET due = ? WHERE id = ?", (self.now(), work.id))

    def _due(self) -> Iterator[str]:
        """Ids of work that is due, oldest first; read in pages, since the first ones mostly do."""
        at, last = self.now(), (float("-inf"), "")
        while page := self._page(at, last):
            yield from (name for _, name in page)
            last = page[-1]

    def _page(self, at: float, last: tuple[float, str]) -> list[tuple[float, str]]:
        """(due, id) of work that is due and comes after `last`, in the order of the index."""
        rows = [
            (row["due"], row["id"])
            for state in OPEN
            for row in self._db.execute(
                "SELECT due, id FROM work WHERE state = ? AND due <= ? AND (due, id) > (?, ?)"
                " ORDER BY due, id LIMIT ?",
                (state, at, *last, _PAGE),
            )
        ]
        return sorted(rows)[:_PAGE]

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


def private_folder(path: Path) -> None:
    """Make a folder that only its owner can enter, where there is none. Raises ConfigError."""
    try:
        path.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise ConfigError(f"cannot make the folder {path}: {error.strerror}") from error


def _work(row: sqlite3.Row) -> WorkItem:
    return WorkItem(**{**dict(row), "state": State(row["state"])})
