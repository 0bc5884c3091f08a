"""The work folder stays closed to others while a part runs."""

from __future__ import annotations

from flows.runtime.progress import log
from pipeline.pacs.settings.hospital import Pacs
from pipeline.pacs.work.private import close_to_others


def keep_private(settings: Pacs) -> None:
    """Close the work folder to all but its owner, and say so, where somebody opened it.

    Raises ConfigError where it cannot be closed.
    """
    if settings.work.exists() and (done := close_to_others(settings.work)):
        log("closed", done, {"reason": "the work folder was open to others"})
