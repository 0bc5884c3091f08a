"""Where an audit log ended, kept apart from it, so that lines cut off at its end are missed.

An anchor is a small file beside the installation's key (or in LDCT_ANCHORS), one for each log, by
the keyed hash of its path: who can write the log need not be able to write the anchor.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

from pipeline.core.atomic_files import write_json
from pipeline.core.errors import ConfigError
from pipeline.core.pseudonyms import key_file, pseudonym

ENVIRONMENT = "LDCT_ANCHORS"


@dataclass(frozen=True)
class End:
    """A log's end: how many lines it had, and the SHA-256 of the last."""

    lines: int
    last: str

    @classmethod
    def of(cls, lines: list[bytes]) -> End:
        """The end of a log with these lines, at least one."""
        return cls(len(lines), hashlib.sha256(lines[-1]).hexdigest())

    def holds(self, lines: list[bytes]) -> bool:
        """Whether a log with these lines still has that one in its place."""
        return len(lines) >= self.lines and End.of(lines[: self.lines]) == self


@dataclass(frozen=True)
class Anchor:
    """The end of one log as it was last seen, and ends that were found to be gone."""

    file: Path

    @classmethod
    def of(cls, log: Path, key: bytes) -> Anchor:
        """The anchor of the log at that path, whether there is one yet or not."""
        return cls(folder() / f"{pseudonym(key, 'a', str(log.resolve()))}.json")

    def faults(self, lines: list[bytes]) -> list[str]:
        """What a log with these lines has lost."""
        end, gone = self._read()
        if end is not None and not end.holds(lines):
            gone = [*gone, end]
        return [
            f"is missing or another: the log had {one.lines} lines. If you removed or moved it "
            f"yourself, remove {self.file}"
            for one in gone
        ]

    def require_usable(self) -> None:
        """Raise ConfigError where it cannot be read, or its folder cannot be made and written."""
        self._read()
        place = self.file.parent
        try:
            place.mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError as error:
            raise _unusable(self.file, error) from error
        if not os.access(place, os.W_OK):
            raise _unusable(self.file, PermissionError(errno.EACCES, "not writable"))

    def advance(self, lines: list[bytes]) -> None:
        """The last of these lines was written; an end that the log no longer has is kept.

        Raises ConfigError where that cannot be noted.
        """
        end, gone = self._read()
        if end is not None and not end.holds(lines):
            gone = [*gone, end]
        try:
            write_json(self.file, {**asdict(End.of(lines)), "gone": [asdict(one) for one in gone]})
        except OSError as error:
            raise _unusable(self.file, error) from error

    def _read(self) -> tuple[End | None, list[End]]:
        try:
            found = json.loads(self.file.read_text(encoding="utf-8"))
            ends = [End(int(one["lines"]), str(one["last"])) for one in (found, *found["gone"])]
        except FileNotFoundError:
            return None, []
        except OSError as error:
            raise _unusable(self.file, error) from error
        except (ValueError, KeyError, TypeError) as error:
            raise ConfigError(
                f"the anchor {self.file} of an audit log is damaged ({type(error).__name__}): "
                "remove it once you have looked at the log"
            ) from error
        return ends[0], ends[1:]


def _unusable(file: Path, error: OSError) -> ConfigError:
    return ConfigError(
        f"cannot use the anchor {file} of an audit log ({error.strerror}): set {ENVIRONMENT} "
        "to a folder that its owner alone can write"
    )


def folder() -> Path:
    """LDCT_ANCHORS, or `anchors` beside the installation's key."""
    named = os.environ.get(ENVIRONMENT)
    return Path(named) if named else key_file().parent / "anchors"
