"""What the ledger says of a hospital's work, and what a person may change of it."""

from __future__ import annotations

import getpass
from dataclasses import dataclass, field
from typing import Any

from flows.runtime.progress import log
from pipeline.core.errors import ConfigError
from pipeline.pacs.messages.atna_trail import AtnaTrail
from pipeline.pacs.settings.hospital import Pacs
from pipeline.pacs.steps.worker import retry
from pipeline.pacs.work.deliveries import Delivery
from pipeline.pacs.work.folder import WorkFolder
from pipeline.pacs.work.item import OPEN, State, WorkItem
from pipeline.pacs.work.ledger import Ledger


@dataclass(frozen=True)
class LedgerStatus:
    """counts: rows of the ledger by state. open: the work that is not done, oldest change first.
    not_shown: how many more there are of it.

    unmatched: received series that match no rule; kept in the folder of that name. deliveries: of
    open work that has several destinations, by its id.
    """

    counts: dict[str, int]
    open: list[WorkItem]
    unmatched: int = 0
    deliveries: dict[str, list[Delivery]] = field(default_factory=dict)
    not_shown: int = 0

    def to_dict(self) -> dict[str, Any]:
        """As `ldct status --json` has it."""
        works = [work.to_dict() for work in self.open]
        sent = {id_: [each.to_dict() for each in rows] for id_, rows in self.deliveries.items()}
        return {
            "counts": self.counts,
            "open": works,
            "not_shown": self.not_shown,
            "unmatched": self.unmatched,
            "deliveries": sent,
        }


#: Rows of each state on a status page: a backlog of ten thousand is not read.
SHOWN_OF_A_STATE = 50


def status(settings: Pacs, *, everything: bool = False) -> LedgerStatus:
    """What the ledger says of work that is done, due, held and failed.

    everything: all open work, not only the SHOWN_OF_A_STATE oldest of each state.
    """
    ledger = Ledger(settings.work)
    states, counts = (*OPEN, State.HELD, State.REJECTED, State.DEAD), ledger.counts()
    most = max(counts.values()) if everything else SHOWN_OF_A_STATE
    works = [work for state in states for work in ledger.first(state, most)]
    works.sort(key=lambda work: (work.changed, work.id))
    rows = ledger.deliveries.known_of([work.id for work in works])
    several = {name: found for name, found in rows.items() if any(d.destination for d in found)}
    unmatched = WorkFolder(settings.work).unmatched_count()
    not_shown = sum(counts[state] for state in states) - len(works)
    return LedgerStatus(counts, works, unmatched, several, max(0, not_shown))


def log_step(work: WorkItem) -> None:
    """Log what became of a piece of work."""
    step = f"{work.id}: {work.state}{f', {work.note}' if work.note else ''}"
    log("step", step, work.to_dict())


def retry_work(settings: Pacs, names: list[str]) -> list[WorkItem]:
    """Make work due now: by id, or all that is dead and all that waits after a failure."""
    ledger, places = Ledger(settings.work), WorkFolder(settings.work)
    if names:
        selected = [ledger.get(name) for name in names]
    else:
        failing = [work for work in ledger.all(*OPEN) if work.failures]
        selected = ledger.all(State.DEAD) + failing
    return [retry(ledger, places, work) for work in selected]


def release_work(settings: Pacs, names: list[str], reason: str) -> list[WorkItem]:
    """Let held work be sent, by id; the user and the reason are kept in the ledger.

    Raises ConfigError without a reason, and for work that is not held.
    """
    if not reason.strip():
        raise ConfigError("--reason: say why it may be sent; it is kept")
    ledger = Ledger(settings.work)
    selected = [ledger.get(name) for name in names]
    user, trail = getpass.getuser(), AtnaTrail(settings)
    note = f"released by {user}: {reason.strip()}"
    released = []
    for work in selected:
        ledger.require_held(work)
        trail.released(work, user)
        released.append(ledger.release(work, note))
    return released
