"""Prefect's temporary server, started while the rest is still being imported.

Where no API is configured, Prefect starts a server of its own for the first flow, and imports
all of it here besides to do so: 10 seconds before any work is done. A server that is started
first, in a process of its own, is ready by the time it is needed.
"""

from __future__ import annotations

import atexit
import functools
from collections.abc import Iterator
from contextlib import contextmanager

from prefect.settings import (
    PREFECT_API_AUTH_STRING,
    PREFECT_API_URL,
    get_current_settings,
    temporary_settings,
)

from flows.runtime.prefect_server import PrefectServer, free_port

HOST = "127.0.0.1"
#: Services for deployments and schedules, of which a flow that is called here has none.
UNUSED_SERVICES = (
    "CANCELLATION_CLEANUP",
    "CLEANUP_RECONCILER",
    "FOREMAN",
    "LATE_RUNS",
    "PAUSE_EXPIRATIONS",
    "REPOSSESSOR",
    "SCHEDULER",
)
SETTINGS = {
    "PREFECT_SERVER_UI_ENABLED": "false",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_SERVER_LOGGING_LEVEL": "CRITICAL",
    **{f"PREFECT_SERVER_SERVICES_{name}_ENABLED": "false" for name in UNUSED_SERVICES},
}


def start() -> None:
    """Start the temporary server, unless an API is configured; it ends with this process."""
    settings = get_current_settings()
    if PREFECT_API_URL.value() is None and settings.server.ephemeral.enabled:
        _server()


@contextmanager
def connected() -> Iterator[None]:
    """Flows within find the server that was started; without one, Prefect starts its own."""
    timeout_s = get_current_settings().server.ephemeral.startup_timeout_seconds
    if not _server.cache_info().currsize or not _server().wait_until_ready(timeout_s):
        yield
        return
    found = {PREFECT_API_URL: _server().api_url, PREFECT_API_AUTH_STRING: _server().auth}
    with temporary_settings(found):
        yield


@functools.cache
def _server() -> PrefectServer:
    server = PrefectServer.start(HOST, free_port(HOST), SETTINGS)
    atexit.register(server.stop)
    return server
