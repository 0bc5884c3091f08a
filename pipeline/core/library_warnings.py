"""What libraries warn of: remarks on the file that they read, and no lines of their own on stderr.

pydicom, nibabel and Pillow warn through Python's `warnings` and `logging`, ITK writes to the
process's stderr. Their texts may quote values, and so identity: a remark ends where one begins.
"""

from __future__ import annotations

import logging
import os
import re
import sys
import tempfile
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import TextIO

LIBRARIES = ("pydicom", "nibabel", "PIL", "dicomweb_client", "pynetdicom", "highdicom")
#: Where a value may begin in a warning's text; image files have no values that identify but texts.
VALUE = re.compile(r"""['"`<\[{:\d]""")
QUOTED = re.compile(r"""['"`<{:]""")
IMAGE_LIBRARIES = ("nibabel", "PIL")
#: Beginnings of warnings that our own checks say better.
SAID_BETTER = ("Expected explicit VR", "Expected implicit VR")

#: Remarks that say nothing without their values, and what they mean.
REWORDED = {
    "The pixel data is": "the pixel data hold more bytes than the image: the last are left out"
}

_heard: ContextVar[list[str] | None] = ContextVar("heard", default=None)
_stderr = threading.Lock()


def catch_library_warnings() -> None:
    """From now on, keep what libraries warn of off stderr: for a process of ours, at its start.

    Python's own switch (-W, PYTHONWARNINGS) shows it again.
    """
    if sys.warnoptions:
        return
    warnings.showwarning = _on_warning
    # Always: by default Python shows a warning once, and the next file has it too.
    warnings.simplefilter("always", UserWarning)
    for name in LIBRARIES:
        logger = logging.getLogger(name)
        if not logger.handlers:
            logger.addHandler(logging.NullHandler())
        logger.propagate = False
    # nibabel writes to stderr by a handler that it adds when it is imported.
    nibabel = logging.getLogger("nibabel.global")
    nibabel.addFilter(_on_record)
    nibabel.setLevel(logging.WARNING)  # MLflow lets the root logger have errors alone


@contextmanager
def library_remarks() -> Iterator[list[str]]:
    """What libraries warn of in this thread, once each and without values, as the list fills.

    Nothing where catch_library_warnings was not called.
    """
    heard: list[str] = []
    token = _heard.set(heard)
    try:
        yield heard
    finally:
        _heard.reset(token)


def _on_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    library = next((part for part in Path(filename).parts if part in LIBRARIES), "")
    if library:
        _hear(library, str(message))


def _on_record(record: logging.LogRecord) -> bool:
    if record.levelno >= logging.WARNING:
        _hear(record.name.split(".")[0], record.getMessage())
    return False


def _hear(library: str, text: str) -> None:
    heard, text = _heard.get(), " ".join(text.split())
    if heard is None or text.startswith(SAID_BETTER):
        return
    value = QUOTED if library in IMAGE_LIBRARIES else VALUE
    said = value.split(text, maxsplit=1)[0].strip(" .(-")
    remark = f"{library}: {REWORDED.get(said, said)}"
    if remark not in heard:
        heard.append(remark)


@contextmanager
def native_messages() -> Iterator[list[str]]:
    """What C and C++ libraries write to stderr in the block, by line, once it has ended.

    The process's stderr leads to a file meanwhile, also for other threads: for short calls.
    """
    lines: list[str] = []
    with _stderr, tempfile.TemporaryFile() as kept:
        real = os.dup(2)
        os.dup2(kept.fileno(), 2)
        try:
            yield lines
        finally:
            os.dup2(real, 2)
            os.close(real)
            kept.seek(0)
            lines += kept.read().decode("utf-8", "replace").splitlines()
