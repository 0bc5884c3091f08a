"""Accepted or rejected, by whom and why, and what may therefore be sent to the PACS."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from pipeline.core.atomic_files import write_json
from pipeline.core.errors import ConfigError, LdctError
from pipeline.review.audit_log import FOLDER, Journal

AUDIT, POLICY = "audit.jsonl", "policy.json"
ACCEPT, REJECT = "accept", "reject"
#: Readers go by names that they choose; nothing in them may reach beyond a file's name.
READER = re.compile(r"^[A-Za-z0-9_-]{1,32}$")


class Policy(BaseModel):
    """send: which derived series may go to the PACS: any, or only those a reader accepted."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    send: Literal["any", "accepted"] = "any"


class Decision(BaseModel):
    """What a reader decided of one case."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    reader: str = Field(pattern=READER.pattern)
    verdict: Literal["accept", "reject"]
    reason: str = Field(default="", max_length=500)


def audit_of(root: Path) -> Journal:
    """Every act in the review of a folder: opened, decided, read, exported, policy changed."""
    return Journal(root / FOLDER / AUDIT)


def decide(root: Path, case: str, folder: Path, decision: Decision) -> dict[str, Any]:
    """Record a decision, bound to the very files that were decided of; rejecting needs a reason."""
    if decision.verdict == REJECT and not decision.reason.strip():
        raise ConfigError("a rejection needs a reason")
    return audit_of(root).append(
        {
            "act": decision.verdict,
            "case": case,
            "folder": folder.relative_to(root).as_posix(),
            "files_sha256": files_digest(folder),
            "reader": decision.reader,
            "reason": decision.reason.strip(),
        }
    )


def decisions(root: Path) -> dict[str, dict[str, Any]]:
    """The last decision of each folder, by its path below `root`."""
    acts = (record for record in audit_of(root).records() if record["act"] in (ACCEPT, REJECT))
    return {record["folder"]: record for record in acts}


def read_policy(root: Path) -> Policy:
    """The folder's policy; raises ConfigError for one that cannot be understood."""
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
    write_json(root / FOLDER / POLICY, json.loads(policy.model_dump_json()))
    audit_of(root).append({"act": "policy", "send": policy.send})


def require_sendable(root: Path, folder: Path, *, accepted: bool = False) -> None:
    """Raises LdctError where the policy keeps a derived series from the PACS: it must be
    accepted, and its files must still be those that were accepted.

    accepted: ask for it whatever the folder's own policy says.
    """
    if not accepted and read_policy(root).send == "any":
        return
    name = folder.relative_to(root).as_posix()
    last = decisions(root).get(name)
    if last is None:
        raise LdctError(f"{name} is not sent: nobody has accepted it (`ldct review {root}`)")
    if last["act"] == REJECT:
        raise LdctError(f"{name} is not sent: rejected by {last['reader']}: {last['reason']}")
    if last["files_sha256"] != files_digest(folder):
        raise LdctError(f"{name} is not sent: its files changed since they were accepted")


def files_digest(folder: Path) -> str:
    """One digest over names and contents of a folder's files."""
    summary = hashlib.sha256()
    for path in sorted(path for path in folder.iterdir() if path.is_file()):
        with path.open("rb") as stream:
            summary.update(path.name.encode() + hashlib.file_digest(stream, "sha256").digest())
    return summary.hexdigest()
