"""Times the stages of a flow, for its report."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any


@dataclass
class StageTimings:
    """Seconds by stage, and since the start."""

    started: float = field(default_factory=time.time)
    stages: list[dict[str, Any]] = field(default_factory=list)

    def run(self, name: str, stage: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        began = time.perf_counter()
        result = stage(*args, **kwargs)
        self.stages.append({"stage": name, "seconds": round(time.perf_counter() - began, 2)})
        return result

    def facts(self) -> dict[str, Any]:
        begun = datetime.fromtimestamp(self.started, tz=UTC).isoformat(timespec="seconds")
        seconds = round(time.time() - self.started, 1)
        return {"started": begun, "seconds": seconds, "stages": self.stages}
