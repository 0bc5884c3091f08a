"""Signals that Python lost, raised again.

A signal's handler runs between any two steps of the main thread. Where it raises, as at Ctrl+C and
SIGTERM, and these are steps of a weak reference's callback or of a finalizer, Python writes the
exception to stderr and goes on: the process would not end. See sys.unraisablehook,
https://docs.python.org/3/library/sys.html
"""

from __future__ import annotations

import signal
import sys
import threading
from contextlib import suppress

#: At which signal an exception is raised, by its name: Prefect's need not be imported.
_SIGNALS = {
    "KeyboardInterrupt": signal.SIGINT,
    "SystemExit": signal.SIGTERM,
    "TerminationSignal": signal.SIGTERM,
}
#: By then the callback has returned.
_AGAIN_S = 0.1

_others = sys.unraisablehook


def raise_lost_signals_again() -> None:
    """From now on: for a process of ours, at its start."""
    global _others
    if sys.unraisablehook is not _look:
        _others, sys.unraisablehook = sys.unraisablehook, _look


def _look(lost: sys.UnraisableHookArgs) -> None:
    number, main = _SIGNALS.get(lost.exc_type.__name__), threading.main_thread()
    if number is None or threading.current_thread() is not main:
        _others(lost)
        return
    again = threading.Timer(_AGAIN_S, signal.pthread_kill, [main.ident, number])
    again.daemon = True
    with suppress(RuntimeError):  # it ends already
        again.start()
