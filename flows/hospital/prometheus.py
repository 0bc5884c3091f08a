"""What Prometheus scrapes and a watchdog asks: counts and times, of nobody in particular.

The gauges are read from the ledger at each scrape, so that they are the same whichever worker is
asked. The times are of the worker that is asked.
"""

from __future__ import annotations

import json
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from flows.runtime.progress import log
from pipeline.core.errors import ConfigError
from pipeline.pacs.hospital_config import Pacs
from pipeline.pacs.ledger import FILE, Ledger
from pipeline.pacs.work_item import OPEN, State, WorkItem

#: Whoever scrapes runs on this computer, or behind a proxy on it.
HOST = "127.0.0.1"
#: A worker that has neither looked for work nor ended a step for so long hangs.
SILENCE_S = 3600.0
_STEPS = {State.HERE: "retrieve", State.DERIVED: "derive", State.SENT: "send"}
_BUCKETS = (0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0, 3000.0)
OnStep = Callable[[WorkItem], None]
Looks = Callable[[], None]


class LedgerFigures(Collector):
    """The gauges of a ledger."""

    def __init__(self, work: Path) -> None:
        self.work = work

    def collect(self) -> Iterator[GaugeMetricFamily]:
        with closing(Ledger(self.work)) as ledger:
            counts, now = ledger.counts(), ledger.now()
        series = GaugeMetricFamily("ldct_series", "Series in the ledger.", labels=["state"])
        for state, number in counts.items():
            series.add_metric([state], number)
        yield series
        for name, (told, figure) in self._figures(now).items():
            yield GaugeMetricFamily(name, told, value=figure)

    def _figures(self, now: float) -> dict[str, tuple[str, float]]:
        is_open = f"state IN ({', '.join(repr(str(state)) for state in OPEN)})"
        with closing(sqlite3.connect(f"file:{self.work / FILE}?mode=ro", uri=True)) as database:

            def ask(what: str, *values: float) -> float:
                return float(database.execute(f"SELECT {what}", values).fetchone()[0] or 0)

            due = f"FROM work WHERE {is_open} AND due <= ?"
            oldest = ask(f"min(due) {due}", now)
            sent = "count(*) FROM work WHERE state = 'sent' AND changed > ?"
            return {
                "ldct_queue": ("Series with a step that is due.", ask(f"count(*) {due}", now)),
                "ldct_queue_wait_seconds": (
                    "How long the step that is due longest has waited.",
                    now - oldest if oldest else 0.0,
                ),
                "ldct_failing": (
                    "Series that wait for another attempt after a failure.",
                    ask(f"count(*) FROM work WHERE {is_open} AND failures > 0"),
                ),
                "ldct_series_per_hour": (
                    "Series that were sent in the last hour.",
                    ask(sent, now - 3600),
                ),
            }


@dataclass
class WorkerMetrics:
    """A worker's own figures, and its pulse."""

    settings: Pacs
    registry: CollectorRegistry = field(default_factory=CollectorRegistry)

    def __post_init__(self) -> None:
        self.registry.register(LedgerFigures(self.settings.work))
        self.seconds = Histogram(
            "ldct_step_seconds",
            "Of steps that this worker did.",
            ["step"],
            buckets=_BUCKETS,
            registry=self.registry,
        )
        self.failures = Counter(
            "ldct_failures", "Steps of this worker that failed.", ["state"], registry=self.registry
        )
        self.begun = self.seen = time.monotonic()

    def looked(self) -> None:
        """The worker looks for work from now on."""
        self.begun = self.seen = time.monotonic()

    def done(self, work: WorkItem) -> None:
        """A step has ended."""
        now = time.monotonic()
        if work.state in _STEPS and not work.failures:
            self.seconds.labels(_STEPS[work.state]).observe(now - self.begun)
        if work.failures or work.state is State.DEAD:
            self.failures.labels(str(work.state)).inc()
        self.begun = self.seen = now

    def health(self) -> tuple[bool, dict[str, object]]:
        """Whether the ledger can be read and the worker is alive."""
        silent_s = time.monotonic() - self.seen
        try:
            with closing(Ledger(self.settings.work)) as ledger:
                ledger.counts()
        except (ConfigError, sqlite3.Error) as error:
            return False, {"ledger": type(error).__name__, "silent_s": round(silent_s)}
        return silent_s < SILENCE_S, {"ledger": "ok", "silent_s": round(silent_s)}


@contextmanager
def served(watch: WorkerMetrics, port: int) -> Iterator[ThreadingHTTPServer]:
    """/metrics and /health on loopback while the block lasts; port 0 takes any that is free."""
    try:
        server = ThreadingHTTPServer((HOST, port), _handler(watch))
    except OSError as error:
        raise ConfigError(f"--metrics {port}: {error.strerror}") from error
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()


@contextmanager
def watched(settings: Pacs, port: int | None, tell: OnStep) -> Iterator[tuple[OnStep, Looks]]:
    """What a worker is to call, served on the port if there is one."""
    if port is None:
        yield tell, lambda: None
        return
    watch = WorkerMetrics(settings)

    def done(work: WorkItem) -> None:
        watch.done(work)
        tell(work)

    with served(watch, port) as server:
        where = f"http://{HOST}:{server.server_port}"
        log("serving", f"{where}/metrics and {where}/health", {"port": server.server_port})
        yield done, watch.looked


def _handler(watch: WorkerMetrics) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path == "/metrics":
                self._answer(200, "text/plain; version=0.0.4", generate_latest(watch.registry))
            elif self.path == "/health":
                well, facts = watch.health()
                self._answer(200 if well else 503, "application/json", json.dumps(facts).encode())
            else:
                self._answer(404, "text/plain", b"/metrics and /health\n")

        def _answer(self, code: int, kind: str, body: bytes) -> None:
            self.send_response(code)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """A scrape every few seconds is no news."""

    return Handler
