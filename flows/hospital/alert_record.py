"""Which alerts were sent, and when: in the work folder, for all processes of a hospital."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path

from pipeline.core.atomic_files import write_json

FILE = "alerts.json"


@dataclass(frozen=True)
class Sent:
    """What was last sent of a condition. digest: of its items, "" of none. at: since 1970."""

    digest: str
    at: float


@dataclass
class SentAlerts:
    """By channel and condition; the later of what this process and the file know.

    A file that is damaged counts as none: what it held is sent again.
    """

    work: Path
    _known: dict[tuple[str, str], Sent] = field(default_factory=dict)

    def refresh(self) -> None:
        """Learn what other processes have sent."""
        for key, sent in self._read().items():
            if key not in self._known or self._known[key].at < sent.at:
                self._known[key] = sent

    def get(self, channel: str, condition: str) -> Sent | None:
        """None for what was never sent."""
        return self._known.get((channel, condition))

    def add(self, channel: str, sent: dict[str, Sent]) -> None:
        """Note what was sent, by condition; in memory alone where the disk is full."""
        self._known |= {(channel, condition): one for condition, one in sent.items()}
        rows = [[*key, *asdict(one).values()] for key, one in sorted(self._known.items())]
        with suppress(OSError):
            write_json(self.work / FILE, {"sent": rows})

    def _read(self) -> dict[tuple[str, str], Sent]:
        try:
            rows = json.loads((self.work / FILE).read_text(encoding="utf-8"))["sent"]
            return {
                (str(channel), str(condition)): Sent(str(digest), float(at))
                for channel, condition, digest, at in rows
            }
        except (OSError, ValueError, KeyError, TypeError):
            return {}
