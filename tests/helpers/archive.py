"""A destination that commits to what it was sent, and workers that end at its steps."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

from pydicom.dataset import Dataset

from helpers.pacs import FolderPeer
from pipeline.pacs.peers.commitment import TAKEN, Commitment, take_report


class Killed(BaseException):
    """The process ends here."""


class Archive(FolderPeer):
    """Notes requests, and answers those that `fails` has a word for: UIDs' failure reasons.

    killed_at: the step at which the worker ends, once.
    """

    def __init__(self, folder: Path, killed_at: str = "") -> None:
        super().__init__(folder)
        self.asked: list[Dataset] = []
        self.fails: dict[str, int] | None = {}
        self.killed_at, self.answers_later = killed_at, False

    def send(self, paths: list[Path]) -> None:
        self._kill("before send")
        super().send(paths[:1])
        self._kill("in send")
        super().send(paths[1:])
        self._kill("after send")

    def ask_commitment(self, commitment: Commitment, information: Dataset) -> None:
        self._kill("before N-ACTION")
        self.asked.append(information)
        if not self.answers_later:
            self.answer(commitment.folder.parent)
        self._kill("after N-ACTION")
        commitment.confirm()
        self._kill("confirmed")

    def answer(self, root: Path) -> None:
        if self.fails is not None:
            assert take_report(root, report(self.asked[-1], self.fails)) == TAKEN

    def _kill(self, step: str) -> None:
        if self.killed_at == step:
            self.killed_at = ""
            raise Killed


def report(information: Dataset, fails: dict[str, int]) -> SimpleNamespace:
    """An N-EVENT-REPORT that answers a request."""
    answer = Dataset()
    answer.TransactionUID = information.TransactionUID
    answer.ReferencedSOPSequence, answer.FailedSOPSequence = [], []
    for item in information.ReferencedSOPSequence:
        uid = item.ReferencedSOPInstanceUID
        if uid in fails:
            item.FailureReason = fails[uid]
        kind = answer.FailedSOPSequence if uid in fails else answer.ReferencedSOPSequence
        kind.append(item)
    return SimpleNamespace(event_information=answer)
