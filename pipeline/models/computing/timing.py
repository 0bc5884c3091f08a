"""Ways of computing the same, timed in turns: what training and inference choose by."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping

#: A way must take less than this share of fp32's time: an equal time is no reason to round more.
WORTH_IT = 0.9
#: Taking this many times as long as fp32, bf16 is emulated: no more of it is measured.
HOPELESS = 3.0
#: No further round after so long: the passes are slow enough to be distinguished.
ENOUGH_S = 10.0


def best_in_turns(ways: Mapping[str, Callable[[], float]], rounds: int) -> dict[str, float]:
    """The least seconds of each way, which returns its own: in turns, since others work on this
    machine too, and the best of each, since the first also makes kernels."""
    best = dict.fromkeys(ways, math.inf)
    began = time.perf_counter()
    for _ in range(rounds):
        for name, way in ways.items():
            best[name] = min(best[name], way())
        if time.perf_counter() - began > ENOUGH_S:
            break
    return best


def faster(seconds: Mapping[str, float], reference: str) -> str:
    """The way that takes the least time, where that is worth it; else the reference."""
    best = min(seconds, key=lambda name: seconds[name])
    return best if seconds[best] < WORTH_IT * seconds[reference] else reference
