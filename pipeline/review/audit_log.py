"""Append-only records: lines of JSON, each signed, and each holding the digest of the line before.

A line that was changed or removed breaks the chain; who recomputes the chain lacks the key that
signs (HMAC, RFC 2104, with a key drawn from the installation's); lines cut off at the end are
missed by the anchor (pipeline.review.anchors). Whoever has the account that runs this software
has key and anchor, and can forge all three. The files lie in DIR/review, beside the reviewed
series.
"""

from __future__ import annotations

import fcntl
import hashlib
import hmac
import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from pipeline.core.errors import LdctError
from pipeline.core.pseudonyms import installation_key, pseudonym
from pipeline.core.types import Json
from pipeline.review.anchors import Anchor

FOLDER = "review"
#: The digest that the first line holds.
START = "0" * 64
AFTER, SIGNATURE, SIGNED_BY = "after", "hmac", "key"
#: What a record holds besides what happened.
OF_THE_RECORD = (AFTER, SIGNATURE, SIGNED_BY)


@dataclass(frozen=True)
class Fault:
    """What is wrong with a line, by its number from 1; of one that is missing, the first.

    harmless: half a line of a process that was killed, which says nothing.
    """

    line: int
    reason: str
    harmless: bool = False


class Journal:
    """One file of records, safe with several processes and when one is killed."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def append(
        self, record: Json, require: Callable[[list[Json]], None] = lambda records: None
    ) -> Json:
        """Write a record with the time, the chain's digest and a signature; returns it as written.

        require: gets all records before this one, and raises where it must not follow them; between
        its look and the record nothing else is written. Raises ConfigError where the key or the
        anchor cannot be used.
        """
        key = installation_key()
        anchor = Anchor.of(self.path, key)
        anchor.require_usable()
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a+b") as stream:
            fcntl.flock(stream, fcntl.LOCK_EX)
            stream.seek(0)
            lines = stream.read().splitlines(keepends=True)
            require([found for line in lines if (found := _record(line)) is not None])
            if lines and not lines[-1].endswith(b"\n"):  # a kill left half a line: it stays
                stream.write(b"\n")
            before = [line.rstrip(b"\n") for line in lines]
            chained = {AFTER: _digest(before[-1] if before else None), SIGNED_BY: _name_of(key)}
            written = {"time": _now(), **record, **chained}
            written[SIGNATURE] = _signature(key, written)
            line = json.dumps(written, sort_keys=True).encode()
            stream.write(line + b"\n")
            stream.flush()
            os.fsync(stream.fileno())
            anchor.advance([*before, line])
        return written

    def records(self) -> list[Json]:
        """Every whole record, oldest first."""
        return [record for line in self._lines() if (record := _record(line)) is not None]

    def faults(self) -> list[Fault]:
        """Everything that is wrong with the record, line by line, and then at its end.

        Unsigned lines before the first signed one are of a version before, and are not faults.
        """
        key, lines = installation_key(), self._lines()
        found, before, signed = [], None, False
        for number, line in enumerate(lines, start=1):
            record = _record(line)
            signed = signed or SIGNATURE in (record or {})
            if reason := _fault_of(record, before, key, signed=signed):
                found.append(Fault(number, reason, harmless=record is None))
            before = line
        missing = Anchor.of(self.path, key).faults(lines)
        return [*found, *(Fault(len(lines) + 1, reason) for reason in missing)]

    def broken(self) -> list[int]:
        """Numbers, from 1, of the lines that have a fault."""
        return [fault.line for fault in self.faults()]

    def unsigned(self) -> int:
        """How many records have no signature: those of a version before have none."""
        return sum(SIGNATURE not in record for record in self.records())

    def is_anchored(self) -> bool:
        """Whether lines cut off at its end would be missed: one moved here is not anchored yet."""
        return Anchor.of(self.path, installation_key()).file.exists()

    def require_whole(self) -> None:
        """Raise LdctError with the first fault that is not harmless."""
        for fault in self.faults():
            if not fault.harmless:
                raise LdctError(
                    f"{self.path} is not whole: line {fault.line} {fault.reason}; see "
                    f"`ldct review audit {self.path.parent.parent}`"
                )

    def _lines(self) -> list[bytes]:
        try:
            return self.path.read_bytes().splitlines()
        except FileNotFoundError:
            return []


def _record(line: bytes) -> Json | None:
    """None for half a line of a killed process."""
    try:
        found = json.loads(line)
    except ValueError:
        return None
    return found if isinstance(found, dict) else None


def _fault_of(record: Json | None, before: bytes | None, key: bytes, *, signed: bool) -> str:
    """What is wrong with a record; "" where nothing is. signed: it or one before it is."""
    if record is None:
        return "is half a line, as a killed process leaves"
    if record.get(AFTER) != _digest(before):
        return "does not follow the one before it"
    if not signed:
        return ""
    if SIGNATURE not in record:
        return "is not signed, after lines that are"
    if record.get(SIGNED_BY) != _name_of(key):
        return f"is signed with another key than this installation's ({record.get(SIGNED_BY)})"
    unsigned = {name: value for name, value in record.items() if name != SIGNATURE}
    if not hmac.compare_digest(str(record[SIGNATURE]), _signature(key, unsigned)):
        return "is not what was signed"
    return ""


def _signature(key: bytes, record: Json) -> str:
    """HMAC-SHA256 of a record without its signature, by a key that is used for nothing else."""
    own_key = hmac.new(key, b"audit log", hashlib.sha256).digest()
    content = json.dumps(record, sort_keys=True).encode()
    return hmac.new(own_key, content, hashlib.sha256).hexdigest()


def _name_of(key: bytes) -> str:
    return pseudonym(key, "k", "the key itself")


def _digest(line: bytes | None) -> str:
    return START if line is None else hashlib.sha256(line).hexdigest()


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
