"""What an error says where its own words must not go: a sentence without a value of the source.

An error's message may hold a path, and a path a patient's name. So none of it is taken over: the
sentence is made of the kind of error, of counts, and of the line of our code that it arose at.
"""

from __future__ import annotations

import os
import traceback

from pipeline.core.errors import (
    ConfigError,
    GateFailedError,
    NothingUsableError,
    is_disk_full,
    report_of,
)
from pipeline.core.refusals import Disposition

_OUR_PACKAGES = ("pipeline.", "flows.")
#: By the name of the error's type: torch and httpx need not be imported to say these.
_BY_TYPE_NAME = {
    "OutOfMemoryError": "the graphics card has too little memory: make batch or patch smaller",
    "MemoryError": "the computer has too little memory: make batch or patch smaller",
    "ConnectError": "a server cannot be reached: is it running, and its address right?",
    "ConnectionError": "a server cannot be reached: is it running, and its address right?",
    "TimeoutError": "a server or disk did not answer in time",
    "MlflowException": "MLflow refused, or cannot be reached at MLFLOW_TRACKING_URI",
    "SeriesRefusedError": "no slice of a series can be used",
}


def redacted_sentence(error: BaseException) -> str:
    """`ConfigError: the request or its configuration is wrong (pipeline.config.load:53)`."""
    parts = [f"{type(error).__name__}: {_what(error)}", _counts(error), _place(error)]
    return " ".join(part for part in parts if part)


def _what(error: BaseException) -> str:
    if is_disk_full(error):
        return "the disk is full"
    if isinstance(error, GateFailedError):
        return "the model did not pass its gate, and nothing is exported"
    if isinstance(error, ConfigError):
        return "the request or its configuration is wrong"
    if isinstance(error, NothingUsableError):
        return "nothing in the input could be used"
    for kind in type(error).__mro__:
        if kind.__name__ in _BY_TYPE_NAME:
            return _BY_TYPE_NAME[kind.__name__]
    if isinstance(error, OSError) and error.errno:
        return os.strerror(error.errno).lower()
    return "it went wrong; its words are on the computer that ran it"


def _counts(error: BaseException) -> str:
    """How many files were refused, by disposition; "" where none is known to be."""
    report = report_of(error)
    counts = [(len(report.get(str(one)) or []), str(one)) for one in Disposition]
    found = ", ".join(f"{count} {one}" for count, one in counts if count)
    return f"({found} files)" if found else ""


def _place(error: BaseException) -> str:
    """The innermost line of our own code that the error passed through."""
    places = [
        f"({frame.f_globals.get('__name__', '')}:{line})"
        for frame, line in traceback.walk_tb(error.__traceback__)
        if frame.f_globals.get("__name__", "").startswith(_OUR_PACKAGES)
        and frame.f_globals.get("__name__") != "flows.runtime.private_errors"
    ]
    return places[-1] if places else ""
