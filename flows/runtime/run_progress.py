"""How far a stage is, as a progress artifact of the Prefect run that it belongs to."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass, field
from typing import Any

from flows.runtime.run_log import in_run

#: Seconds before the first message to the server, and between messages: short stages send none.
EVERY_S = 5.0


@dataclass
class RunProgress:
    """Of one stage; name: of what it works on, which must not identify a patient.

    A server that does not take it costs the stage nothing but its bar in the UI.
    """

    name: str
    every_s: float = EVERY_S
    artifact: Any = None
    given_up: bool = False
    sent: float = field(default_factory=time.monotonic)

    def at(self, done: float, total: float | None) -> None:
        """`done` of `total` units are done; sent where a message is due."""
        if total and not self.given_up and time.monotonic() - self.sent >= self.every_s:
            self.sent = time.monotonic()
            self._send(100 * min(done / total, 1))

    def end(self) -> None:
        """All is done."""
        if self.artifact is not None and not self.given_up:
            self._send(100.0)

    def _send(self, percent: float) -> None:
        try:
            if self.artifact is not None:
                from prefect.artifacts import update_progress_artifact

                update_progress_artifact(self.artifact, percent)
            elif in_run():
                from prefect.artifacts import create_progress_artifact

                self.artifact = create_progress_artifact(
                    percent, key=self.key, description=self.name
                )
        except Exception:
            self.given_up = True  # a bar must not end the work that it shows

    @property
    def key(self) -> str:
        """What the UI lists it under: the stage, whatever it works on."""
        stage = self.name.partition(" to ")[0].lower()
        return f"progress-{re.sub(r'[^a-z0-9]+', '-', stage).strip('-')}"
