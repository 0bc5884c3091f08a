"""A received series that came in parts, as after an association that was aborted, as one again.

Received files are named by their SOP Instance UID's pseudonym, so that parts of a series can be
laid together by name.
"""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from pipeline.core.atomic_files import replacing, sync
from pipeline.pacs.work.folder import WorkFolder
from pipeline.pacs.work.item import State, WorkItem
from pipeline.pacs.work.ledger import Ledger
from pipeline.pacs.work.received_files import images_in

#: How work on a received series is called in the ledger.
RECEIVED = "c-store"


@dataclass(frozen=True)
class EarlierPart:
    """The files of a series that came before. work: None where no rule matched them."""

    folder: Path
    work: WorkItem | None


def join_earlier(
    folder: Path, series_uid: str, ledger: Ledger, places: WorkFolder
) -> list[EarlierPart]:
    """Add what came before of a received series to its folder; returns the parts it now has more
    than.

    The files are linked, where the disk can; repeating it changes nothing.
    """
    parts = _parts(folder, series_uid, ledger, places)
    for part in parts:
        for path in images_in(part.folder):
            if not (folder / path.name).exists():
                _link(path, folder / path.name)
    if parts:
        sync(folder)
    whole = _names(folder)
    return [part for part in parts if part.work is None or _names(part.folder) < whole]


def put_away(parts: list[EarlierPart], ledger: Ledger, places: WorkFolder) -> None:
    """End the work on parts of a series that is whole now; what was sent of it stays sent.

    A part that a worker is busy with goes on to its end: its images are the whole's as well.
    """
    for part in parts:
        if part.work is None:
            shutil.rmtree(part.folder, ignore_errors=True)
        elif ledger.supersede(part.work, "the rest of the series came"):
            name = part.work.id
            for done in (
                part.folder,
                places.dead(name),
                places.result(name),
                *places.commitments_of(name),
            ):
                shutil.rmtree(done, ignore_errors=True)


def remove_sent(ledger: Ledger, places: WorkFolder, *, keep_s: float) -> None:
    """Remove received originals that were sent so long ago that no more parts are expected."""
    folders = {path.name: path for path in places.root.glob("series/w-*")}
    if not folders:
        return
    before = ledger.now() - keep_s
    for work in ledger.all(State.SENT):
        if work.id in folders and work.changed <= before:
            shutil.rmtree(folders[work.id], ignore_errors=True)


def _parts(folder: Path, series_uid: str, ledger: Ledger, places: WorkFolder) -> list[EarlierPart]:
    unmatched = [EarlierPart(path, None) for path in places.unmatched.glob(f"*-{folder.name}")]
    received = [work for work in ledger.of_series(series_uid) if work.origin == RECEIVED]
    lie = [(places.series(work.id), places.dead(work.id) / "series", work) for work in received]
    worked = [
        EarlierPart(place, work) for *places_, work in lie for place in places_ if place.is_dir()
    ]
    return unmatched + worked


def _link(path: Path, place: Path) -> None:
    try:
        os.link(path, place)
    except OSError:  # a disk without links
        with replacing(place) as partial:
            shutil.copyfile(path, partial)


def _names(folder: Path) -> set[str]:
    return {path.name for path in images_in(folder)}
