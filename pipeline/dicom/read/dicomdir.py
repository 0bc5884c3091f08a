"""The index of a DICOM disc (PS3.3 F.3): does the disc hold what it says?"""

from __future__ import annotations

from pathlib import Path

from pipeline.core.refusals import Disposition, Refusal, Unreadable
from pipeline.dicom.read.files import archive_of, member_names, read_dataset

NAME = "DICOMDIR"


def is_index(path: Path) -> bool:
    """Whether a file is a disc's index, by its name in any case of letters."""
    return path.name.upper() == NAME


def missing_files(path: Path) -> list[Refusal]:
    """A Refusal for each image that a DICOMDIR names and that is not there; else nothing.

    Names are compared in any case of letters, without ISO 9660's version and final dot: file
    systems that show them in lower case, as Linux does, are none of the disc's faults (PS3.12).
    """
    if not is_index(path):
        return []
    try:
        records = read_dataset(path).get("DirectoryRecordSequence") or []
        named = [_parts(record.get("ReferencedFileID")) for record in records]
    except Exception as error:  # damaged streams raise many kinds
        fault = Unreadable(f"the index of the disc is damaged ({type(error).__name__})")
        return [fault.refusal(path)]
    disc = _Disc(path.parent)
    return [
        Refusal(
            path.parent.joinpath(*parts),
            Disposition.QUARANTINED,
            "named by the DICOMDIR, but not there",
            "ReferencedFileID",
        )
        for parts in named
        if parts and not disc.has(parts)
    ]


def _parts(value: object) -> tuple[str, ...]:
    """ReferencedFileID: folders and the file's name."""
    if not value:
        return ()
    return (value,) if isinstance(value, str) else tuple(map(str, value))  # type: ignore[call-overload]


def _plain(name: str) -> str:
    """A name as ISO 9660 means it: `im000001.;1` is IM000001."""
    return name.partition(";")[0].rstrip(".").upper()


class _Disc:
    """The names below a folder, or below the folder of an archive's member."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._names: dict[Path, dict[str, list[Path]]] = {}
        archive = folder if folder.is_file() else archive_of(folder)
        self._members = self._of_archive(archive) if archive else None

    def has(self, parts: tuple[str, ...]) -> bool:
        """Whether there is a file of this name."""
        wanted = tuple(map(_plain, parts))
        if self._members is not None:
            return wanted in self._members
        return any(path.is_file() for path in self._found(self._folder, wanted))

    def _of_archive(self, archive: Path) -> set[tuple[str, ...]]:
        within = self._folder.relative_to(archive).parts
        members = (Path(name).parts for name in member_names(archive))
        return {
            tuple(map(_plain, parts[len(within) :]))
            for parts in members
            if parts[: len(within)] == within
        }

    def _found(self, folder: Path, wanted: tuple[str, ...]) -> list[Path]:
        """Every path of these names below a folder: `A` and `a` may be two."""
        if not wanted:
            return [folder]
        if folder not in self._names:
            self._names[folder] = {}
            for path in folder.iterdir() if folder.is_dir() else ():
                self._names[folder].setdefault(_plain(path.name), []).append(path)
        found = self._names[folder].get(wanted[0], [])
        return [path for one in found for path in self._found(one, wanted[1:])]
