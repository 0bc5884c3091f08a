"""A Prefect server in a process of its own, by `prefect server start`, that ends with this one.

It answers only with a secret that is drawn at its start: other users of the computer, and web
pages that a browser on it shows, can reach a port of loopback too.
"""

from __future__ import annotations

import http.client
import os
import secrets
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from flows.runtime import run_with_parent

#: Keeps who holds which concurrency slot, and until when, in `concurrency_leases` of PREFECT_HOME.
LEASES = "prefect.server.concurrency.lease_storage.filesystem"


@dataclass(frozen=True)
class PrefectServer:
    """A server that was started, on this computer; it may not answer yet.

    auth: what clients need as PREFECT_API_AUTH_STRING.
    """

    process: subprocess.Popen[bytes]
    host: str
    port: int
    auth: str = field(repr=False)

    @classmethod
    def start(
        cls, host: str, port: int, settings: Mapping[str, str] | None = None
    ) -> PrefectServer:
        """Start a server; returns at once. settings: PREFECT_* variables of it alone."""
        command = ["prefect", "server", "start", "--host", host, "--port", str(port)]
        auth = f"ldct:{secrets.token_urlsafe(32)}"
        asked = {
            "PREFECT_SERVER_API_AUTH_STRING": auth,
            "PREFECT_SERVER_CORS_ALLOWED_ORIGINS": f"http://{host}:{port}",
            # In memory, who holds what is forgotten at the end, and a slot is held for ever.
            "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE": LEASES,
        }
        script = str(Path(run_with_parent.__file__).absolute())
        process = subprocess.Popen(
            # -P: modules in the working folder must not take the place of Python's own.
            [sys.executable, "-P", script, str(os.getpid()), *command],
            env={**os.environ, **(settings or {}), **asked},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        return cls(process, host, port, auth)

    @property
    def api_url(self) -> str:
        """What PREFECT_API_URL is to be for clients of this server."""
        return f"http://{self.host}:{self.port}/api"

    def wait_until_ready(self, timeout_s: float) -> bool:
        """Wait for the first answer. False where the server died or the time is up."""
        latest = time.monotonic() + timeout_s
        while self.process.poll() is None and time.monotonic() < latest:
            if self._answers():
                return True
            time.sleep(0.05)
        return False

    def stop(self) -> None:
        """End the server, by force after 5 seconds."""
        self.process.terminate()
        try:
            self.process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def _answers(self) -> bool:
        connection = http.client.HTTPConnection(self.host, self.port, timeout=5)
        try:
            connection.request("GET", "/api/health")
            return connection.getresponse().status == http.HTTPStatus.OK
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()


def free_port(host: str) -> int:
    """A port on which nothing listens now."""
    with socket.socket() as free:
        free.bind((host, 0))
        return int(free.getsockname()[1])
