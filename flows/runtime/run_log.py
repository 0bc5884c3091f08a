"""Facts of the stages in the log of the Prefect run that they belong to.

Prefect's own loggers stay silent here, since what they write could name a path (flows/__init__.py);
these lines go to the API alone, and hold nothing but facts that identify no patient.
"""

from __future__ import annotations

import functools
import json
import logging
import sys
from typing import Any


def log_facts(event: str, facts: dict[str, Any]) -> None:
    """`event: {facts}` in the log of the task or flow run that this is in; nothing elsewhere."""
    if not in_run():
        return
    from prefect.logging import get_run_logger

    adapter = get_run_logger()
    name = adapter.logger.name
    _own_logger(name).info(
        "%s: %s", event, json.dumps(facts, default=str), extra=dict(adapter.extra or {})
    )


def in_run() -> bool:
    """Whether this is in a flow run or a task run of Prefect."""
    if "prefect" not in sys.modules:
        return False
    from prefect.context import FlowRunContext, TaskRunContext

    return bool(FlowRunContext.get() or TaskRunContext.get())


@functools.cache
def _own_logger(name: str) -> logging.Logger:
    """A logger with the handlers of a logger of Prefect's, at a level of its own: nothing of it
    reaches the terminal."""
    logger = logging.getLogger(f"{name}.ldct")
    logger.setLevel(logging.INFO)
    logger.handlers = list(logging.getLogger(name).handlers)
    logger.propagate = False
    return logger
