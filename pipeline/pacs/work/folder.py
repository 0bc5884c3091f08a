"""The layout of the work folder; folders get their place whole, by one rename."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from pipeline.core.atomic_files import sync, sync_tree, write_json
from pipeline.core.errors import LdctError
from pipeline.core.leftovers import remove_leftovers_once
from pipeline.pacs.work.item import WorkItem
from pipeline.pacs.work.private import private_folder


class NoSpace(LdctError):
    """There is no space where the work folder or the destination lies: no fault of a series."""


@dataclass(frozen=True)
class WorkFolder:
    """The work folder: series as they came, results, incoming studies, and dead letters."""

    root: Path

    def series(self, name: str) -> Path:
        """The files of a piece of work as they came, by its id."""
        return self.root / "series" / name

    def result(self, name: str) -> Path:
        """The derived series of a piece of work, and the report on them, by its id."""
        return self.root / "results" / name

    def dead(self, name: str) -> Path:
        """The dead-letter folder of a piece of work, by its id."""
        return self.root / "dead" / name

    def commitment(self, name: str, destination: str = "") -> Path:
        """The storage commitment request and report of a piece of work, by its id."""
        return self.commitments / (f"{name}.{destination}" if destination else name)

    def commitments_of(self, name: str) -> list[Path]:
        """Those of a piece of work with every destination."""
        return [self.commitment(name), *self.commitments.glob(f"{name}.*")]

    @property
    def commitments(self) -> Path:
        """All storage commitments that are under way."""
        return self.root / "commitment"

    @property
    def results(self) -> Path:
        """All results: the folder that `ldct review` opens, where readers accept them."""
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
        """Received series that match no rule: kept for a person to look at."""
        return self.root / "unmatched"

    def unmatched_count(self) -> int:
        """How many received series match no rule."""
        return sum(path.is_dir() for path in self.unmatched.glob("*"))


@contextmanager
def atomic_folder(folder: Path, *, mode: int = 0o700) -> Iterator[Path]:
    """Yield a folder to fill, which is renamed to `folder` at the end.

    What an interrupted call left is removed first. Only for the process that holds the work: the
    temporary name is always the same. mode: of the folder, less the process's umask.
    """
    private_folder(folder.parent)
    remove_leftovers_once(folder.parent)
    partial = folder.with_name(f".partial-{folder.name}")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(mode=mode)
    try:
        yield partial
        sync_tree(partial)
        os.replace(partial, folder)
        sync(folder.parent)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def to_dead_letter(places: WorkFolder, work: WorkItem) -> None:
    """Move the files of dead work to its dead-letter folder, with the reason in why.json."""
    folder = places.dead(work.id)
    private_folder(folder)
    write_json(folder / "why.json", {**work.to_dict(), "stopped_in": work.stopped_in})
    if places.series(work.id).exists() and not (folder / "series").exists():
        os.replace(places.series(work.id), folder / "series")


def from_dead_letter(places: WorkFolder, work: WorkItem) -> None:
    """Move the files of dead work back, before it is tried again."""
    folder = places.dead(work.id)
    if (folder / "series").exists() and not places.series(work.id).exists():
        private_folder(places.series(work.id).parent)
        os.replace(folder / "series", places.series(work.id))
    shutil.rmtree(folder, ignore_errors=True)
