"""The files of a folder tree, and what of it is not read, with the reason."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeAlias

from pipeline.core.refusals import Disposition, Refusal

#: Takes the Refusal of a file or folder that is not read.
LeaveOut: TypeAlias = Callable[[Refusal], None]


def let_go(_: Refusal) -> None:
    """For a caller to whom it does not matter what is not read."""


def hidden(path: Path) -> Refusal:
    """The Refusal of a file or folder whose name begins with a dot, or of macOS's own."""
    return Refusal(path, Disposition.EXCLUDED, "hidden (by a dot, or in __MACOSX): not read")


class FolderWalk:
    """A walk through all folders below `root`, links included, that has an end.

    skip: folders with this in their name, in any case of letters, are not entered; "" enters all.
    leave_out: called with the Refusal of whatever is not read.
    """

    def __init__(self, root: Path, skip: str, leave_out: LeaveOut) -> None:
        self._root = root
        self._skip = skip.casefold()
        self._leave_out = leave_out
        self._entered = [root.resolve()]  # with all that lies below

    def files(self) -> Iterator[Path]:
        """Every file that is not hidden, folder by folder in the order of names."""
        for folder, folders, names in os.walk(
            self._root, followlinks=True, onerror=self._unreadable
        ):
            here = Path(folder)
            folders[:] = [name for name in sorted(folders) if self._enters(here / name)]
            yield from (path for name in sorted(names) if self._is_read(path := here / name))

    def _enters(self, folder: Path) -> bool:
        if folder.name.startswith("."):
            self._leave_out(hidden(folder))
        elif self._skip and self._skip in folder.name.casefold():
            self._exclude(folder, f"left alone: skip_folders={self._skip}")
        else:
            return not folder.is_symlink() or self._follows(folder)
        return False

    def _follows(self, link: Path) -> bool:
        target = link.resolve()
        if self._entered[0].is_relative_to(target):
            self._exclude(link, "a link to a folder that holds it: not followed, it has no end")
            return False
        if any(target.is_relative_to(folder) for folder in self._entered):
            self._exclude(link, "a link to a folder that is read where it lies")
            return False
        self._entered.append(target)
        return True

    def _is_read(self, path: Path) -> bool:
        if path.name.startswith("."):
            self._leave_out(hidden(path))
        elif not path.exists():
            reason = "a link to a file that is not there"
            self._leave_out(Refusal(path, Disposition.QUARANTINED, reason))
        elif not path.is_file():
            self._exclude(path, "neither a file nor a folder")
        else:
            return True
        return False

    def _exclude(self, path: Path, reason: str) -> None:
        self._leave_out(Refusal(path, Disposition.EXCLUDED, reason))

    def _unreadable(self, error: OSError) -> None:
        reason = f"a folder that cannot be read: {error.strerror}"
        path = Path(error.filename) if error.filename else self._root
        self._leave_out(Refusal(path, Disposition.QUARANTINED, reason))
