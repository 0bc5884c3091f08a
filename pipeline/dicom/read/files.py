"""Where DICOM comes from: files in folders, and members of zip archives, read in place.

A member is named by a path through its archive (`study.zip/series/1.dcm`), so that the rest of
the project knows paths only, and nothing of a patient is unpacked to a temporary folder.
"""

from __future__ import annotations

import functools
import zipfile
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO

import pydicom
from pydicom.uid import UID, ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from pipeline.core.folder_walk import FolderWalk, LeaveOut, hidden, let_go
from pipeline.core.refusals import Unreadable
from pipeline.dicom.read.deflated import require_bounded

#: More than any CT file has; a larger file is not read into memory.
MAX_FILE_BYTES = 2 * 1024**3
#: An archive member that unpacks to more bytes than this, and to more than so many times its
#: packed size, is a decompression bomb: CT packs to a third, and an empty slice is small.
MAX_UNPACKED_BYTES, MAX_COMPRESSION_RATIO = 64 * 1024**2, 100
ARCHIVE = ".zip"
PREAMBLE = 132
PIXEL_DATA = 0x7FE00010
UNDEFINED_LENGTH = 0xFFFFFFFF
#: How a data set begins that has no preamble: with group 0002 or 0008, little endian, at a low
#: element.
FIRST_GROUPS = (b"\x02\x00", b"\x08\x00")
NO_PREAMBLE = "no DICOM preamble (PS3.10 7.1): read from its first byte on"
NO_SYNTAX = "no TransferSyntaxUID (PS3.10 7.1): read as its bytes are, {}"


def files_below(root: Path, *, skip: str = "", leave_out: LeaveOut = let_go) -> Iterator[Path]:
    """Every file below `root` in a fixed order, with members of zip archives.

    An archive that cannot be opened is yielded itself. Links to folders are followed, each folder
    once. leave_out: called with what is not read: what is hidden, folders with `skip` in their
    name (in any case of letters), links without an end, and what the system does not let read.
    """
    if root.is_file():
        yield from _members(root, leave_out)
        return
    for path in FolderWalk(root, skip, leave_out).files():
        yield from _members(path, leave_out)


def _members(path: Path, leave_out: LeaveOut) -> Iterator[Path]:
    if path.suffix.lower() != ARCHIVE or not zipfile.is_zipfile(path):
        yield path
        return
    for name in sorted(_archive(path).namelist()):
        member = path / name
        if name.endswith("/"):
            continue
        if any(part.startswith((".", "__MACOSX")) for part in Path(name).parts):
            leave_out(hidden(member))
        else:
            yield member


@functools.lru_cache(maxsize=8)
def _archive(path: Path) -> zipfile.ZipFile:
    return zipfile.ZipFile(path)


def archive_of(path: Path) -> Path | None:
    """The archive that a path leads into; None for a file of its own."""
    if ARCHIVE not in str(path).lower():
        return None
    return next((p for p in path.parents if p.suffix.lower() == ARCHIVE and p.is_file()), None)


def member_names(archive: Path) -> list[str]:
    """The members of a zip archive, each by its name there."""
    return _archive(archive).namelist()


def _within(path: Path) -> tuple[zipfile.ZipFile, zipfile.ZipInfo] | None:
    """The archive a path leads into, and the member there; None for a file of its own."""
    parent = archive_of(path)
    if parent is None:
        return None
    archive = _archive(parent)
    return archive, archive.getinfo(path.relative_to(parent).as_posix())


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

    Raises what `dcmread` raises, and Unreadable for a file too large for a slice, also inflated,
    and for compressed pixels without a TransferSyntaxUID.
    """
    return read_with_remarks(path, **options)[0]


def read_with_remarks(path: Path, **options: Any) -> tuple[pydicom.Dataset, tuple[str, ...]]:
    """As read_dataset, with what is wrong with the file's form and was carried on."""
    if size_of(path) > MAX_FILE_BYTES:
        raise Unreadable(f"a file of {size_of(path)} bytes is no CT slice")
    with opened(path) as stream:
        source = stream if _within(path) is None else BytesIO(stream.read())
        require_bounded(source)
        bare = _is_bare(source.read(PREAMBLE))
        source.seek(0)
        dataset = pydicom.dcmread(source, force=bare, **options)
    remarks = [NO_PREAMBLE] if bare else []
    if "TransferSyntaxUID" not in dataset.file_meta:
        syntax = _syntax_of(dataset)
        dataset.file_meta.TransferSyntaxUID = syntax
        remarks.append(NO_SYNTAX.format(syntax.name))
    return dataset, tuple(remarks)


def _is_bare(head: bytes) -> bool:
    """A data set without preamble, as old archives keep them (PS3.10 7.5)."""
    return head[128:] != b"DICM" and head[:2] in FIRST_GROUPS and head[3:4] == b"\x00"


def _syntax_of(dataset: pydicom.Dataset) -> UID:
    """The transfer syntax of a data set that names none, by its own encoding.

    Raises Unreadable where the pixels are compressed: nothing says by what.
    """
    pixels = dataset.get_item(PIXEL_DATA) if PIXEL_DATA in dataset else None
    if pixels is not None and getattr(pixels, "length", 0) == UNDEFINED_LENGTH:
        raise Unreadable(
            "missing, and the pixels are compressed: convert the file where its codec is known",
            "TransferSyntaxUID",
        )
    implicit, little_endian = dataset.original_encoding
    if not little_endian:
        return ExplicitVRBigEndian
    return ImplicitVRLittleEndian if implicit else ExplicitVRLittleEndian
