"""Errors without their messages inside Prefect, which records every exception.

A message may hold a path, and a path a patient's name. So what runs inside Prefect fails with the
stage and a sentence without values; the error itself is carried along, and raised outside Prefect.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, TypeVar

from flows.runtime.redacted_sentence import redacted_sentence

#: By name: Python's, and those of requests and httpx, which need not be imported.
_UNREACHABLE = frozenset(
    ["ConnectionError", "ConnectError", "Timeout", "TimeoutError", "TimeoutException"]
)
ErrorT = TypeVar("ErrorT", bound=BaseException)


class StageFailedError(Exception):
    """What Prefect records: the stage and a redacted sentence. original: the error itself."""

    def __init__(self, stage: str, original: Exception) -> None:
        super().__init__(f"{stage}: {redacted_sentence(original)}")
        self.stage, self.original = stage, original

    def __reduce__(self) -> tuple[type, tuple[str, Exception]]:
        """Pickle the original error too: tasks may run in other processes."""
        return StageFailedError, (self.stage, self.original)


def original_of(error: ErrorT) -> ErrorT | Exception:
    """The error that one from inside Prefect stands for; any other as it is."""
    return error.original if isinstance(error, StageFailedError) else error


def is_unreachable(error: BaseException | None) -> bool:
    """Whether a server could not be reached, or did not answer in time: that may pass. Looks
    through what an error stands for, and what it was raised in answer to."""
    while error is not None:
        error = original_of(error)
        if any(kind.__name__ in _UNREACHABLE for kind in type(error).__mro__):
            return True
        error = error.__cause__ or error.__context__
    return False


def redact_errors(stage: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Decorate the function of a task or flow: it raises StageFailedError for every exception."""

    def decorate(body: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(body)
        def run(*args: Any, **kwargs: Any) -> Any:
            try:
                return body(*args, **kwargs)
            except StageFailedError:
                raise
            except Exception as error:
                raise StageFailedError(stage, error) from None

        return run

    return decorate


def run_flow(run: Callable[[], Any]) -> Any:
    """Run a flow of `redact_errors` from outside Prefect; raises the original error again."""
    from flows.runtime import ephemeral_server

    try:
        with ephemeral_server.connected():
            return run()
    except StageFailedError as failure:
        original = failure.original
    raise original  # out here, so that what caused it stays attached
