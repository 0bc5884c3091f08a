"""Append-only records: lines of JSON, each holding the digest of the line before it.

A line that was changed or removed breaks the chain, which `broken` finds. The files lie in
DIR/review, beside the reviewed series.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
from datetime import UTC, datetime
from pathlib import Path

from pipeline.core.types import Json

FOLDER = "review"
#: The digest that the first line holds.
START = "0" * 64


class Journal:
    """One file of records, safe with several processes and when one is killed."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def append(self, record: Json) -> Json:
        """Write a record with the time and the chain's digest; returns it as written."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a+b") as stream:
            fcntl.flock(stream, fcntl.LOCK_EX)
            stream.seek(0)
            lines = stream.read().splitlines(keepends=True)
            if lines and not lines[-1].endswith(b"\n"):  # a kill left half a line: it stays
                stream.write(b"\n")
            last = lines[-1].rstrip(b"\n") if lines else None
            written = {"time": _now(), **record, "after": _digest(last)}
            stream.write(json.dumps(written, sort_keys=True).encode() + b"\n")
            stream.flush()
            os.fsync(stream.fileno())
        return written

    def records(self) -> list[Json]:
        """Every whole record, oldest first."""
        found = []
        for line in self._lines():
            try:
                found.append(json.loads(line))
            except ValueError:
                continue  # half a line of a killed process, which `broken` reports
        return found

    def broken(self) -> list[int]:
        """Numbers, from 1, of the lines that do not follow the one before them."""
        before: bytes | None = None
        wrong = []
        for number, line in enumerate(self._lines(), start=1):
            try:
                follows = json.loads(line).get("after") == _digest(before)
            except (ValueError, AttributeError):
                follows = False
            if not follows:
                wrong.append(number)
            before = line
        return wrong

    def _lines(self) -> list[bytes]:
        try:
            return self.path.read_bytes().splitlines()
        except FileNotFoundError:
            return []


def _digest(line: bytes | None) -> str:
    return START if line is None else hashlib.sha256(line).hexdigest()


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
