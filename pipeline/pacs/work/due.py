"""Which rows of the ledger are due, in the order in which they are done."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator

from pipeline.pacs.settings.hospital import Priority
from pipeline.pacs.work.item import AWAITS_COMMITMENT, OPEN, State

_PAGE = 50
#: Depth first: what is furthest is done before another series is begun.
_DEPTH = (State.DERIVED, State.HERE, State.FOUND)


def due_ids(database: sqlite3.Connection, at: float) -> Iterator[str]:
    """Ids of work that is due: by priority, then what is furthest, then what is due longest.

    Read in pages, since the first ones mostly do. at: seconds since 1970.
    """
    for priority in sorted(Priority, reverse=True):
        for state in _DEPTH:
            last = (float("-inf"), "")
            while page := _page(database, priority, state, at, last):
                yield from (name for _, name in page)
                last = page[-1]


def next_due(database: sqlite3.Connection, at: float, *, failed: bool) -> float | None:
    """When the next step after `at` will be due that waits for nothing but time; None without any.

    That is a series which may still grow, and with `failed` another attempt after a failure.
    Derived work without failures waits for a reader, or for storage commitment.
    """
    row = database.execute(
        "SELECT min(due) FROM work WHERE due > ? AND (state = 'found' AND failures = 0"
        " OR state = 'derived' AND instr(note, ?)"
        f" OR ? AND state IN ({', '.join('?' * len(OPEN))}) AND failures > 0)",
        (at, AWAITS_COMMITMENT, failed, *OPEN),
    ).fetchone()
    return None if row is None else row[0]


def _page(
    database: sqlite3.Connection, priority: int, state: State, at: float, last: tuple[float, str]
) -> list[tuple[float, str]]:
    """(due, id) of work that is due and comes after `last`, in the order of the index."""
    rows = database.execute(
        "SELECT due, id FROM work WHERE priority = ? AND state = ? AND due <= ?"
        " AND (due, id) > (?, ?) ORDER BY due, id LIMIT ?",
        (int(priority), state, at, *last, _PAGE),
    )
    return [(row["due"], row["id"]) for row in rows]
