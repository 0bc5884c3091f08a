"""Figures and health of the receiver: what it answered, and whether it still listens and sweeps."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from prometheus_client import CollectorRegistry, Counter, Gauge

from flows.hospital.prometheus import LedgerFigures, ledger_fault
from flows.hospital.watched import Health, Part
from pipeline.pacs.incoming.receiver import SUCCESS
from pipeline.pacs.peers.bounded_server import BoundedServer
from pipeline.pacs.settings.hospital import Pacs

#: The thread that accepts associations looks for one twice a second.
MAX_DEAF_S = 60.0
#: A sweep asks the source, which may be slow, for each study that waits.
MAX_UNSWEPT_S = 3600.0


@dataclass
class ReceiverWatch(Part):
    """What the receiver answered, and when it last listened and swept."""

    settings: Pacs
    name: str = "receive"
    registry: CollectorRegistry = field(default_factory=CollectorRegistry)

    def __post_init__(self) -> None:
        self._server: BoundedServer | None = None
        self.registry.register(LedgerFigures(self.settings.work))
        self.images = Counter(
            "ldct_received_images",
            "C-STORE requests, by the status that was answered (PS3.4 B.2.3).",
            ["status"],
            registry=self.registry,
        )
        self.images.labels(f"{SUCCESS:04X}")
        self.refused = Counter(
            "ldct_refused_peers",
            "Peers, or images of one, that went beyond a bound.",
            registry=self.registry,
        )
        associations = Gauge(
            "ldct_associations", "Associations that are open.", registry=self.registry
        )
        associations.set_function(self._associations)
        self.on_sweep()

    def listens(self, server: BoundedServer) -> None:
        """The server that accepts associations from now on."""
        self._server = server

    def on_sweep(self) -> None:
        """A sweep has ended, or waits for space on the disk."""
        self._last_sweep = time.monotonic()

    def on_answer(self, status: int) -> None:
        """A C-STORE request was answered with this status."""
        self.images.labels(f"{status:04X}").inc()

    def on_refusal(self) -> None:
        """A peer was not heard, or an image of one not taken."""
        self.refused.inc()

    def health(self) -> Health:
        """Whether associations are accepted, studies swept, and the ledger can be read."""
        deaf_s = self._server.idle_s() if self._server else 0.0
        unswept_s = time.monotonic() - self._last_sweep
        ledger = ledger_fault(self.settings.work)
        well = not ledger and deaf_s < MAX_DEAF_S and unswept_s < MAX_UNSWEPT_S
        facts: dict[str, object] = {"ledger": ledger or "ok", "silent_s": round(unswept_s)}
        return Health(well, {**facts, "deaf_s": round(deaf_s)})

    def _associations(self) -> float:
        return float(len(self._server.ae.active_associations)) if self._server else 0.0
