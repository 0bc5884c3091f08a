"""Decisions made on a page that was opened from a disk (`--static`), brought back as a file.

The page writes the file, and no signature holds it: who takes it in vouches for the readers that
it names. Each decision is held to what one made on the page itself is held to, and to the files
that its reader saw.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from pipeline.core.errors import ConfigError, LdctError
from pipeline.core.types import Json
from pipeline.review.decisions import Decision, audit_of, decide, files_digest
from pipeline.review.worklist import Case, Collection

FORMAT = "ldct decisions 1"
#: How readers of a disk are recognised, as the audit log has it.
LOGIN = "file from a disk"
MAX_BYTES = 4 * 1024 * 1024
RECORDED, THERE, REFUSED = "recorded", "taken in before", "refused"


class CarriedDecision(Decision):
    """A decision as the page on a disk writes it.

    case: as the page names it. files_sha256: of the series' files when the disk was written. made:
    when, by the clock of the computer that it was made on.
    """

    case: str = Field(max_length=64)
    files_sha256: str = Field(pattern="[0-9a-f]{64}")
    made: AwareDatetime


class CarriedDecisions(BaseModel):
    """The file that the page writes: the last decision on each case."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    format: Literal["ldct decisions 1"]
    decisions: list[CarriedDecision] = Field(min_length=1, max_length=10_000)


@dataclass(frozen=True)
class TakenIn:
    """What became of one decision: recorded, taken in before, or refused, and why."""

    case: str
    verdict: str
    reader: str
    outcome: str
    reason: str = ""

    def to_dict(self) -> Json:
        """As a report has it."""
        return {name: getattr(self, name) for name in self.__dataclass_fields__}


def read_decisions(file: Path) -> list[CarriedDecision]:
    """The decisions of a file, in the order in which they were made.

    Raises ConfigError for a file that cannot be read, or that is not as the page writes it.
    """
    try:
        if file.stat().st_size > MAX_BYTES:
            raise ConfigError(f"{file} is larger than {MAX_BYTES} bytes: no file of decisions")
        found = CarriedDecisions.model_validate_json(file.read_bytes())
    except OSError as error:
        raise ConfigError(f"{file} cannot be read ({error.strerror})") from error
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"]) or "the file"
        raise ConfigError(
            f"{file} is no file of decisions as the page of `ldct review DIR --static` writes it: "
            f"{place}: {first['msg']}"
        ) from error
    return sorted(found.decisions, key=lambda each: each.made)


def take_in(collection: Collection, carried: list[CarriedDecision]) -> list[TakenIn]:
    """Record each decision, or say why not; none is recorded twice, nor over one that its reader
    did not see."""
    return [_taken_in(collection, each) for each in carried]


def _taken_in(collection: Collection, carried: CarriedDecision) -> TakenIn:
    def result(outcome: str, reason: str = "") -> TakenIn:
        return TakenIn(carried.case, carried.verdict, carried.reader, outcome, reason)

    case = collection.cases.get(carried.case)
    if case is None or case.folder is None:
        return result(REFUSED, "no derived series here is this case")
    try:
        if _is_recorded(collection.root, case.folder, carried):
            return result(THERE)
        _decide(collection.root, case, case.folder, carried)
    except LdctError as error:
        return result(REFUSED, str(error))
    return result(RECORDED)


def _decide(root: Path, case: Case, folder: Path, carried: CarriedDecision) -> None:
    if files_digest(folder) != carried.files_sha256:
        raise LdctError("its files changed since the disk was written: decide again")
    decision = Decision(**carried.model_dump(include=set(Decision.model_fields)))
    decide(root, case.cid, folder, decision, LOGIN, made=carried.made.isoformat())


def _is_recorded(root: Path, folder: Path, carried: CarriedDecision) -> bool:
    """Whether the audit log has this very decision from an earlier time that it was brought."""
    known = {
        "act": carried.verdict,
        "folder": folder.relative_to(root).as_posix(),
        "reader": carried.reader,
        "made": carried.made.isoformat(),
    }
    records = audit_of(root).records()
    return any(all(record.get(k) == v for k, v in known.items()) for record in records)
