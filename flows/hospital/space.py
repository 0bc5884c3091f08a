"""A full disk: the worker and the receiver wait, say so once, and go on when there is space."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from flows.runtime.progress import log
from pipeline.pacs.work.folder import NoSpace
from pipeline.pacs.work.ledger_file import is_no_space

#: As the log has it.
EVENT = "no_space"


@dataclass
class WaitForSpace:
    """Whether there was no space when last tried."""

    full: bool = False

    @contextmanager
    def tried(self) -> Iterator[None]:
        """Contain the want of space in the block: it is to be tried again. Other errors pass."""
        try:
            yield
        except (NoSpace, OSError, sqlite3.Error) as error:
            if not isinstance(error, NoSpace) and not is_no_space(error):
                raise
            if not self.full:
                log(EVENT, "no space left on the disk: waits, and goes on when there is", {})
            self.full = True
        else:
            if self.full:
                log(EVENT, "there is space again", {"ended": True})
            self.full = False
