"""Writing that a kill or a full disk cannot leave half done."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pipeline.core.errors import LdctError
from pipeline.core.leftovers import partial_name, remove_leftovers_once


@contextmanager
def replacing(path: Path, *, durable: bool = True, name_later: bool = False) -> Iterator[Path]:
    """A partial file beside `path` to write to; it takes `path`'s place once all went well.

    durable: it outlasts a power cut; not needed of what is made again by repeating the command.
    name_later: its content does, and its name once another file of the folder is durable.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    remove_leftovers_once(path.parent)
    partial = path.with_name(partial_name(path.name))
    try:
        yield partial
        if durable:
            sync(partial)
        os.replace(partial, path)
        if durable and not name_later:
            sync(path.parent)
    finally:
        partial.unlink(missing_ok=True)


def sync(path: Path) -> None:
    """Flush one file, or the names in one folder, to the disk (fsync)."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_tree(folder: Path) -> None:
    """Flush a folder and all in it to the disk."""
    for path in folder.rglob("*"):
        sync(path)
    sync(folder)


@contextmanager
def replacing_folder(path: Path) -> Iterator[Path]:
    """The same for a folder of files.

    Where `path` exists it stays if its files are equal, so that repeating a run is harmless;
    another folder of that name is never overwritten: LdctError.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    remove_leftovers_once(path.parent)
    partial = path.with_name(partial_name(path.name))
    partial.mkdir()
    try:
        yield partial
        if not path.exists() or (path.is_dir() and not any(path.iterdir())):
            sync_tree(partial)
            os.replace(partial, path)
            sync(path.parent)
        elif not path.is_dir() or _contents(path) != _contents(partial):
            raise LdctError(f"{path} exists and holds something else; choose another folder")
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _contents(folder: Path) -> dict[str, bytes]:
    """Digest by name: folders are compared without holding a whole series in memory."""
    return {
        str(file.relative_to(folder)): hashlib.sha256(file.read_bytes()).digest()
        for file in folder.rglob("*")
        if file.is_file()
    }


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keep other processes out that lock the same folder, for a moment: to change a file there.

    The lock is a hidden file, which stays.
    """
    with (folder / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def write_text(path: Path, text: str, *, durable: bool = True) -> None:
    """Write UTF-8 whole or not at all; an existing file is replaced. durable: as of replacing."""
    with replacing(path, durable=durable) as partial:
        partial.write_text(text, encoding="utf-8")


def write_json(path: Path, data: Any, *, durable: bool = True) -> None:
    """As write_text, indented. Raises ValueError for NaN and infinity, which JSON lacks."""
    write_text(path, json.dumps(data, indent=2, allow_nan=False) + "\n", durable=durable)
