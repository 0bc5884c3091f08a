"""Where things lie in the work folder, and how they get there: whole, by one rename."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from pipeline.core.atomic_files import write_json
from pipeline.pacs.ledger import private_folder
from pipeline.pacs.work_item import WorkItem


@dataclass(frozen=True)
class WorkFolder:
    """The work folder: series as they came, results, what came in, and the dead letters."""

    root: Path

    def series(self, name: str) -> Path:
        return self.root / "series" / name

    def result(self, name: str) -> Path:
        return self.root / "results" / name

    def dead(self, name: str) -> Path:
        return self.root / "dead" / name

    @property
    def results(self) -> Path:
        """The root of the review of what may be sent."""
        return self.root / "results"

    @property
    def incoming(self) -> Path:
        """Studies that are still being received."""
        return self.root / "incoming"

    @property
    def arrived(self) -> Path:
        """Complete studies, not yet in the ledger."""
        return self.root / "arrived"

    @property
    def unmatched(self) -> Path:
        """Received, and wanted by no rule: kept for a person to look at."""
        return self.root / "unmatched"


@contextmanager
def atomic_folder(folder: Path) -> Iterator[Path]:
    """A folder to fill, which takes its place at the end; what a kill left of it goes first.

    Only for who holds the work: its name is always the same.
    """
    private_folder(folder.parent)
    partial = folder.with_name(f".partial-{folder.name}")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(mode=0o700)
    try:
        yield partial
        sync_tree(partial)
        os.replace(partial, folder)
        sync(folder.parent)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def to_dead_letter(places: WorkFolder, work: WorkItem) -> None:
    """The dead-letter folder of a piece of work: what came, and why it stopped."""
    folder = places.dead(work.id)
    private_folder(folder)
    write_json(folder / "why.json", {**work.facts(), "stopped_in": work.stopped_in})
    if places.series(work.id).exists() and not (folder / "series").exists():
        os.replace(places.series(work.id), folder / "series")


def from_dead_letter(places: WorkFolder, work: WorkItem) -> None:
    """Back from the dead-letter folder, before `ldct retry`."""
    folder = places.dead(work.id)
    if (folder / "series").exists() and not places.series(work.id).exists():
        private_folder(places.series(work.id).parent)
        os.replace(folder / "series", places.series(work.id))
    shutil.rmtree(folder, ignore_errors=True)


def sync_tree(folder: Path) -> None:
    """To the disk: an image that was said to be taken must outlast the power."""
    for path in folder.rglob("*"):
        sync(path)
    sync(folder)


def sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
