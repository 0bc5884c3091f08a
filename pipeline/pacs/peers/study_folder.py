"""A folder of studies in place of a PACS: read from, never changed; and one that results go to."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
from collections import defaultdict
from collections.abc import Iterator
from datetime import date
from pathlib import Path

from pydicom.dataset import Dataset

from pipeline.core.atomic_files import locked, sync
from pipeline.core.pseudonyms import pseudonym
from pipeline.dicom.read.files import read_dataset
from pipeline.pacs.peers.folder_index import FolderIndex, IndexedFile
from pipeline.pacs.peers.peer import Peer, Refused, StillGrowing, Unreachable
from pipeline.pacs.settings.hospital import RoutingRule
from pipeline.pacs.settings.rules import ATTRIBUTES, SeriesFacts
from pipeline.pacs.work.folder import atomic_folder
from pipeline.pacs.work.item import PacsSeries

_FULL = (errno.ENOSPC, errno.EDQUOT)


class StudyFolderSource:
    """The series below a folder, however their files are named and ordered.

    A series is its images: one that lies there twice, or is moved, is the same. settle_s: a series
    of which a file changed, or came, less than so long ago is still growing.
    """

    def __init__(self, index: FolderIndex, *, settle_s: float) -> None:
        self._index, self._settle_s = index, settle_s
        self._scanned = False

    def candidates(
        self, rule: RoutingRule, *, today: date
    ) -> Iterator[tuple[PacsSeries, SeriesFacts]]:
        """Every series below the folder, which is read through once; the rule says later which.

        Raises Unreachable where the folder is not there.
        """
        if not self._scanned:
            self._index.scan()
            self._scanned = True
        for uids in self._index.series():
            files = self._index.files(*uids)
            series = _series(*uids, files)
            header = _header(files[0].path)
            if header is not None:
                yield series, SeriesFacts.of(header, len(series.instance_uids))

    def unreadable(self) -> int:
        """How many folders, and files that begin as DICOM does, could not be read."""
        return self._index.damaged() + self._index.unread

    def list_instances(self, study_uid: str, series_uid: str) -> PacsSeries:
        """The images of a series that lie there now.

        Raises StillGrowing while the series is, and Unreachable where the folder is not there.
        """
        files = self._index.look_again(study_uid, series_uid)
        settled = max((file.since for file in files), default=0.0) + self._settle_s
        wait_s = settled - self._index.now()
        if wait_s > 0:
            raise StillGrowing("files of this series are still being written", wait_s)
        return _series(study_uid, series_uid, files)

    def accession_number(self, study_uid: str, series_uid: str) -> str:
        """The accession number (0008,0050) of a series' first file; "" where it has none.

        Raises Unreachable where no file of the series is there.
        """
        files = self._index.files(study_uid, series_uid)
        if not files:
            self._index.scan()
            files = self._index.files(study_uid, series_uid)
        header = _header(files[0].path, "AccessionNumber") if files else None
        if header is None:
            raise Unreachable("no file of this series is there now")
        return str(header.get("AccessionNumber", "") or "")

    def retrieve(self, series: PacsSeries, folder: Path) -> None:
        """Copy the images of a series into a folder, one file each.

        Raises Refused where two different files are the same image, and Unreachable where a file
        changes or goes away meanwhile.
        """
        copies: defaultdict[str, list[IndexedFile]] = defaultdict(list)
        for file in self._index.files(series.study_uid, series.series_uid):
            copies[file.instance_uid].append(file)
        for number, uid in enumerate(sorted(series.instance_uids & copies.keys())):
            first, *others = copies[uid]
            _copy(first, folder / f"{number:06d}.dcm")
            if any(_digest(file) != _digest(first) for file in others):
                raise Refused(
                    f"{len(copies[uid])} files of the source are the same image (SOPInstanceUID) "
                    "and differ: take all but one away"
                )


class StudyFolderDestination(Peer):
    """Derived series as folders, DIR/STUDY/SERIES/*.dcm, each there whole or not at all.

    key: the installation's, for the pseudonyms that studies are named by. The folder itself must
    be there: one on a drive that is not mounted is not made again on the disk below.
    """

    def __init__(self, root: Path, key: bytes) -> None:
        self._root, self._key = root, key

    def list_instances(self, study_uid: str, series_uid: str) -> PacsSeries:
        """The images of a series that lie there."""
        found = set()
        for path in self._study(study_uid).glob("[!.]*/[!.]*.dcm"):
            header = _header(path)
            if header is not None and header.SeriesInstanceUID == series_uid:
                found.add(str(header.SOPInstanceUID))
        return PacsSeries(study_uid, series_uid, frozenset(found))

    def send(self, paths: list[Path]) -> None:
        """Write the images of one series; what lies there stays."""
        header = read_dataset(paths[0], stop_before_pixels=True)
        study = self._study(str(header.StudyInstanceUID))
        study.mkdir(exist_ok=True)
        place = study / paths[0].parent.name
        with locked(study):
            if place.exists():
                for path in paths:
                    _add(path, place)
            else:
                with atomic_folder(place, mode=0o777) as partial:
                    for path in paths:
                        shutil.copyfile(path, partial / path.name)

    def _study(self, study_uid: str) -> Path:
        if not self._root.is_dir():
            raise Unreachable("the folder for results is not there; make it, or mount its drive")
        return self._root / pseudonym(self._key, "st", study_uid)


def _add(path: Path, place: Path) -> None:
    """Add an image to a folder, whole. Raises Refused where another one has its name."""
    there = place / path.name
    if there.exists():
        raise Refused(f"another image lies at {there.name} in the folder for results")
    partial = place / f".partial-{path.name}"
    shutil.copyfile(path, partial)
    sync(partial)
    os.replace(partial, there)
    sync(place)


def _series(study_uid: str, series_uid: str, files: list[IndexedFile]) -> PacsSeries:
    return PacsSeries(study_uid, series_uid, frozenset(file.instance_uid for file in files))


def _header(path: Path, *more: str) -> Dataset | None:
    """The header of an image that was read before, with more of its elements than rules ask of;
    None where it is no longer there."""
    names = [*ATTRIBUTES, *more, "SeriesInstanceUID", "SOPInstanceUID"]
    try:
        return read_dataset(path, stop_before_pixels=True, specific_tags=names)
    except (OSError, ValueError):
        return None


def _copy(file: IndexedFile, place: Path) -> None:
    try:
        shutil.copyfile(file.path, place)
        unchanged = file.is_unchanged()
    except OSError as error:
        if error.errno in _FULL:
            raise
        raise Unreachable("a file of the source cannot be read now") from None
    if not unchanged:
        raise Unreachable("a file of the source changed while it was copied")


def _digest(file: IndexedFile) -> bytes:
    try:
        with file.path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").digest()
    except OSError:
        raise Unreachable("a file of the source cannot be read now") from None
