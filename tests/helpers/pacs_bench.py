"""A PACS worker on a folder peer, with a clock that tests move."""

from __future__ import annotations

import shutil
from pathlib import Path

from helpers.pacs import (
    FolderPeer,
    derive,
    series_of,
    settings,
    write_ct,
)
from pipeline.pacs.settings.hospital import Pacs
from pipeline.pacs.steps.worker import Worker
from pipeline.pacs.work.folder import WorkFolder
from pipeline.pacs.work.ledger import Ledger

MODEL = "models:/test/1"


class Clock:
    """A time that tests move by hand."""

    def __init__(self) -> None:
        self.at = 1_000_000.0

    def __call__(self) -> float:
        return self.at


class Bench:
    """A source and a destination as folders, a ledger on a clock of its own, and a worker."""

    def __init__(self, root: Path, **more) -> None:
        self.clock = Clock()
        self.settings: Pacs = settings(root / "work", **more)
        self.ledger = Ledger(self.settings.work, now=self.clock)
        self.source, self.destination = FolderPeer(root / "source"), FolderPeer(root / "pacs")
        self.worker = Worker(
            self.settings, self.ledger, derive, {"": self.destination}, self.source
        )

    @property
    def places(self) -> WorkFolder:
        return WorkFolder(self.settings.work)

    def add(self, number: int = 1, **attributes):
        paths = write_ct(self.source.folder / "new", number, **attributes)
        self.source.send(paths)
        shutil.rmtree(self.source.folder / "new")
        return self.add_to_ledger(number)

    def add_to_ledger(self, number: int):
        chosen = [
            path for path in self.source.folder.glob("*.dcm") if f".77.{number}.3." in path.name
        ]
        return self.ledger.add(
            series_of(chosen), MODEL, origin="dicomweb", rule="any", due=self.clock.at
        )
