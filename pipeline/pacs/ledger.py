"""What is to be done, is under way and was done: one row for each series and model version.

SQLite in WAL mode, so that several workers share it. A worker holds a row by a lock on a file
of its own, which the system lets go when the process dies, however it dies: no lease, no clock.
What a step makes is made whole beside its place and moved there, so that a step that was cut
off is done again, and one that was not is not.
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
    """The ledger in a folder; opened anew by each process and thread that uses it."""

    def __init__(self, folder: Path, *, now: Callable[[], float] = time.time) -> None:
        self.folder, self.now = folder, now
        private_folder(folder)
        private_folder(folder / LOCKS)
        try:
            # autocommit: each change below is a statement, or a transaction that says so.
            self._db = sqlite3.connect(folder / FILE, isolation_level=None)
            self._db.row_factory = sqlite3.Row
            self._db.execute(f"PRAGMA busy_timeout = {_BUSY_MS}")
            self._db.execute("PRAGMA journal_mode = WAL")
            # WAL's usual NORMAL may lose the last changes where the power fails.
            self._db.execute("PRAGMA synchronous = FULL")
            self._db.executescript(_SCHEMA)
        except sqlite3.Error as error:
            raise ConfigError(f"cannot use the ledger {folder / FILE}: {error}") from error

    def close(self) -> None:
        self._db.close()

    def add(
        self, series: PacsSeries, model: str, *, origin: str, rule: str, due: float
    ) -> WorkItem:
        """The work for a series and a model version: new, or the one there is already."""
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
                self._tell(name, State.FOUND, f"by {origin}, rule {rule}")
        return self.get(name)

    def get(self, name: str) -> WorkItem:
        row = self._db.execute("SELECT * FROM work WHERE id = ?", (name,)).fetchone()
        if row is None:
            raise ConfigError(f"there is no work {name} in {self.folder}; see `ldct status`")
        return _work(row)

    def all(self, *states: State) -> list[WorkItem]:
        """Every row, or those in the states; oldest change first."""
        chosen = states or tuple(State)
        marks = ", ".join("?" * len(chosen))
        rows = self._db.execute(
            f"SELECT * FROM work WHERE state IN ({marks}) ORDER BY changed, id", chosen
        )
        return [_work(row) for row in rows]

    def counts(self) -> dict[str, int]:
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
        """The next piece of work that is due and that nobody else holds; None if there is none.

        It is held until the block ends or the process dies. That it was begun is written down
        first, so that a series which kills its worker is known.
        """
        for name in self._due():
            with self._held(name) as held:
                # Another worker may have done it between the question and the lock.
                if held and self._is_due(name):
                    self._db.execute("UPDATE work SET starts = starts + 1 WHERE id = ?", (name,))
                    yield self.get(name)
                    return
        yield None

    def advance(self, work: WorkItem, state: State, note: str = "") -> WorkItem:
        """A step is done: the next one is due now, with a clean slate."""
        return self._change(work, state, note=note, due=self.now())

    def fail(self, work: WorkItem, why: str, retry: Retry) -> WorkItem:
        """What may go better later is due after a pause; after too many attempts it is dead."""
        failures = work.failures + 1
        if failures >= retry.attempts:
            return self.bury(work, f"{why} (after {failures} attempts)")
        due = self.now() + retry.pause_s(failures)
        return self._change(work, work.state, note=why, due=due, failures=failures)

    def wait(self, work: WorkItem, why: str, *, pause_s: float) -> WorkItem:
        """Not a failure: somebody else has to act first."""
        due = self.now() + pause_s
        return self._change(work, work.state, note=why, due=due, failures=work.failures)

    def let_go(self, work: WorkItem) -> None:
        """A step was broken off in good order: it does not count as a crash."""
        self._db.execute("UPDATE work SET starts = starts - 1 WHERE id = ?", (work.id,))

    def bury(self, work: WorkItem, why: str) -> WorkItem:
        """Nothing but a person helps."""
        return self._change(work, State.DEAD, note=why, due=self.now(), stopped_in=str(work.state))

    def release(self, work: WorkItem, why: str) -> WorkItem:
        """What was held back goes on to be sent; why is kept."""
        if work.state is not State.HELD:
            raise ConfigError(
                f"{work.id} is not held but {work.state}: there is nothing to release"
            )
        return self._change(work, State.DERIVED, note=why, due=self.now())

    def revive(self, work: WorkItem) -> WorkItem:
        """From the dead, to the step where it stopped."""
        if work.state is not State.DEAD:
            raise ConfigError(f"{work.id} is not dead but {work.state}: there is nothing to retry")
        return self._change(work, State(work.stopped_in), note="retried", due=self.now())

    def hurry(self, work: WorkItem) -> None:
        """What waits for its next attempt is due now."""
        self._db.execute("UPDATE work SET due = ? WHERE id = ?", (self.now(), work.id))

    def _due(self) -> Iterator[str]:
        """A page at a time: a worker takes the first that no other holds, however many wait."""
        at, last = self.now(), (float("-inf"), "")
        while page := self._page(at, last):
            yield from (name for _, name in page)
            last = page[-1]

    def _page(self, at: float, last: tuple[float, str]) -> list[tuple[float, str]]:
        """(due, id) of what is due and comes after `last`, in the order of the index."""
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
            self._tell(work.id, state, note)
        return self.get(work.id)

    def _tell(self, name: str, state: State, note: str) -> None:
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
    def _held(self, name: str) -> Iterator[bool]:
        """Whether this process alone holds a piece of work."""
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
    """A folder that its owner alone can enter, made if need be."""
    try:
        path.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise ConfigError(f"cannot make the folder {path}: {error.strerror}") from error


def _work(row: sqlite3.Row) -> WorkItem:
    return WorkItem(**{**dict(row), "state": State(row["state"])})
