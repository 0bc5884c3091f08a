"""A DICOM association that outlasts a request, so that a study's series share one.

A PACS may take the end of an association for the end of a study, and opening one takes a tenth of
a second and more.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from pynetdicom.association import Association
from pynetdicom.presentation import PresentationContext

#: Released after so long without use: less than what a PACS waits before it aborts.
IDLE_S = 15.0
_Open = Callable[[list[PresentationContext]], Association]


class KeptAssociation:
    """At most one association, of one study; used by one thread, released by a timer."""

    def __init__(self, idle_s: float = IDLE_S) -> None:
        self._idle_s = idle_s
        self._lock = threading.Lock()
        self._association: Association | None = None
        self._study = ""
        self._proposed: set[tuple[str, str]] = set()
        self._timer: threading.Timer | None = None

    @property
    def association(self) -> Association:
        """The association of the block that is under way."""
        assert self._association is not None
        return self._association

    @contextmanager
    def used(
        self, study_uid: str, contexts: list[PresentationContext], open_: _Open
    ) -> Iterator[None]:
        """Hold an association with these presentation contexts, kept or new, during the block.

        An error in the block aborts it. Raises what `open_` raises.
        """
        with self._lock:
            self._take(study_uid, contexts, open_)
            try:
                yield
            except BaseException:
                self._end(Association.abort)
                raise
            self._timer = threading.Timer(self._idle_s, self.release)
            self._timer.daemon = True
            self._timer.start()

    def release(self) -> None:
        """Release it, unless it is in use or there is none."""
        if self._lock.acquire(blocking=False):
            try:
                self._end(Association.release)
            finally:
                self._lock.release()

    def _take(self, study_uid: str, contexts: list[PresentationContext], open_: _Open) -> None:
        proposed = {(str(c.abstract_syntax), str(s)) for c in contexts for s in c.transfer_syntax}
        kept = self._association
        usable = kept is not None and kept.is_established
        if usable and study_uid == self._study and proposed <= self._proposed:
            self._stop_timer()
            return
        self._end(Association.release)
        self._association = open_(contexts)
        self._study, self._proposed = study_uid, proposed

    def _end(self, how: Callable[[Association], None]) -> None:
        self._stop_timer()
        association, self._association = self._association, None
        if association is not None and association.is_established:
            how(association)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
