"""Audit messages of a hospital (`atna`) are sent beside the work, which never waits for them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field

from prometheus_client import CollectorRegistry, Gauge

from flows.runtime.background import every
from flows.runtime.progress import log
from pipeline.pacs.messages.atna_trail import AtnaTrail
from pipeline.pacs.settings.hospital import Pacs
from pipeline.pacs.work.ledger import Ledger


@dataclass
class AuditSender:
    """Sends what waits; logs a fault once for each kind in a row, and when it is over."""

    settings: Pacs
    _fault: str = field(default="")

    def look(self) -> None:
        """Look for readers' decisions, and send the messages that wait."""
        trail = AtnaTrail(self.settings)
        if trail.spool is None or not self.settings.work.is_dir():
            return
        with closing(Ledger(self.settings.work)) as ledger:
            trail.look_at_reviews(ledger)
        try:
            sent = trail.spool.send()
        except Exception as error:  # whatever the network or the server does, the work goes on
            self._note(type(error).__name__, len(trail.spool.waiting()))
            return
        if self._fault:
            log("audit", f"audit messages are sent again: {sent}", {"sent": sent})
        self._fault = ""

    def _note(self, fault: str, waiting: int) -> None:
        if fault != self._fault:
            facts = {"error": fault, "waiting": waiting}
            log("audit_failed", f"{waiting} audit messages wait: {fault}; tried again", facts)
        self._fault = fault


@contextmanager
def auditing(
    settings: Pacs, registry: CollectorRegistry | None = None, part: str = ""
) -> Iterator[None]:
    """Send audit messages again and again while the block lasts, and at its end.

    part: the command of a part whose start and stop are audited too; "" for what is none.
    """
    if settings.atna is None:
        yield
        return
    if registry is not None:
        gauge = Gauge("ldct_audit_waiting", "Audit messages not yet sent.", registry=registry)
        gauge.set_function(lambda: float(_waiting(settings)))
    sender, trail = AuditSender(settings), AtnaTrail(settings)
    with every(settings.atna.send_s, sender.look, name="audit"):
        if part:
            _note(trail.started, part)
        try:
            yield
        finally:
            if part:
                _note(trail.stopped, part)
    audit_once(sender)


def _note(happened: Callable[[str], None], part: str) -> None:
    """A part starts and stops also where there is no space to keep the message; that is logged."""
    try:
        happened(part)
    except OSError as error:
        kind = type(error).__name__
        log("audit_failed", f"start or stop of {part} not audited: {kind}", {"error": kind})


def audit_once(sender: AuditSender) -> None:
    """One look, whatever it raises: at the end of a command or a job."""
    try:
        sender.look()
    except Exception as error:
        kind = type(error).__name__
        log("background", f"audit: {kind}", {"of": "audit", "error": kind})


def _waiting(settings: Pacs) -> int:
    spool = AtnaTrail(settings).spool
    return len(spool.waiting()) if spool else 0
