"""What can go wrong, each with the exit code that scripts rely on (docs/commands.md)."""

from __future__ import annotations

import errno

from pipeline.core.types import Json


class LdctError(Exception):
    """A failure that a user can act on: one line that says what, where and what to do.

    report: what is known of each file or series nevertheless, as `--json` prints it.
    """

    exit_code = 1

    def __init__(self, line: str, report: Json | None = None) -> None:
        super().__init__(line)
        self.report: Json = report or {}


class ConfigError(LdctError):
    """Wrong usage or configuration."""

    exit_code = 2


class NothingUsableError(LdctError):
    """Nothing in the input could be used."""

    exit_code = 3


class GateFailedError(LdctError):
    """A model did not pass its gate, and what it made is held back."""

    exit_code = 5


def attach_report(error: BaseException, report: Json) -> None:
    """Let an error that ends a run carry what had been done until then."""
    error.report = report  # type: ignore[attr-defined]


def report_of(error: BaseException | None) -> Json:
    """What an error, or one that it stands for, carries of the work that was done before it."""
    while error is not None:
        if report := getattr(error, "report", None):
            return report
        error = error.__cause__ or error.__context__
    return {}


def is_disk_full(error: BaseException | None) -> bool:
    """Somewhere in the chain: pydicom and MLflow wrap the system's error in their own."""
    full = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
    while error is not None:
        if isinstance(error, OSError) and error.errno in full:
            return True
        error = error.__cause__
    return False
