"""Logins that last: a random cookie for each, in this process's memory."""

from __future__ import annotations

import hashlib
import secrets
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from pipeline.review.access.roles import Identity
from pipeline.review.access.settings import Session

#: Logins that are kept; the one unused for longest goes first.
MOST = 1000


@dataclass
class _Login:
    identity: Identity
    began_s: float
    used_s: float


class Sessions:
    """Who is behind which cookie. The server restarted, everybody logs in again.

    Only digests of the cookies are kept, so that a copy of the memory lets no one in.
    """

    def __init__(self, settings: Session, now: Callable[[], float] = time.monotonic) -> None:
        self.settings, self._now = settings, now
        self._logins: dict[str, _Login] = {}
        self._lock = threading.Lock()

    def begin(self, identity: Identity) -> str:
        """The cookie of a new login: never one that the browser brought along."""
        cookie = secrets.token_urlsafe(32)
        with self._lock:
            self._forget_old()
            while len(self._logins) >= MOST:
                self._logins.pop(min(self._logins, key=lambda each: self._logins[each].used_s))
            self._logins[_digest(cookie)] = _Login(identity, self._now(), self._now())
        return cookie

    def of(self, cookie: str) -> Identity | None:
        """Who logged in with a cookie, unless that was too long ago."""
        with self._lock:
            self._forget_old()
            login = self._logins.get(_digest(cookie))
            if login is None:
                return None
            login.used_s = self._now()
            return login.identity

    def end(self, cookie: str) -> Identity | None:
        """Log out; who that was."""
        with self._lock:
            login = self._logins.pop(_digest(cookie), None)
        return login.identity if login else None

    def _forget_old(self) -> None:
        now = self._now()
        self._logins = {
            digest: login
            for digest, login in self._logins.items()
            if now - login.used_s < self.settings.idle_s
            and now - login.began_s < self.settings.longest_s
        }


def _digest(cookie: str) -> str:
    return hashlib.sha256(cookie.encode()).hexdigest()
