"""The few files of a MONAI bundle that are read, from a folder or a zip archive."""

from __future__ import annotations

import zipfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from pipeline.config.bundle_import import MEMBERS, METADATA
from pipeline.core.errors import ConfigError
from pipeline.core.leftovers import scratch_folder
from pipeline.models.adapters.foreign_weights import MAX_BYTES

#: What is copied from an archive at once.
_CHUNK_BYTES = 2**20


@contextmanager
def bundle_folder(path: Path) -> Iterator[Path]:
    """The folder of a bundle; of an archive a temporary one with the files that are read.

    Raises ConfigError for an archive that names a place outside of itself, has a name twice, is
    encrypted, or would unpack to more than MAX_BYTES; then nothing of it is written.
    """
    if path.is_dir():
        yield path
        return
    with scratch_folder() as folder:
        try:
            with zipfile.ZipFile(path) as archive:
                _unpack(archive, path, folder)
        except (zipfile.BadZipFile, OSError, NotImplementedError) as error:
            raise ConfigError(f"{path} is no zip archive that can be read: {error}") from error
        yield folder


def _unpack(archive: zipfile.ZipFile, path: Path, folder: Path) -> None:
    members = archive.infolist()
    names = [member.filename for member in members]
    times = Counter(names)
    for member in members:
        place = PurePosixPath(member.filename)
        if place.is_absolute() or ".." in place.parts or "\\" in member.filename:
            raise ConfigError(f"{path}: {member.filename!r} lies outside of the archive")
        if times[member.filename] > 1:
            raise ConfigError(f"{path}: {member.filename!r} is there twice")
        if member.flag_bits & 1:
            raise ConfigError(f"{path} is encrypted")
    root = _root(names, path)
    wanted = [member for member in members if member.filename.removeprefix(root) in MEMBERS]
    wanted = [member for member in wanted if member.filename.startswith(root)]
    size = sum(member.file_size for member in wanted)
    if size > MAX_BYTES:
        raise ConfigError(f"{path} unpacks to {size} bytes; at most {MAX_BYTES} are read")
    for member in wanted:
        _copy(archive, member, folder / member.filename.removeprefix(root))


def _root(names: list[str], path: Path) -> str:
    """The folder in the archive that the bundle lies in; "" where that is the archive itself."""
    found = [name for name in names if name == METADATA or name.endswith(f"/{METADATA}")]
    if len(found) != 1:
        raise ConfigError(f"{path}: expected one {METADATA}, found {len(found)}")
    return found[0].removesuffix(METADATA)


def _copy(archive: zipfile.ZipFile, member: zipfile.ZipInfo, to: Path) -> None:
    """zipfile itself stops at the size that the archive's directory says."""
    to.parent.mkdir(parents=True, exist_ok=True)
    with archive.open(member) as source, to.open("wb") as target:
        while chunk := source.read(_CHUNK_BYTES):
            target.write(chunk)
