"""Logins in the audit log: who came and went, and, within bounds, who was refused."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

from pipeline.core.types import Json
from pipeline.review.access.roles import Identity

#: A refusal for one reason is written at most so often: a stranger can cause them without end.
REFUSED_EVERY_S = 60.0
#: Reasons that are remembered; most name nothing but the kind of fault.
MOST_REASONS = 1000
#: Of a subject identifier (OpenID Connect Core 1.0, section 2: at most 255 ASCII characters).
SUBJECT_LENGTH = 255

Record = Callable[[Json], Any]


class LoginRecord:
    """Writes logins. record: adds an act to the audit log."""

    def __init__(self, record: Record, now: Callable[[], float] = time.monotonic) -> None:
        self._record, self._now = record, now
        self._last_s: dict[str, float] = {}
        self._unwritten: dict[str, int] = {}
        self._lock = threading.Lock()

    def logged_in(self, identity: Identity, claims: Mapping[str, Any], address: str) -> None:
        """With the subject: the one thing in a login that stays with an account for good
        (section 5.7); a name may be changed, or given to somebody else later. address: of the
        computer that asks, "" where that is not known."""
        self._record(
            {
                "act": "logged in",
                "reader": identity.reader,
                "roles": sorted(identity.roles),
                "subject": str(claims.get("sub", ""))[:SUBJECT_LENGTH],
                "login": identity.login,
                "address": address,
            }
        )

    def logged_out(self, identity: Identity, address: str) -> None:
        """By the button, or by another login in the same browser."""
        self._record({"act": "logged out", "reader": identity.reader, "address": address})

    def refused(self, reason: str) -> None:
        """times: how often for this reason since it was last written, with this one."""
        with self._lock:
            times = self._unwritten.get(reason, 0) + 1
            if self._now() - self._last_s.get(reason, float("-inf")) < REFUSED_EVERY_S:
                self._unwritten[reason] = times
                return
            if len(self._last_s) >= MOST_REASONS:
                self._last_s.clear()
                self._unwritten.clear()
            self._last_s[reason] = self._now()
            self._unwritten.pop(reason, None)
        self._record({"act": "login refused", "reason": reason, "times": times})
