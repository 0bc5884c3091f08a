"""Where the traceback of an unforeseen failure goes.

It may quote values of the source, and so identity: the file is its user's alone (mode 0600), under
a name that cannot be guessed, and only its path is reported.
"""

from __future__ import annotations

import os
import tempfile
import time
import traceback
from pathlib import Path


def crash_file(error: BaseException) -> Path | None:
    """Write an exception's traceback to a private file, once; None where it cannot be written."""
    known = getattr(error, "crash_file", None)
    if known is not None:
        return known
    path = private_file("".join(traceback.format_exception(error)))
    error.crash_file = path  # type: ignore[attr-defined]
    return path


def private_file(text: str) -> Path | None:
    """A new temporary file with this text, readable by this user only; None where it cannot be."""
    prefix = f"ldct-error-{time.strftime('%Y%m%d-%H%M%S')}-"
    try:
        handle, name = tempfile.mkstemp(prefix=prefix, suffix=".txt")
        with os.fdopen(handle, "w", encoding="utf-8", errors="backslashreplace") as stream:
            stream.write(text)
    except OSError:
        return None
    return Path(name)
