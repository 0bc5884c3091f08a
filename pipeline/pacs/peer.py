"""What every peer on the network can do, and the two ways in which it fails."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from pipeline.core.errors import LdctError
from pipeline.pacs.work_item import PacsSeries


class Unreachable(LdctError):
    """The network or the other side failed in a way that may pass."""


class Refused(LdctError):
    """The other side said no, or what cannot be understood."""


class Peer(Protocol):
    """A PACS: what it has of a series, and a way to give it more."""

    def series(self, study_uid: str, series_uid: str) -> PacsSeries:
        """The images that it has of a series."""

    def store(self, paths: list[Path]) -> None:
        """Send images; whether they arrived, `series` tells."""
