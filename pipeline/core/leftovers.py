"""Temporary files and folders that a killed process left, removed at the next start.

Never what another process is writing: the number of the process stands in the name, and what has
changed within the last hour stays, whoever made it.
"""

from __future__ import annotations

import functools
import os
import re
import shutil
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

#: `.partial-PID-RANDOM-NAME`; versions of before, and some libraries, give no number.
_PARTIAL = re.compile(r"^\.partial-(?:(?P<pid>\d+)-)?")
_SCRATCH = re.compile(r"^ldct-scratch-(?P<pid>\d+)-")
#: What has not changed for so long is no longer used; without a process number, for a day.
IDLE_S, UNNUMBERED_IDLE_S = 3600.0, 24 * 3600.0


def partial_name(name: str) -> str:
    """A hidden name for what is to be called `name` once it is whole; its suffixes stay, as
    writers choose the format by them."""
    return f".partial-{os.getpid()}-{uuid.uuid4().hex[:8]}-{name}"


@contextmanager
def scratch_folder() -> Iterator[Path]:
    """A private temporary folder, removed at the end, or where that was a kill by a later call."""
    remove_leftovers(Path(tempfile.gettempdir()), _SCRATCH)
    with tempfile.TemporaryDirectory(prefix=f"ldct-scratch-{os.getpid()}-") as folder:
        yield Path(folder)


@functools.lru_cache(maxsize=1024)
def remove_leftovers_once(folder: Path) -> None:
    """remove_leftovers, the first time that this process writes into a folder."""
    remove_leftovers(folder)


def remove_leftovers(folder: Path, pattern: re.Pattern[str] = _PARTIAL) -> int:
    """Remove what killed processes left directly in a folder; returns how many files and folders.

    What cannot be removed, such as another user's, stays.
    """
    removed = 0
    try:
        entries = [(entry, pattern.match(entry.name)) for entry in os.scandir(folder)]
    except OSError:
        return 0
    for entry, match in entries:
        if match:
            with suppress(OSError):  # its own process, or another sweep, was first
                removed += _remove(Path(entry.path), match["pid"])
    return removed


def _remove(path: Path, pid: str | None) -> bool:
    if path.lstat().st_uid != os.geteuid():
        return False
    idle_s = time.time() - _changed(path)
    if pid is None:
        abandoned = idle_s > UNNUMBERED_IDLE_S
    else:
        abandoned = idle_s > IDLE_S and not _lives(int(pid))
    if not abandoned:
        return False
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
    return not path.exists()


def _changed(path: Path) -> float:
    """When a file, or anything below a folder, was last changed, in seconds since 1970."""
    found = [path, *path.rglob("*")] if path.is_dir() else [path]
    times = []
    for each in found:
        try:
            times.append(each.lstat().st_mtime)
        except FileNotFoundError:  # it is being worked on
            return time.time()
    return max(times)


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
