"""Prefect's temporary server, started while the rest is still being imported.

Where no API is configured, Prefect starts a server of its own for the first flow, and imports
all of it here besides to do so: 10 seconds before any work is done. The same server, begun
first and in a process of its own, is ready by the time it is needed.
"""

from __future__ import annotations

import atexit
import functools
import http.client
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import prefect
from prefect.settings import PREFECT_API_URL, get_current_settings, temporary_settings

HOST = "127.0.0.1"


@dataclass(frozen=True)
class _Server:
    process: subprocess.Popen[bytes]
    port: int

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.port}/api"

    def is_ready(self) -> bool:
        """Whether it answers, once it does or has died: then Prefect may still start its own."""
        latest = time.monotonic() + get_current_settings().server.ephemeral.startup_timeout_seconds
        while self.process.poll() is None and time.monotonic() < latest:
            connection = http.client.HTTPConnection(HOST, self.port, timeout=5)
            try:
                connection.request("GET", "/api/health")
                if connection.getresponse().status == http.HTTPStatus.OK:
                    return True
            except OSError:
                time.sleep(0.05)
            finally:
                connection.close()
        return False

    def stop(self) -> None:
        self.process.terminate()
        try:
            self.process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def begin() -> None:
    """Start the temporary server, unless an API is configured; it ends with this process."""
    settings = get_current_settings()
    if PREFECT_API_URL.value() is None and settings.server.ephemeral.enabled:
        _server()


@contextmanager
def api() -> Iterator[None]:
    """Flows within find the server that was begun; without one, Prefect does as it always does."""
    if not _server.cache_info().currsize or not _server().is_ready():
        yield
        return
    with temporary_settings({PREFECT_API_URL: _server().url}):
        yield


@functools.cache
def _server() -> _Server:
    with socket.socket() as free:
        free.bind((HOST, 0))
        port = free.getsockname()[1]
    # As prefect.server.api.server.SubprocessASGIServer starts it.
    application = ["--factory", "prefect.server.api.server:create_app", "--lifespan", "on"]
    place = [
        "--app-dir",
        str(Path(prefect.__file__).parents[1]),
        "--host",
        HOST,
        "--port",
        str(port),
    ]
    process = subprocess.Popen(
        [sys.executable, "-m", "uvicorn", *application, *place, "--log-level", "critical"],
        env={
            **os.environ,
            "PREFECT_UI_ENABLED": "0",
            "PREFECT__SERVER_EPHEMERAL": "1",
            "PREFECT__SERVER_FINAL": "1",
            **get_current_settings().to_environment_variables(exclude_unset=True),
        },
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    server = _Server(process, port)
    atexit.register(server.stop)
    return server
