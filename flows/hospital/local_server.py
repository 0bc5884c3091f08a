"""The Prefect server that `ldct schedule` starts where none is configured, and who may speak to it.

Whoever may change a deployment runs code as this user. So the server listens on a free port of
loopback, and asks every request for a secret that is drawn at each start. Both stand in a file
that only its owner reads, where `ldct status` and a second `ldct schedule` find them.
"""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
from prefect.settings import PREFECT_API_AUTH_STRING, PREFECT_API_URL, PREFECT_HOME

from flows.runtime.prefect_server import PrefectServer, free_port
from pipeline.core.atomic_files import replacing
from pipeline.core.errors import LdctError

HOST = "127.0.0.1"
_START_S = 180
_TIMEOUT_S = 2


@dataclass(frozen=True)
class Api:
    """Where a Prefect server is, and what it asks clients for, "" for nothing.

    process: of a server that was started by this process.
    """

    url: str
    auth: str = field(default="", repr=False)
    process: subprocess.Popen[bytes] | None = field(default=None, repr=False, compare=False)

    @property
    def settings(self) -> dict[Any, str]:
        """For prefect.settings.temporary_settings."""
        asked = {PREFECT_API_AUTH_STRING: self.auth} if self.auth else {}
        return {PREFECT_API_URL: self.url, **asked}

    @property
    def has_ended(self) -> bool:
        """Whether it was started by this process, and is no more."""
        return self.process is not None and self.process.poll() is not None

    @property
    def ending(self) -> str:
        """How it ended, in words."""
        code = self.process.poll() if self.process else None
        return f"by {signal.Signals(-code).name}" if code and code < 0 else f"exit code {code}"

    def answers(self) -> bool:
        """Whether a server is there that takes these credentials."""
        user, _, password = self.auth.partition(":")
        auth = httpx.BasicAuth(user, password) if self.auth else None
        try:
            # `health` answers strangers too.
            return httpx.get(f"{self.url}/version", auth=auth, timeout=_TIMEOUT_S).is_success
        except httpx.HTTPError:
            return False


def configured() -> Api | None:
    """The server of PREFECT_API_URL, if that is set."""
    url = PREFECT_API_URL.value()
    if not url:
        return None
    return Api(url, PREFECT_API_AUTH_STRING.value() or "")


def running() -> Api | None:
    """The configured server, or the one that `ldct schedule` runs here, where it answers."""
    api = configured() or _noted()
    return api if api and api.answers() else None


@contextmanager
def started() -> Iterator[Api]:
    """A server of our own while the block lasts. Raises LdctError where it does not start."""
    server = PrefectServer.start(HOST, free_port(HOST))
    api = Api(server.api_url, server.auth, server.process)
    try:
        if not server.wait_until_ready(_START_S):
            raise LdctError("the Prefect server did not start; try `prefect server start`")
        _note(api)
        yield api
    finally:
        server.stop()
        if _noted() == api:
            _note_path().unlink(missing_ok=True)


def _note_path() -> Path:
    return Path(PREFECT_HOME.value()) / "ldct-schedule-server.json"


def _note(api: Api) -> None:
    with replacing(_note_path()) as partial:
        # Private from the first moment on.
        handle = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "w", encoding="utf-8") as stream:
            json.dump({"url": api.url, "auth": api.auth}, stream)


def _noted() -> Api | None:
    """From the file; None where there is none, or another user could have written it."""
    path = _note_path()
    try:
        about = path.stat()
        if about.st_uid != os.getuid() or about.st_mode & (stat.S_IRWXG | stat.S_IRWXO):
            return None
        found = json.loads(path.read_text(encoding="utf-8"))
        return Api(str(found["url"]), str(found["auth"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None
