"""The files of received studies: a folder for each study, one in it for each series."""

from __future__ import annotations

import os
from io import BytesIO
from pathlib import Path

import pydicom

from pipeline.core.atomic_files import sync
from pipeline.pacs.settings.rules import ATTRIBUTES, SeriesFacts
from pipeline.pacs.work.item import PacsSeries
from pipeline.pacs.work.private import private_folder

UID_NAMES = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID")


def read_header(source: Path | BytesIO, names: tuple[str, ...]) -> pydicom.Dataset:
    """The elements of these names of a file; no pixels."""
    return pydicom.dcmread(source, stop_before_pixels=True, specific_tags=list(names))


def facts_of(folder: Path) -> SeriesFacts:
    """What rules ask of a series in its study's folder, from its first image and its callers."""
    paths = images_in(folder)
    return SeriesFacts.of(read_header(paths[0], ATTRIBUTES), len(paths), callers_of(folder))


def note_caller(folder: Path, title: str) -> None:
    """Note beside a series' folder which AE title sent images of it."""
    name = f"{_caller_prefix(folder)}{title.encode().hex()}"
    (folder.parent / name).touch(mode=0o600)


def callers_of(folder: Path) -> tuple[str, ...]:
    """The AE titles that sent images of a series, sorted."""
    prefix = _caller_prefix(folder)
    found = (path.name.removeprefix(prefix) for path in folder.parent.glob(f"{prefix}*"))
    return tuple(sorted(bytes.fromhex(name).decode() for name in found))


def _caller_prefix(folder: Path) -> str:
    return f".from-{folder.name}-"


def series_uid_of(folder: Path) -> str:
    """The SeriesInstanceUID of a series' folder."""
    return str(read_header(images_in(folder)[0], UID_NAMES).SeriesInstanceUID)


def series_in(folder: Path) -> PacsSeries:
    """The images of a series' folder."""
    headers = [read_header(path, UID_NAMES) for path in images_in(folder)]
    uids = frozenset(str(header.SOPInstanceUID) for header in headers)
    return PacsSeries(str(headers[0].StudyInstanceUID), str(headers[0].SeriesInstanceUID), uids)


def move_unless_there(folder: Path, place: Path) -> None:
    """Move a folder unless there is one already: the caller removes what stays."""
    private_folder(place.parent)
    if not place.exists():
        os.replace(folder, place)
        sync(place.parent)
        sync(folder.parent)


def folders_in(folder: Path) -> list[Path]:
    """The folders in a folder, sorted; none where it is not there."""
    return sorted(path for path in folder.iterdir() if path.is_dir()) if folder.exists() else []


def images_in(folder: Path) -> list[Path]:
    """The images of a series' folder that are whole, sorted."""
    return sorted(folder.glob("[!.]*.dcm"))


def series_folders(study: Path) -> list[Path]:
    """Series folders with an image: a kill may leave one without."""
    return [folder for folder in folders_in(study) if images_in(folder)]
