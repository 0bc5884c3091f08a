"""What is known of the files below a folder of studies: which image each is, and since when it has
been as it is.

A header is read once, and again where the file's size or time of change is another. Whether a file
is still being written shows by comparing it with what was seen before, so that neither a copied
time of change nor another computer's clock matters.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from pydicom.dataset import Dataset
from pydicom.errors import InvalidDicomError
from pydicom.uid import MediaStorageDirectoryStorage

from pipeline.core.folder_walk import FolderWalk
from pipeline.core.refusals import Disposition, Refusal
from pipeline.dicom.read.files import read_dataset
from pipeline.pacs.peers.peer import Unreachable

FILE = "folder-source.db"
_UIDS = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID")
_BUSY_MS = 30_000
_BATCH = 500
_SCHEMA = """
CREATE TABLE IF NOT EXISTS file (
    path TEXT PRIMARY KEY,
    size INTEGER NOT NULL,
    changed_ns INTEGER NOT NULL,
    since REAL NOT NULL,
    study_uid TEXT NOT NULL,
    series_uid TEXT NOT NULL,
    instance_uid TEXT NOT NULL,
    damaged INTEGER NOT NULL
);
CREATE INDEX IF NOT EXISTS file_series ON file (series_uid, study_uid);
"""


@dataclass(frozen=True)
class IndexedFile:
    """A file of an image. since: when it was first seen of this size and time of change."""

    path: Path
    size: int
    changed_ns: int
    since: float
    instance_uid: str

    def is_unchanged(self) -> bool:
        """Whether the file is still as it was when its header was read."""
        about = self.path.stat()
        return (about.st_size, about.st_mtime_ns) == (self.size, self.changed_ns)


class FolderIndex:
    """An index of the files below `root`; each process and thread opens its own.

    unread: how many folders and links could not be read at the last scan.
    place: the work folder, where it is kept; None for one in memory. Raises Unreachable where the
    folder is not there, as when a network drive is not mounted.
    """

    def __init__(
        self, root: Path, place: Path | None, *, now: Callable[[], float] = time.time
    ) -> None:
        self._root, self.now = root, now
        self._db = sqlite3.connect(place / FILE if place else ":memory:", isolation_level=None)
        self._db.row_factory = sqlite3.Row
        self._db.execute(f"PRAGMA busy_timeout = {_BUSY_MS}")
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.executescript(_SCHEMA)
        self.unread = 0

    def scan(self) -> None:
        """Look at every file below the folder; what was hidden by a dot is left out."""
        self._require_root()
        unread: list[Path] = []

        def leave_out(refusal: Refusal) -> None:
            if refusal.disposition is Disposition.QUARANTINED:
                unread.append(refusal.path)

        seen: set[str] = set()
        found = FolderWalk(self._root, "", leave_out).files()
        while paths := list(islice(found, _BATCH)):
            self._look(paths)
            seen.update(map(str, paths))
        known = [row["path"] for row in self._db.execute("SELECT path FROM file")]
        # What lies in a folder that cannot be read now is not gone.
        gone = (path for path in known if path not in seen and not _below(path, unread))
        self._forget(gone)
        self.unread = len(unread)

    def look_again(self, study_uid: str, series_uid: str) -> list[IndexedFile]:
        """The files of a series, after another look into the folders where they lie."""
        self._require_root()
        files = self.files(study_uid, series_uid)
        try:
            if any(_is_gone(file.path) for file in files):
                self.scan()  # moved, perhaps
                return self.files(study_uid, series_uid)
            for folder in sorted({file.path.parent for file in files}):
                self._look(sorted(path for path in folder.iterdir() if _is_read(path)))
        except OSError:
            raise Unreachable("a folder of the source cannot be read now") from None
        return self.files(study_uid, series_uid)

    def files(self, study_uid: str, series_uid: str) -> list[IndexedFile]:
        """The files of a series, by path."""
        rows = self._db.execute(
            "SELECT path, size, changed_ns, since, instance_uid FROM file"
            " WHERE series_uid = ? AND study_uid = ? ORDER BY path",
            (series_uid, study_uid),
        )
        return [IndexedFile(Path(row["path"]), *tuple(row)[1:]) for row in rows]

    def series(self) -> list[tuple[str, str]]:
        """(StudyInstanceUID, SeriesInstanceUID) of every series, studies together."""
        rows = self._db.execute(
            "SELECT DISTINCT study_uid, series_uid FROM file WHERE series_uid != ''"
            " ORDER BY study_uid, series_uid"
        )
        return [tuple(row) for row in rows]

    def damaged(self) -> int:
        """How many files begin as DICOM does and cannot be read."""
        return int(self._db.execute("SELECT count(*) FROM file WHERE damaged").fetchone()[0])

    def _require_root(self) -> None:
        if not self._root.is_dir():
            raise Unreachable("the source's folder is not there; is its drive mounted?")

    def _look(self, paths: Iterable[Path]) -> None:
        """Read the headers of those that are new or changed."""
        rows = [row for path in paths if (row := self._changed_row(path)) is not None]
        if rows:
            self._db.execute("BEGIN IMMEDIATE")
            self._db.executemany(
                "INSERT OR REPLACE INTO file VALUES (?, ?, ?, ?, ?, ?, ?, ?)", rows
            )
            self._db.execute("COMMIT")

    def _changed_row(self, path: Path) -> tuple[object, ...] | None:
        try:
            about = path.stat()
        except OSError:  # gone since it was listed
            return None
        known = self._db.execute(
            "SELECT size, changed_ns FROM file WHERE path = ?", (str(path),)
        ).fetchone()
        if known is not None and tuple(known) == (about.st_size, about.st_mtime_ns):
            return None
        uids, damaged = _identity(path)
        return (str(path), about.st_size, about.st_mtime_ns, self.now(), *uids, damaged)

    def _forget(self, paths: Iterator[str]) -> None:
        rows = [(path,) for path in paths]
        if rows:
            self._db.execute("BEGIN IMMEDIATE")
            self._db.executemany("DELETE FROM file WHERE path = ?", rows)
            self._db.execute("COMMIT")


def _identity(path: Path) -> tuple[tuple[str, ...], bool]:
    """The UIDs of a DICOM file, each "" where it has none, and whether it is damaged."""
    nothing = ("",) * len(_UIDS)
    try:
        header: Dataset = read_dataset(path, stop_before_pixels=True, specific_tags=list(_UIDS))
    except InvalidDicomError:
        return nothing, False
    except Exception:  # whatever a damaged header makes a parser raise
        return nothing, True
    uids = tuple(str(header.get(name) or "") for name in _UIDS)
    if all(uids):
        return uids, False
    kind = header.file_meta.get("MediaStorageSOPClassUID")
    return nothing, kind != MediaStorageDirectoryStorage


def _is_gone(path: Path) -> bool:
    """Whether there is no such file; raises OSError where that cannot be known."""
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return True
    return False


def _below(path: str, folders: list[Path]) -> bool:
    return any(Path(path).is_relative_to(folder) for folder in folders)


def _is_read(path: Path) -> bool:
    return not path.name.startswith(".") and path.is_file()
