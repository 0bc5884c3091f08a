"""Alerts of what needs a person: sent once for each condition, and again when it has changed.

No message identifies a patient: it names work by its id. What was sent is noted in the work folder,
so that of several processes one sends. A message that cannot be sent is logged, and tried again;
the work goes on.
"""

from __future__ import annotations

import hashlib
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from prometheus_client import CollectorRegistry, Counter

from flows.hospital.alert_record import Sent, SentAlerts
from flows.runtime.background import every
from flows.runtime.progress import log
from pipeline.core.atomic_files import locked
from pipeline.pacs.messages.alert_channels import channels, send
from pipeline.pacs.settings.alerts import Alerts
from pipeline.pacs.settings.hospital import Pacs
from pipeline.pacs.work.folder import WorkFolder
from pipeline.pacs.work.item import State
from pipeline.pacs.work.ledger import Ledger

#: How many ids a message lists.
MAX_IDS = 20
_WHAT = {
    "dead": "{} series failed for good: `ldct status`, then `ldct retry`",
    "held": "{} series are unlike the model's training data and held: `ldct pacs release`",
    "unmatched": "{} received series match no rule: look at `unmatched` in the work folder",
    "failed": "a run failed, or none ended well: `ldct status`, and the log's event `job`",
}


@dataclass(frozen=True)
class Condition:
    """Something that a person should know of, while it has items.

    kind: see Alerts.of. of: the job, of a failed one. shown: items that a message may list.
    """

    kind: str
    items: tuple[str, ...]
    of: str = ""
    shown: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """As messages and the note of what was sent have it."""
        return f"{self.kind} {self.of}".strip()

    @property
    def digest(self) -> str:
        """Of its items, whatever their order; "" without any."""
        joined = "\0".join(sorted(self.items)).encode()
        return hashlib.sha256(joined).hexdigest() if self.items else ""

    @property
    def line(self) -> str:
        """What a message says of it."""
        if not self.items:
            return f"{self.name}: over"
        return f"{self.name}: {_WHAT[self.kind].format(len(self.items))}"


def failed_job(job: str, failed: datetime | None) -> Condition:
    """Of a job whose last run failed then, or ended well: news once a day, how often it may run."""
    days = (failed.astimezone(UTC).date().isoformat(),) if failed else ()
    return Condition("failed", days, job, days)


def ledger_conditions(work: Path) -> list[Condition]:
    """What the ledger and the work folder say. Raises ConfigError and sqlite3.Error."""
    with closing(Ledger(work)) as ledger:
        found = {
            state: tuple(w.id for w in ledger.all(state)) for state in (State.DEAD, State.HELD)
        }
    unmatched = tuple(path.name for path in WorkFolder(work).unmatched.glob("*") if path.is_dir())
    listed = [Condition(str(state), ids, shown=ids) for state, ids in found.items()]
    return [*listed, Condition("unmatched", unmatched)]


@dataclass
class AlertWatch:
    """Looks at the conditions of a hospital, and sends what is new of them.

    more: further conditions, of jobs. failures: counts messages that could not be sent.
    """

    settings: Pacs
    more: Callable[[], list[Condition]] = list
    failures: Counter | None = None
    _faults: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._sent = SentAlerts(self.settings.work)

    def look(self) -> None:
        """Send what has changed by each channel. Raises what reading the conditions raises."""
        alerts = self.settings.alerts
        if alerts is None or not self.settings.work.is_dir():
            return
        conditions = [*ledger_conditions(self.settings.work), *self.more()]
        wanted = [condition for condition in conditions if condition.kind in alerts.of]
        with locked(self.settings.work):
            self._sent.refresh()
            for channel in channels(alerts):
                self._inform(alerts, channel, wanted)

    def _inform(self, alerts: Alerts, channel: str, conditions: list[Condition]) -> None:
        changed = [
            each
            for each in conditions
            if _is_due(self._sent.get(channel, each.name), each, alerts.gather_s)
        ]
        if not changed:
            return
        try:
            send(alerts, channel, _subject(alerts, changed), _text(changed))
        except Exception as error:  # whatever a server answers, the work goes on
            self._note_failure(channel, type(error).__name__)
            return
        self._faults.pop(channel, None)
        names = [each.name for each in changed]
        log("alert", f"alert by {channel}: {', '.join(names)}", {"by": channel, "of": names})
        at = time.time()
        self._sent.add(channel, {each.name: Sent(each.digest, at) for each in changed})

    def _note_failure(self, channel: str, fault: str) -> None:
        if self.failures is not None:
            self.failures.labels(channel).inc()
        if self._faults.get(channel) != fault:  # once, not at every look
            facts = {"by": channel, "error": fault}
            log("alert_failed", f"no alert by {channel}: {fault}; it is tried again", facts)
        self._faults[channel] = fault


@contextmanager
def alerting(
    settings: Pacs,
    registry: CollectorRegistry,
    more: Callable[[], list[Condition]] = list,
) -> Iterator[None]:
    """Look at the conditions again and again while the block lasts, and at its end."""
    failures = Counter(
        "ldct_alerts_failed", "Alerts that could not be sent.", ["channel"], registry=registry
    )
    if settings.alerts is None:
        yield
        return
    for channel in channels(settings.alerts):
        failures.labels(channel)
    watch = AlertWatch(settings, more, failures)
    with every(settings.alerts.look_s, watch.look, name="alerts"):
        yield
    look_once(watch)


def look_once(watch: AlertWatch) -> None:
    """One look, whatever it raises: at the end of a command or a job."""
    try:
        watch.look()
    except Exception as error:
        kind = type(error).__name__
        log("background", f"alerts: {kind}", {"of": "alerts", "error": kind})


def send_test(alerts: Alerts, channel: str) -> None:
    """Send a message that says that alerts arrive. Raises what `send` raises."""
    site = alerts.site or socket.gethostname()
    send(alerts, channel, f"[ldct {site}] test", "This is a test: alerts of ldct arrive here.\n")


def _is_due(sent: Sent | None, now: Condition, gather_s: float) -> bool:
    if sent is None:
        return bool(now.items)
    return sent.digest != now.digest and time.time() - sent.at >= gather_s


def _subject(alerts: Alerts, changed: list[Condition]) -> str:
    site = alerts.site or socket.gethostname()
    return f"[ldct {site}] {', '.join(each.name for each in changed)}"


def _text(changed: list[Condition]) -> str:
    parts = []
    for each in changed:
        more = len(each.shown) - MAX_IDS
        rest = [f"  and {more} more"] if more > 0 else []
        parts.append("\n".join([each.line, *(f"  {name}" for name in each.shown[:MAX_IDS]), *rest]))
    return "\n\n".join(parts) + "\n"
