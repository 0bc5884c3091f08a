"""Readers' decisions on derived series, and whether a series may be sent to the PACS."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from pipeline.core.atomic_files import write_json
from pipeline.core.errors import ConfigError, LdctError
from pipeline.core.types import Json
from pipeline.review.access.roles import ReaderName
from pipeline.review.audit_log import FOLDER, Journal

AUDIT, POLICY = "audit.jsonl", "policy.json"
ACCEPT, REJECT = "accept", "reject"


class RejectedError(LdctError):
    """A reader rejected the series."""


class ConflictError(LdctError):
    """Somebody else decided meanwhile: report holds the case as it is now."""


class Policy(BaseModel):
    """Which derived series may be sent to the PACS: any, or only those that a reader accepted."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    send: Literal["any", "accepted"] = "any"


class Decision(BaseModel):
    """A reader's decision on one case, as the page sends it.

    seen: the time of the decision that the reader saw it having, "" for none: another one that was
    recorded meanwhile, in another tab or by another reader, is not overwritten unseen.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    reader: ReaderName
    verdict: Literal["accept", "reject"]
    reason: str = Field(default="", max_length=500)
    seen: str = Field(default="", max_length=40)


@dataclass(frozen=True)
class RecordedDecision:
    """A decision as the audit log has it.

    act: accept or reject. folder: of the series, below the reviewed folder. files_sha256: the
    digest of the files that were decided on. time: ISO 8601, UTC.
    """

    act: str
    case: str
    folder: str
    files_sha256: str
    reader: str
    reason: str
    time: str

    @classmethod
    def of(cls, record: Json) -> RecordedDecision:
        """From a record of the audit log whose act is accept or reject."""
        return cls(**{field.name: str(record[field.name]) for field in fields(cls)})


def audit_of(root: Path) -> Journal:
    """The audit log of a reviewed folder: opened, decided, read, exported, policy changed."""
    return Journal(root / FOLDER / AUDIT)


def decide(
    root: Path,
    case: str,
    folder: Path,
    decision: Decision,
    login: str = "own computer",
    *,
    made: str = "",
) -> RecordedDecision:
    """Record a decision on the files that a series' folder holds now.

    login: how the reader was recognised. made: when, where that is not now. Raises ConfigError for
    a rejection without a reason, ConflictError where the last decision is not the one that the
    reader saw.
    """
    if decision.verdict == REJECT and not decision.reason.strip():
        raise ConfigError("a rejection needs a reason")
    name = folder.relative_to(root).as_posix()

    def require_seen(records: list[Json]) -> None:
        last = _last(records).get(name)
        if last is not None and last.time != decision.seen:
            raise ConflictError(
                f"{last.reader} {last.act}ed it meanwhile{': ' if last.reason else ''}"
                f"{last.reason}; look at it, then decide again if you still want to"
            )

    record = audit_of(root).append(
        {
            "act": decision.verdict,
            "case": case,
            "folder": name,
            "files_sha256": files_digest(folder),
            "reader": decision.reader,
            "reason": decision.reason.strip(),
            "login": login,
            **({"made": made} if made else {}),
        },
        require=require_seen,
    )
    return RecordedDecision.of(record)


def decisions(root: Path) -> dict[str, RecordedDecision]:
    """The last decision on each series, by its folder's path below `root`."""
    return _last(audit_of(root).records())


def _last(records: list[Json]) -> dict[str, RecordedDecision]:
    decided = (record for record in records if record["act"] in (ACCEPT, REJECT))
    return {record["folder"]: RecordedDecision.of(record) for record in decided}


def read_policy(root: Path) -> Policy:
    """The folder's policy, `any` without one; raises ConfigError for one that cannot be read."""
    path = root / FOLDER / POLICY
    try:
        return Policy.model_validate_json(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return Policy()
    except (ValidationError, ValueError) as error:
        raise ConfigError(
            f"{path} is no policy ({error}); expected {{'send': 'accepted'}}"
        ) from error


def set_policy(root: Path, policy: Policy) -> None:
    """Write the folder's policy, and record it in the audit log."""
    write_json(root / FOLDER / POLICY, json.loads(policy.model_dump_json()))
    audit_of(root).append({"act": "policy", "send": policy.send})


def require_sendable(root: Path, folder: Path, *, accepted: bool = False) -> None:
    """Raise LdctError unless a derived series may be sent to the PACS; RejectedError, which is
    one, where a reader rejected it.

    Where the policy asks for it, a reader must have accepted the series, and its files must be
    those that were accepted, by an audit log that is whole. accepted: ask for it whatever the
    folder's own policy says.
    """
    if not accepted and read_policy(root).send == "any":
        return
    audit_of(root).require_whole()
    name = folder.relative_to(root).as_posix()
    last = decisions(root).get(name)
    if last is None:
        raise LdctError(f"{name} is not sent: no reader has accepted it (`ldct review {root}`)")
    if last.act == REJECT:
        raise RejectedError(f"{name} is not sent: rejected by {last.reader}: {last.reason}")
    if last.files_sha256 != files_digest(folder):
        raise LdctError(f"{name} is not sent: its files changed since they were accepted")


def files_digest(folder: Path) -> str:
    """SHA-256 over the names and contents of a folder's files."""
    summary = hashlib.sha256()
    for path in sorted(path for path in folder.iterdir() if path.is_file()):
        with path.open("rb") as stream:
            summary.update(path.name.encode() + hashlib.file_digest(stream, "sha256").digest())
    return summary.hexdigest()
