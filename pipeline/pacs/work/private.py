"""The work folder holds patients' images and original UIDs: only its owner may enter it."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from pipeline.core.atomic_files import sync
from pipeline.core.errors import ConfigError, is_disk_full

_OTHERS = stat.S_IRWXG | stat.S_IRWXO
_OWNER_ALONE = 0o700


def close_to_others(folder: Path) -> str:
    """Take a folder's permissions from all but its owner; returns what was done, "" for nothing.

    What lies in it is closed with it. Raises ConfigError for a folder of another user, and where
    it cannot be closed, as on a file system without permissions.
    """
    found = folder.stat()
    if found.st_uid != os.geteuid():
        raise ConfigError(
            f"{folder} is another user's: `chown` it to the account that runs ldct, or choose "
            "another folder as `work`"
        )
    if not found.st_mode & _OTHERS:
        return ""
    mode = f"{stat.S_IMODE(found.st_mode):o}"
    try:
        folder.chmod(_OWNER_ALONE)
    except OSError as error:
        raise _open(folder, mode) from error
    if folder.stat().st_mode & _OTHERS:
        raise _open(folder, mode)
    return f"{folder} was open to others (mode {mode}): closed to its owner alone (700)"


def _open(folder: Path, mode: str) -> ConfigError:
    return ConfigError(
        f"{folder} holds patients' images, is open to others (mode {mode}) and cannot be closed: "
        "choose a folder as `work` that only its owner can enter (mode 700)"
    )


def private_folder(path: Path) -> None:
    """Make a folder that only its owner can enter, where there is none, for good.

    Raises ConfigError where it cannot be made, and OSError where there is no space.
    """
    made = [folder for folder in (path, *path.parents) if not folder.exists()]
    try:
        path.mkdir(parents=True, exist_ok=True, mode=0o700)
        for folder in made:
            sync(folder.parent)
    except OSError as error:
        if is_disk_full(error):
            raise
        raise ConfigError(f"cannot make the folder {path}: {error.strerror}") from error
