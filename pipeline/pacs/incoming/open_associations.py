"""Which studies open associations send, and which studies an association broke off in."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

from pipeline.pacs.work.private import private_folder

_MARK = ".sending-"


@dataclass
class OpenAssociations:
    """The associations of one receiver, by number, each with the folders of studies below
    `incoming` that it has sent images of.

    A file in a study's folder stands for an association that sends it, and stays there where that
    is aborted or the receiver ends. Not locked: the receiver does that.
    """

    incoming: Path
    studies: dict[int, set[str]] = field(default_factory=dict)

    def established(self, association: int) -> None:
        """An association that has sent nothing so far."""
        self.studies[association] = set()

    def sends(self, association: int, study: str) -> None:
        """It sends an image of a study, whose folder is made where there is none.

        Its connection may have ended before the image is looked at, in another thread: then it
        holds the study no longer, and has broken off in it.
        """
        studies = self.studies.get(association)
        if studies is None or study not in studies:
            private_folder(self.incoming / study)
            (self.incoming / study / _mark(association)).touch(mode=0o600)
        if studies is not None:
            studies.add(study)

    def released(self, association: int) -> None:
        """The sender has sent all that it wanted: what was cut before came with it."""
        others = {_mark(each) for each in self.studies if each != association}
        for study in self.studies.get(association, ()):
            for mark in marks(self.incoming / study):
                if mark.name not in others:
                    mark.unlink(missing_ok=True)

    def closed(self, association: int) -> None:
        """It is no longer there, released or not."""
        self.studies.pop(association, None)

    def is_sending(self, study: str) -> bool:
        """Whether an association that is open has sent images of a study."""
        return any(study in studies for studies in list(self.studies.values()))


def marks(study: Path) -> list[Path]:
    """The files of associations that send a study, or broke off while they did."""
    return list(study.glob(f"{_MARK}*"))


def _mark(association: int) -> str:
    return f"{_MARK}{os.getpid()}-{association}"
