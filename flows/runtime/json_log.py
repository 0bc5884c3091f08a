"""With LDCT_LOG=json, lines of libraries and errors that nothing caught are lines of JSON too.

Without their words, which may hold a path, a name or a UID: these go to a file of its user's alone.
"""

from __future__ import annotations

import logging
import threading

from flows.runtime.progress import JSON_LINES, log
from pipeline.core.crash_file import crash_file


class _WithoutWords(logging.Handler):
    """Logs which library said something, how serious it is, and the type of its error."""

    def emit(self, record: logging.LogRecord) -> None:
        facts: dict[str, object] = {"logger": record.name, "level": record.levelname.lower()}
        error = record.exc_info[1] if record.exc_info else None
        if error is not None:
            facts |= {"error": type(error).__name__, "details": str(crash_file(error))}
        log("library", "", facts)


def use_json_everywhere() -> None:
    """Call once at the start of a process; changes nothing unless the log is one of JSON."""
    if JSON_LINES:
        logging.root.handlers[:] = [_WithoutWords(logging.WARNING)]
        threading.excepthook = _log_thread_error


def _log_thread_error(failed: threading.ExceptHookArgs) -> None:
    error = failed.exc_value
    if error is None or isinstance(error, SystemExit):
        return
    facts = {"error": type(error).__name__, "details": str(crash_file(error))}
    log("failed", "", {"thread": failed.thread.name if failed.thread else "", **facts})
