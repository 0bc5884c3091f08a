"""/metrics for Prometheus and /health for a watchdog, of each long-running part.

No answer identifies a patient. systemd learns by its own protocol what /health says: a part that
hangs is started again.
"""

from __future__ import annotations

import json
import signal
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Protocol

from prometheus_client import CollectorRegistry, Gauge, generate_latest

from flows.runtime.background import every
from flows.runtime.progress import log
from flows.runtime.systemd import notify, watchdog_s
from pipeline.core.errors import ConfigError

#: Prometheus runs on this computer, or asks through a proxy on it, unless a host is given.
LOOPBACK = "127.0.0.1"
#: How often a part looks at its own health.
LOOK_S = 15.0


@dataclass(frozen=True)
class Health:
    """Whether a part works, and what of it is known."""

    well: bool
    facts: dict[str, object]


class Part(Protocol):
    """A part that runs for ever. name: its command. registry: its figures."""

    name: str
    registry: CollectorRegistry

    def health(self) -> Health:
        """Whether it works; what hangs or cannot do its work does not."""


@contextmanager
def watched(part: Part, address: str | None) -> Iterator[None]:
    """While the block lasts, answer at `address` (PORT or HOST:PORT; None: nowhere), log when the
    part's health changes, say so to systemd, and end in good order at SIGTERM, by SystemExit.

    Raises ConfigError where the address is none, or cannot be listened on.
    """
    with ExitStack() as stack:
        stack.enter_context(ended_by_sigterm())
        if address is not None:
            server = stack.enter_context(serve_part(part, address))
            url = f"http://{server.server_address[0]!s}:{server.server_port}"
            facts = {"part": part.name, "port": server.server_port}
            log("serving", f"{url}/metrics and {url}/health", facts)
        notify("READY=1")
        look_s = min(LOOK_S, (watchdog_s() or LOOK_S * 2) / 2)
        stack.enter_context(every(look_s, _Look(part), name="health"))
        try:
            yield
        finally:
            notify("STOPPING=1")


@contextmanager
def serve_part(part: Part, address: str) -> Iterator[ThreadingHTTPServer]:
    """Serve /metrics and /health while the block lasts; port 0 takes a free one.

    Raises ConfigError where the address is none, or cannot be listened on.
    """
    healthy = Gauge("ldct_healthy", "1 while /health says so.", ["part"], registry=part.registry)
    healthy.labels(part.name).set_function(lambda: float(part.health().well))
    try:
        server = _Server(_host_and_port(address), _handler(part))
    except OSError as error:
        raise ConfigError(f"--metrics {address}: {error.strerror}") from error
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()


@contextmanager
def ended_by_sigterm() -> Iterator[None]:
    """systemd and Docker end a service by SIGTERM: what was under way is undone, as at Ctrl+C."""

    def end(*_: object) -> None:
        raise SystemExit(0)

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@dataclass
class _Look:
    """Looks at a part's health, and says what became of it."""

    part: Part
    _was_well: bool = field(default=True)

    def __call__(self) -> None:
        health = self.part.health()
        if health.well != self._was_well:
            message = "works again" if health.well else "does not work"
            facts = {"part": self.part.name, "well": health.well, **health.facts}
            log("health", f"{self.part.name} {message}: {health.facts}", facts)
        self._was_well = health.well
        if health.well:
            notify("WATCHDOG=1")


def _host_and_port(address: str) -> tuple[str, int]:
    host, _, port = address.rpartition(":")
    if not port.isdigit() or int(port) > 65535:
        raise ConfigError(f"--metrics {address}: give PORT, or HOST:PORT")
    return host or LOOPBACK, int(port)


class _Server(ThreadingHTTPServer):
    """A request that fails is one line of the log, without its words."""

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that hung up, most of all."""
        log("request", "a request for /metrics or /health failed", {})


def _handler(part: Part) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        """Answers /metrics and /health."""

        timeout = 10  # of a client that says nothing

        def do_GET(self) -> None:
            """Answer by path; 503 where the part is not well, 404 for other paths."""
            if self.path == "/metrics":
                self._answer(200, "text/plain; version=0.0.4", generate_latest(part.registry))
            elif self.path == "/health":
                health = part.health()
                body = json.dumps(health.facts).encode()
                self._answer(200 if health.well else 503, "application/json", body)
            else:
                self._answer(404, "text/plain", b"/metrics and /health\n")

        def _answer(self, code: int, kind: str, body: bytes) -> None:
            self.send_response(code)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Do not log: there is a request every few seconds."""

    return Handler
