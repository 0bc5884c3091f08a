"""A series of the network, and the model version that it goes through: the ledger's rows."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from enum import StrEnum


class State(StrEnum):
    """found -> here -> derived -> sent.

    dead waits for `ldct retry`, held for `ldct pacs release`.
    """

    FOUND = "found"
    HERE = "here"
    DERIVED = "derived"
    HELD = "held"
    SENT = "sent"
    SUPERSEDED = "superseded"
    DEAD = "dead"


OPEN = (State.FOUND, State.HERE, State.DERIVED)


@dataclass(frozen=True)
class PacsSeries:
    """A DICOM series as the network names it. UIDs stay in the ledger, and are never told."""

    study_uid: str
    series_uid: str
    instance_uids: frozenset[str]

    @property
    def digest(self) -> str:
        """Of the images that it has: one that grew is another one (PS3.5 9: a UID names one
        image for ever)."""
        text = "\0".join([self.series_uid, *sorted(self.instance_uids)])
        return hashlib.sha256(text.encode()).hexdigest()


@dataclass(frozen=True)
class WorkItem:
    """One row: a series and the model version that it goes through."""

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

    def facts(self) -> dict[str, object]:
        """What may be told: nothing that identifies."""
        names = ("id", "model", "origin", "rule", "instances", "failures", "note", "due", "changed")
        return {"state": str(self.state), **{name: getattr(self, name) for name in names}}


def work_id(digest: str, model: str) -> str:
    """The name of a piece of work: in messages, and of its folders."""
    return f"w-{hashlib.sha256(f'{digest}/{model}'.encode()).hexdigest()[:20]}"
