"""Figures of the ledger, which every part gives, and of a worker: counts and times, no identity.

The gauges are read from the ledger at each scrape, so that every part gives the same. The
duration and failure figures are of the worker that is scraped.
"""

from __future__ import annotations

import shutil
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from dataclasses import dataclass, field
from pathlib import Path

from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from flows.hospital.watched import Health, Part
from pipeline.core.errors import ConfigError
from pipeline.pacs.settings.hospital import Pacs, Priority
from pipeline.pacs.work.folder import WorkFolder
from pipeline.pacs.work.item import AWAITS_COMMITMENT, OPEN, State, WorkItem
from pipeline.pacs.work.ledger import Ledger
from pipeline.pacs.work.ledger_file import FILE

#: A worker that has neither polled the ledger nor ended a step for so long is taken to hang.
MAX_SILENCE_S = 3600.0
_STEPS = {State.HERE: "retrieve", State.DERIVED: "derive", State.SENT: "send"}
_BUCKETS = (0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0, 3000.0)
OnStep = Callable[[WorkItem], None]
OnPoll = Callable[[], None]


class LedgerFigures(Collector):
    """The gauges of the ledger in a work folder; none where it cannot be read."""

    def __init__(self, work: Path) -> None:
        self.work = work

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Read all gauges from the ledger (prometheus_client calls this at each scrape)."""
        with suppress(ConfigError, sqlite3.Error, OSError):
            yield from list(self._read())

    def _read(self) -> Iterator[GaugeMetricFamily]:
        with closing(Ledger(self.work)) as ledger:
            counts, now = ledger.counts(), ledger.now()
        series = GaugeMetricFamily("ldct_series", "Series in the ledger.", labels=["state"])
        for state, number in counts.items():
            series.add_metric([state], number)
        yield series
        yield self._undelivered()
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

    def _undelivered(self) -> GaugeMetricFamily:
        """Of each destination with a name: results that it has not, and is to have."""
        gauge = GaugeMetricFamily(
            "ldct_undelivered", "Results that a destination lacks.", labels=["destination"]
        )
        with closing(sqlite3.connect(f"file:{self.work / FILE}?mode=ro", uri=True)) as database:
            known = database.execute(
                "SELECT DISTINCT destination FROM delivery WHERE destination != ''"
            ).fetchall()
            lacking = database.execute(
                "SELECT destination, count(*) FROM work JOIN delivery ON work.id = delivery.work"
                " WHERE work.state IN ('derived', 'dead') AND delivery.state != 'sent'"
                " GROUP BY destination"
            ).fetchall()
        for (destination,) in known:
            gauge.add_metric([destination], dict(lacking).get(destination, 0))
        return gauge

    def _gauges(self, now: float) -> dict[str, tuple[str, float]]:
        is_open = f"state IN ({', '.join(repr(str(state)) for state in OPEN)})"
        priorities = ", ".join(str(int(each)) for each in Priority)  # for the index work_order
        with closing(sqlite3.connect(f"file:{self.work / FILE}?mode=ro", uri=True)) as database:

            def query(expression: str, *values: float) -> float:
                return float(database.execute(f"SELECT {expression}", values).fetchone()[0] or 0)

            due = f"FROM work WHERE priority IN ({priorities}) AND {is_open} AND due <= ?"
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
class WorkerMetrics(Part):
    """A worker's own durations and failures, and when it last polled or ended a step."""

    settings: Pacs
    name: str = "work"
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
        failed = work.failures and AWAITS_COMMITMENT not in work.note
        if failed or work.state is State.DEAD:
            self.failures.labels(str(work.state)).inc()
        self._step_began = self._last_alive = now

    def health(self) -> Health:
        """Whether the ledger can be read and the worker is alive."""
        silent_s = time.monotonic() - self._last_alive
        ledger = ledger_fault(self.settings.work)
        facts: dict[str, object] = {"ledger": ledger or "ok", "silent_s": round(silent_s)}
        return Health(not ledger and silent_s < MAX_SILENCE_S, facts)


def ledger_fault(work: Path) -> str:
    """Why the ledger of a work folder cannot be read, as the type of an error; "" where it can."""
    try:
        with closing(Ledger(work)) as ledger:
            ledger.counts()
    except (ConfigError, sqlite3.Error, OSError) as error:
        return type(error).__name__
    return ""
