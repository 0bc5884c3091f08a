"""Failures without words: Prefect records every exception's message, and ours may name a path.

A path can be a patient's name. So what runs inside Prefect fails with the stage and the kind
of error only; the error itself travels along, and is told to the person at the terminal.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any


class StageFailedError(Exception):
    """What Prefect is told; `original` is what happened."""

    def __init__(self, stage: str, original: Exception) -> None:
        super().__init__(f"{stage}: {type(original).__name__}")
        self.stage, self.original = stage, original

    def __reduce__(self) -> tuple[type, tuple[str, Exception]]:
        """From another process it comes whole."""
        return StageFailedError, (self.stage, self.original)


def redact_errors(stage: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Decorate what becomes a task or a flow."""

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
