"""A PACS as the other modules see it, and the two ways in which a request to it fails."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from pipeline.core.errors import LdctError
from pipeline.pacs.work.item import PacsSeries

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

    from pipeline.pacs.peers.commitment import Commitment


class Unreachable(LdctError):
    """The network or the PACS failed in a way that another attempt may help against."""


class NoConnection(Unreachable):
    """The PACS does not answer at all: no fault of a series."""


class OutOfResources(Unreachable):
    """The PACS has no space or memory now (0xA700 to 0xA7FF): tried again until it has."""


#: For so long other series are not tried at a PACS that does not answer; and no longer than the
#: first pause after a failure.
AWAY_S = 15.0


class StillGrowing(LdctError):
    """A series is still being written, to be looked at again after `wait_s`."""

    def __init__(self, message: str, wait_s: float) -> None:
        super().__init__(message)
        self.wait_s = wait_s


class Refused(LdctError):
    """The PACS rejected the request, or answered what cannot be understood: do not repeat it."""


class Peer(Protocol):
    """A PACS: it lists what it has of a series, and takes images.

    Both raise Unreachable for what may pass, and Refused for what will not.
    """

    def list_instances(self, study_uid: str, series_uid: str) -> PacsSeries:
        """The images that the PACS has of a series; none where it does not know the series."""

    def send(self, paths: list[Path]) -> None:
        """Send DICOM files. Whether they arrived, `list_instances` shows afterwards."""

    @contextmanager
    def one_connection(self, paths: list[Path]) -> Iterator[None]:
        """Requests of this thread in the block, on files of one study, share a connection where
        the protocol has one, and so may blocks that follow."""
        yield

    def ask_commitment(self, commitment: Commitment, information: Dataset) -> None:
        """Ask for storage commitment (PS3.4 J), where the protocol has it, and confirm it."""
        raise Refused("storage commitment is of DIMSE alone")

    def disconnect(self) -> None:
        """End a connection that was kept for the next block."""
        return None
