"""Which processor computes here: a choice that was measured holds for its like alone."""

from __future__ import annotations

import platform
from functools import cache
from pathlib import Path
from typing import Any

import torch

#: Of /proc/cpuinfo: virtual processors share names, not models and steppings.
CPU_FACTS = ("vendor_id", "cpu family", "model", "model name", "stepping")


def has_bf16(kind: str) -> bool:
    """Whether "cpu" or "cuda" computes in bf16 here, rather than emulating it."""
    return torch.cuda.is_bf16_supported() if kind == "cuda" else _cpu_has_fast_bf16()


def _cpu_has_fast_bf16() -> bool:
    capabilities = torch.cpu.get_capabilities()
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))


@cache
def processor(kind: str) -> dict[str, Any]:
    """What distinguishes a "cpu" or "cuda" from another, as JSON."""
    if kind == "cuda":
        return {"name": torch.cuda.get_device_name()}
    facts: dict[str, Any] = {"name": platform.processor() or platform.machine()}
    facts["instructions"] = torch.backends.cpu.get_cpu_capability()
    listed = Path("/proc/cpuinfo")
    if listed.exists():
        first, _, _ = listed.read_text(encoding="utf-8", errors="replace").partition("\n\n")
        pairs = (line.partition(":") for line in first.splitlines())
        found = {name.strip(): value.strip() for name, _, value in pairs}
        facts |= {name: found[name] for name in CPU_FACTS if name in found}
    return facts


def computing_facts(kind: str) -> dict[str, Any]:
    """What a measured time depends on beside the network and its input."""
    return {
        "processor": processor(kind),
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
    }
