"""A function that is called again and again beside the work, and never stops it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from flows.runtime.progress import log


@contextmanager
def every(seconds: float, call: Callable[[], None], *, name: str) -> Iterator[None]:
    """Call a function every so many seconds, first after these, in a thread, while the block lasts.

    What it raises is logged by its type, under `name`, once for each type in a row.
    """
    ended = threading.Event()

    def repeat() -> None:
        before = ""
        while not ended.wait(seconds):
            fault = _fault_of(call)
            if fault and fault != before:
                log("background", f"{name}: {fault}", {"of": name, "error": fault})
            before = fault

    thread = threading.Thread(target=repeat, name=name, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()


def _fault_of(call: Callable[[], None]) -> str:
    try:
        call()
    except Exception as error:  # whatever it is, the work goes on
        return type(error).__name__
    return ""
