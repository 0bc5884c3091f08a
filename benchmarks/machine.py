"""What every table must say of the machine that took it: processor, cores and precision."""

from __future__ import annotations

import os
import platform
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack, contextmanager
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Literal, TypeVar
from unittest.mock import patch

import torch

from pipeline.core.malloc import SWITCH, keep_freed_memory
from pipeline.core.versions import versions

# As `ldct` does when it starts; a process that _process starts does it by importing this.
keep_freed_memory()

Way = Callable[[], object]
Seconds = dict[str, list[float]]
Found = TypeVar("Found")


#: What decides speed, and the last bits of a result, as Linux names it.
FEATURES = ("avx2", "avx512f", "avx512_bf16", "amx_bf16", "asimd", "bf16")
Precision = Literal["fp32", "auto"]
MEASURED = "fp32 or bf16 as each training measured"


def facts(precision: Precision = "fp32") -> dict[str, Any]:
    """Taken at the end: the load is that of the minutes before, this benchmark's own included.

    precision: what was computed in; `auto` where trainings measured it, each for itself.
    """
    model, features = processor(Path("/proc/cpuinfo"))
    return {
        "processor": model,
        "features": features,
        "precision": MEASURED if precision == "auto" else precision,
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "load": [round(load, 2) for load in os.getloadavg()],
        "versions": versions(),
    }


def processor(cpuinfo: Path) -> tuple[str, list[str]]:
    """Its name, and which of FEATURES it has; from what Linux says of it, where there is any."""
    try:
        lines = cpuinfo.read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine(), []
    said = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
    flags = said.get("flags", said.get("Features", "")).split()
    name = said.get("model name") or platform.processor() or platform.machine()
    return name, [feature for feature in FEATURES if feature in flags]


def described(machine: dict[str, Any]) -> str:
    load = ", ".join(f"{load:g}" for load in machine["load"])
    features = ", ".join(machine["features"]) or "features unknown"
    return (
        f"{machine['processor']} ({features}), {machine['precision']}, {machine['cores']} cores, "
        f"{machine['threads']} threads; load of the last 1, 5 and 15 minutes: {load}."
    )


def in_turns(ways: dict[str, Way], repeats: int, *, warm_up: bool = True) -> Seconds:
    """Seconds of every way, once a round; a first round warms up."""
    seconds: Seconds = {name: [] for name in ways}
    for turn in range(repeats + warm_up):
        for name, way in ways.items():
            began = time.perf_counter()
            way()
            if turn >= warm_up:
                seconds[name].append(time.perf_counter() - began)
    return seconds


def processes_in_turns(ways: Mapping[str, Way], repeats: int) -> Seconds:
    """As in_turns, but each way stays in a process of its own: what one sets, the other has not.

    ways: functions of modules, or functools.partial of such; "plain" is a peer's, whose memory
    comes and goes as it does without us. A first round warms up.
    """
    with ExitStack() as stack:
        places = {name: stack.enter_context(_process(name)) for name in ways}
        rounds = [
            {name: places[name].submit(_timed, way).result() for name, way in ways.items()}
            for _ in range(repeats + 1)
        ]
    return {name: [taken[name] for taken in rounds[1:]] for name in ways}


def in_own_process(name: str, way: Callable[[], Found]) -> Found:
    """What one run gives, in a process of its own; "plain" as in processes_in_turns."""
    with _process(name) as place:
        return place.submit(way).result()


@contextmanager
def _process(name: str) -> Iterator[ProcessPoolExecutor]:
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as place:
        # For a process that begins meanwhile: see pipeline.core.malloc.
        with patch.dict(os.environ, {SWITCH: "0"} if name == "plain" else {}):
            place.submit(os.getpid).result()  # begins it
        yield place


def _timed(way: Way) -> float:
    began = time.perf_counter()
    way()
    return time.perf_counter() - began


def spread(values: list[float], digits: int = 3) -> str:
    """`median (least to most)`."""
    middle = statistics.median(values)
    return f"{middle:.{digits}g} ({min(values):.{digits}g} to {max(values):.{digits}g})"


def peak_mib() -> float:
    """The most memory that this process has ever held.

    Not getrusage's: a child begins with its parent's there.
    """
    status = Path("/proc/self/status").read_text(encoding="ascii")
    (line,) = [line for line in status.splitlines() if line.startswith("VmHWM")]
    return int(line.split()[1]) / 1024
