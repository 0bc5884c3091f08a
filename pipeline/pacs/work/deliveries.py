"""One row for each result and destination: whether it has it, and when it is tried again."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from pipeline.core.sanitise import printable_line
from pipeline.pacs.settings.hospital import Retry
from pipeline.pacs.work.item import State, WorkItem

#: Ids in one query: SQLite takes 999 values at least, and 32,766 of late.
_ASKED_AT_ONCE = 500


@dataclass(frozen=True)
class Delivery:
    """A result and one destination.

    work: the id of the piece of work. destination: its name, "" for one without. state: derived
    until it has every image, then sent; dead where that failed for good. failures, due and note as
    in WorkItem.
    """

    work: str
    destination: str
    state: State = State.DERIVED
    failures: int = 0
    due: float = 0.0
    note: str = ""

    def to_dict(self) -> dict[str, object]:
        """As `ldct status --json` has it."""
        return {
            "destination": self.destination,
            "state": str(self.state),
            "failures": self.failures,
            "note": self.note,
        }


class Deliveries:
    """The rows of a ledger's table; each change is one statement, which commits by itself.

    Only for the process that holds the work.
    """

    def __init__(self, database: sqlite3.Connection, now: Callable[[], float]) -> None:
        self._db, self._now = database, now

    def of(self, work: WorkItem, destinations: Iterable[str]) -> list[Delivery]:
        """A row for each of the named destinations, in their order, made where there is none.

        A new one has the failures of the work: those of a ledger from before there were several.
        """
        known = {each.destination: each for each in self.known(work.id)}
        found = []
        for name in destinations:
            if name not in known:
                known[name] = Delivery(work.id, name, failures=work.failures)
                self._save(known[name])
            found.append(known[name])
        return found

    def known(self, work: str) -> list[Delivery]:
        """The rows that there are of a piece of work, by its id."""
        rows = self._db.execute("SELECT * FROM delivery WHERE work = ?", (work,))
        return [_delivery(row) for row in rows]

    def known_of(self, works: Sequence[str]) -> dict[str, list[Delivery]]:
        """The rows that there are of each of many pieces of work, by id."""
        found: dict[str, list[Delivery]] = {name: [] for name in works}
        for start in range(0, len(works), _ASKED_AT_ONCE):
            asked = works[start : start + _ASKED_AT_ONCE]
            marks = ", ".join("?" * len(asked))
            rows = self._db.execute(f"SELECT * FROM delivery WHERE work IN ({marks})", asked)
            for row in rows:
                found[row["work"]].append(_delivery(row))
        return found

    def sent(self, delivery: Delivery, note: str) -> None:
        """The destination has every image."""
        self._change(delivery, State.SENT, note)

    def fail(self, delivery: Delivery, reason: str, retry: Retry) -> None:
        """An attempt failed and another may succeed: due after a pause, dead after too many."""
        failures = delivery.failures + 1
        if failures >= retry.attempts:
            self.mark_dead(delivery, f"{reason} (after {failures} attempts)")
            return
        pause_s = retry.pause_s(failures)
        self._change(delivery, State.DERIVED, reason, pause_s=pause_s, failures=failures)

    def wait(self, delivery: Delivery, reason: str, *, pause_s: float) -> None:
        """Nothing failed, but it cannot be done yet."""
        failures = delivery.failures
        self._change(delivery, State.DERIVED, reason, pause_s=pause_s, failures=failures)

    def postpone(self, delivery: Delivery, reason: str, *, pause_s: float) -> None:
        """It failed for what will pass: due after a pause, and not counted as an attempt."""
        failures = max(1, delivery.failures)
        self._change(delivery, State.DERIVED, reason, pause_s=pause_s, failures=failures)

    def mark_dead(self, delivery: Delivery, reason: str) -> None:
        """It failed for good: only a person can help."""
        self._change(delivery, State.DEAD, reason)

    def restart(self, work: str) -> None:
        """What is dead of a piece of work is due again."""
        self._db.execute(
            "UPDATE delivery SET state = ?, failures = 0, due = 0 WHERE work = ? AND state = ?",
            (State.DERIVED, work, State.DEAD),
        )

    def make_due(self, work: str) -> None:
        """What waits for its next attempt is due now."""
        self._db.execute("UPDATE delivery SET due = 0 WHERE work = ?", (work,))

    def forget(self, work: str) -> None:
        """Every destination is asked again what it has of a piece of work."""
        self._db.execute("DELETE FROM delivery WHERE work = ?", (work,))

    def _change(
        self, delivery: Delivery, state: State, note: str, *, pause_s: float = 0, failures: int = 0
    ) -> None:
        due, note = self._now() + pause_s, printable_line(note)
        self._save(Delivery(delivery.work, delivery.destination, state, failures, due, note))

    def _save(self, delivery: Delivery) -> None:
        self._db.execute(
            "INSERT OR REPLACE INTO delivery (work, destination, state, failures, due, note)"
            " VALUES (?, ?, ?, ?, ?, ?)",
            (delivery.work, delivery.destination, delivery.state, delivery.failures, delivery.due,
             delivery.note),
        )  # fmt: skip


def _delivery(row: sqlite3.Row) -> Delivery:
    return Delivery(**{**dict(row), "state": State(row["state"])})


def summary(deliveries: list[Delivery]) -> str:
    """What each destination has, in one line: the note of the work."""
    if len(deliveries) == 1:
        return deliveries[0].note
    words = {State.SENT: "sent", State.DEAD: "failed for good"}
    return "; ".join(
        f"{each.destination}: {words.get(each.state, 'waits')}, {each.note}" for each in deliveries
    )
