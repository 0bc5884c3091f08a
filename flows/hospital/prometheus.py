"""/metrics for Prometheus and /health for a watchdog: counts and times, without identity.

The gauges are read from the ledger at each scrape, so that every worker gives the same. The
duration and failure figures are of the worker that is scraped.
"""

from __future__ import annotations

import json
import shutil
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
from pipeline.pacs.ledger import Ledger
from pipeline.pacs.ledger_file import FILE
from pipeline.pacs.work_folder import WorkFolder
from pipeline.pacs.work_item import OPEN, State, WorkItem

#: Prometheus runs on this computer, or asks through a proxy on it.
HOST = "127.0.0.1"
#: A worker that has neither polled the ledger nor ended a step for so long is taken to hang.
MAX_SILENCE_S = 3600.0
_STEPS = {State.HERE: "retrieve", State.DERIVED: "derive", State.SENT: "send"}
_BUCKETS = (0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0, 3000.0)
OnStep = Callable[[WorkItem], None]
OnPoll = Callable[[], None]


class LedgerFigures(Collector):
    """The gauges of the ledger in a work folder."""

    def __init__(self, work: Path) -> None:
        self.work = work

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Read all gauges from the ledger (prometheus_client calls this at each scrape)."""
        with closing(Ledger(self.work)) as ledger:
            counts, now = ledger.counts(), ledger.now()
        series = GaugeMetricFamily("ldct_series", "Series in the ledger.", labels=["state"])
        for state, number in counts.items():
            series.add_metric([state], number)
        yield series
        gauges = {
            **self._gauges(now),
            "ldct_unmatched": (
                "Received series that match no rule.",
                float(WorkFolder(self.work).unmatched_count()),
            ),
            "ldct_disk_free_bytes": (
                "Space left where the work folder lies.",
                float(shutil.disk_usage(self.work).free),
            ),
        }
        for name, (description, value) in gauges.items():
            yield GaugeMetricFamily(name, description, value=value)

    def _gauges(self, now: float) -> dict[str, tuple[str, float]]:
        is_open = f"state IN ({', '.join(repr(str(state)) for state in OPEN)})"
        with closing(sqlite3.connect(f"file:{self.work / FILE}?mode=ro", uri=True)) as database:

            def query(expression: str, *values: float) -> float:
                return float(database.execute(f"SELECT {expression}", values).fetchone()[0] or 0)

            due = f"FROM work WHERE {is_open} AND due <= ?"
            oldest = query(f"min(due) {due}", now)
            sent = "count(*) FROM work WHERE state = 'sent' AND changed > ?"
            return {
                "ldct_queue": ("Series with a step that is due.", query(f"count(*) {due}", now)),
                "ldct_queue_wait_seconds": (
                    "How long the step that is due longest has waited.",
                    now - oldest if oldest else 0.0,
                ),
                "ldct_failing": (
                    "Series that wait for another attempt after a failure.",
                    query(f"count(*) FROM work WHERE {is_open} AND failures > 0"),
                ),
                "ldct_series_per_hour": (
                    "Series that were sent in the last hour.",
                    query(sent, now - 3600),
                ),
            }


@dataclass
class WorkerMetrics:
    """A worker's own durations and failures, and when it last polled or ended a step."""

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
        self.on_poll()

    def on_poll(self) -> None:
        """The worker polls the ledger now; a step that it finds begins now."""
        self._step_began = self._last_alive = time.monotonic()

    def on_step(self, work: WorkItem) -> None:
        """A step has ended, well or not: count it."""
        now = time.monotonic()
        if work.state in _STEPS and not work.failures:
            self.seconds.labels(_STEPS[work.state]).observe(now - self._step_began)
        if work.failures or work.state is State.DEAD:
            self.failures.labels(str(work.state)).inc()
        self._step_began = self._last_alive = now

    def health(self) -> tuple[bool, dict[str, object]]:
        """Whether the ledger can be read and the worker is alive, and the answer of /health."""
        silent_s = time.monotonic() - self._last_alive
        try:
            with closing(Ledger(self.settings.work)) as ledger:
                ledger.counts()
        except (ConfigError, sqlite3.Error) as error:
            return False, {"ledger": type(error).__name__, "silent_s": round(silent_s)}
        return silent_s < MAX_SILENCE_S, {"ledger": "ok", "silent_s": round(silent_s)}


@contextmanager
def serve_metrics(metrics: WorkerMetrics, port: int) -> Iterator[ThreadingHTTPServer]:
    """Serve /metrics and /health on loopback while the block lasts; port 0 takes a free one.

    Raises ConfigError where the port cannot be listened on.
    """
    try:
        server = ThreadingHTTPServer((HOST, port), _handler(metrics))
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
def worker_callbacks(
    settings: Pacs, port: int | None, on_step: OnStep
) -> Iterator[tuple[OnStep, OnPoll]]:
    """The callbacks for a worker: `on_step`, with metrics served on the port if there is one."""
    if port is None:
        yield on_step, lambda: None
        return
    metrics = WorkerMetrics(settings)

    def on_step_counted(work: WorkItem) -> None:
        metrics.on_step(work)
        on_step(work)

    with serve_metrics(metrics, port) as server:
        url = f"http://{HOST}:{server.server_port}"
        log("serving", f"{url}/metrics and {url}/health", {"port": server.server_port})
        yield on_step_counted, metrics.on_poll


def _handler(metrics: WorkerMetrics) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        """Answers /metrics and /health."""

        def do_GET(self) -> None:
            """Answer by path; 503 where the worker is not well, 404 for other paths."""
            if self.path == "/metrics":
                self._answer(200, "text/plain; version=0.0.4", generate_latest(metrics.registry))
            elif self.path == "/health":
                well, facts = metrics.health()
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
            """Do not log: there is a request every few seconds."""

    return Handler
