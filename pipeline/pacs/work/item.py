"""A series of a PACS and the model version to apply to it: the rows of the ledger."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from enum import StrEnum

from pipeline.pacs.settings.hospital import Priority


class State(StrEnum):
    """How far a piece of work is: found -> here -> derived -> sent.

    here: retrieved or received. derived: the model was applied. held: waits for `ldct pacs
    release`. rejected: by a reader, and not sent. dead: failed for good, until `ldct retry`.
    superseded: the series grew, and is now another piece of work.
    """

    FOUND = "found"
    HERE = "here"
    DERIVED = "derived"
    HELD = "held"
    SENT = "sent"
    REJECTED = "rejected"
    SUPERSEDED = "superseded"
    DEAD = "dead"


OPEN = (State.FOUND, State.HERE, State.DERIVED)

#: The note of derived work that was sent and waits for storage commitment (PS3.4 J).
AWAITS_COMMITMENT = "sent; the destination has not committed to it yet"


@dataclass(frozen=True)
class PacsSeries:
    """A DICOM series as a PACS knows it. UIDs stay in the ledger: no report or log has them."""

    study_uid: str
    series_uid: str
    instance_uids: frozenset[str]

    @property
    def digest(self) -> str:
        """SHA-256 of its UIDs: a series that grew has another one (PS3.5 9: a UID names one image
        for ever)."""
        text = "\0".join([self.series_uid, *sorted(self.instance_uids)])
        return hashlib.sha256(text.encode()).hexdigest()


@dataclass(frozen=True)
class WorkItem:
    """One row of the ledger: a series and the model version to apply to it.

    stopped_in: the state in which dead work failed. failures: attempts of the present step.
    starts: steps that were begun and have neither ended nor failed, which a crash leaves.
    due, changed: seconds since 1970. priority: see Priority.
    """

    id: str
    digest: str
    model: str
    study_uid: str
    series_uid: str
    origin: str
    rule: str
    instances: int
    state: State
    stopped_in: str
    failures: int
    starts: int
    due: float
    note: str
    changed: float
    priority: int = Priority.MEDIUM

    def to_dict(self) -> dict[str, object]:
        """As reports and logs have it: nothing that identifies a patient."""
        names = ("id", "model", "origin", "rule", "instances", "failures", "note", "due", "changed")
        return {"state": str(self.state), **{name: getattr(self, name) for name in names}}


def work_id(digest: str, model: str) -> str:
    """The name of a piece of work, in messages and of its folders."""
    return f"w-{hashlib.sha256(f'{digest}/{model}'.encode()).hexdigest()[:20]}"
