"""How long the stages of a flow take, for its report."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")


@dataclass
class StageTimings:
    """Seconds of each stage that `run` ran, in order. started: seconds since 1970."""

    started: float = field(default_factory=time.time)
    seconds: list[tuple[str, float]] = field(default_factory=list)

    def run(self, name: str, stage: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Call `stage` with the arguments and time it; returns what it returns."""
        began = time.perf_counter()
        result = stage(*args, **kwargs)
        self.seconds.append((name, round(time.perf_counter() - began, 2)))
        return result

    def facts(self) -> dict[str, Any]:
        """As report.json has it: when it started (UTC), seconds until now, and of each stage."""
        started = datetime.fromtimestamp(self.started, tz=UTC).isoformat(timespec="seconds")
        stages = [{"stage": name, "seconds": seconds} for name, seconds in self.seconds]
        total = round(time.time() - self.started, 1)
        return {"started": started, "seconds": total, "stages": stages}
