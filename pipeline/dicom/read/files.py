"""Where DICOM comes from: files in folders, and members of zip archives, read in place.

A member is named by a path through its archive (`study.zip/series/1.dcm`), so that the rest of
the project knows paths only, and nothing of a patient is unpacked to a temporary folder.
"""

from __future__ import annotations

import functools
import os
import zipfile
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO

import pydicom
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian

from pipeline.core.refusals import Unreadable

#: More than any CT file has; a larger file is not read into memory.
MAX_FILE_BYTES = 2 * 1024**3
#: An archive member that unpacks to more bytes than this, and to more than so many times its
#: packed size, is a decompression bomb: CT packs to a third, and an empty slice is small.
MAX_UNPACKED_BYTES, MAX_COMPRESSION_RATIO = 64 * 1024**2, 100
ARCHIVE = ".zip"
PREAMBLE = 132


def files_below(root: Path, *, skip: str = "") -> Iterator[Path]:
    """Every file below `root` in a fixed order, with members of zip archives, without hidden
    files.

    An archive that cannot be opened is yielded itself, and so is a folder with `skip` in its
    name, in any case of letters, which is not entered. Links to folders are not followed.
    """
    if root.is_file():
        yield from _members(root)
        return
    for folder, folders, names in os.walk(root):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        skipped = [name for name in folders if skip and skip.casefold() in name.casefold()]
        yield from (Path(folder) / name for name in skipped)
        folders[:] = [name for name in folders if name not in skipped]
        for name in sorted(names):
            if not name.startswith("."):
                yield from _members(Path(folder) / name)


def _members(path: Path) -> Iterator[Path]:
    if path.suffix.lower() != ARCHIVE or not zipfile.is_zipfile(path):
        yield path
        return
    for member in sorted(_archive(path).namelist()):
        hidden = any(part.startswith((".", "__MACOSX")) for part in Path(member).parts)
        if not member.endswith("/") and not hidden:
            yield path / member


@functools.lru_cache(maxsize=8)
def _archive(path: Path) -> zipfile.ZipFile:
    return zipfile.ZipFile(path)


def _within(path: Path) -> tuple[zipfile.ZipFile, zipfile.ZipInfo] | None:
    """The archive a path leads into, and the member there; None for a file of its own."""
    if ARCHIVE not in str(path).lower():
        return None
    for parent in path.parents:
        if parent.suffix.lower() == ARCHIVE and parent.is_file():
            archive = _archive(parent)
            return archive, archive.getinfo(path.relative_to(parent).as_posix())
    return None


def size_of(path: Path) -> int:
    """Bytes of a file or member, unpacked."""
    found = _within(path)
    return found[1].file_size if found else path.stat().st_size


def opened(path: Path) -> BinaryIO:
    """A file or member opened for reading; raises Unreadable for an encrypted member, and for a
    decompression bomb."""
    found = _within(path)
    if found is None:
        return path.open("rb")
    archive, member = found
    if member.flag_bits & 1:
        raise Unreadable("an encrypted archive: unpack it first")
    limit = max(MAX_UNPACKED_BYTES, MAX_COMPRESSION_RATIO * member.compress_size)
    if member.file_size > limit:
        raise Unreadable(f"a member that unpacks to {member.file_size} bytes is no CT slice")
    return archive.open(member)  # type: ignore[return-value]


def read_dataset(path: Path, **options: Any) -> pydicom.Dataset:
    """A DICOM file or archive member, read with pydicom's `dcmread` and its options.

    Raises what `dcmread` raises, and Unreadable for a file too large for a slice.
    """
    if size_of(path) > MAX_FILE_BYTES:
        raise Unreadable(f"a file of {size_of(path)} bytes is no CT slice")
    with opened(path) as stream:
        source = stream if _within(path) is None else BytesIO(stream.read())
        bare = _is_bare(source.read(PREAMBLE))
        source.seek(0)
        dataset = pydicom.dcmread(source, force=bare, **options)
    if bare:
        implicit = dataset.original_encoding[0]
        syntax = ImplicitVRLittleEndian if implicit else ExplicitVRLittleEndian
        dataset.file_meta.TransferSyntaxUID = syntax
    return dataset


def _is_bare(head: bytes) -> bool:
    """A data set without preamble and file meta, as old archives keep them (PS3.10 7.5).

    It begins with group 0008 in little endian, explicit or implicit, at a low element.
    """
    return head[128:] != b"DICM" and head[:2] == b"\x08\x00" and head[3:4] == b"\x00"


def exists(path: Path) -> bool:
    """Whether there is such a file or archive member."""
    try:
        return path.exists() or _within(path) is not None
    except KeyError:
        return False
