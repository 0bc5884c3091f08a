"""The table of benchmarks/gpu.py."""

from __future__ import annotations

import statistics
from collections.abc import Iterator

import machine

from pipeline.core.types import Json

TINY = "**Sizes that only show that it runs: no figure here says anything.**\n"


def markdown(found: Json) -> str:
    """What has been found so far."""
    lines = [machine.described(found["taken_on"]), ""]
    lines += [TINY] if found.get("tiny") else []
    for part, table in TABLES.items():
        if part not in found:
            continue
        lines += [f"## {part}", ""]
        failed = found[part].get("failed")
        lines += [f"Failed: {failed}"] if failed else table(found[part])
        lines.append("")
    return "\n".join(lines)


def _facts(found: Json) -> Iterator[str]:
    yield "; ".join(f"{name.replace('_', ' ')}: {_short(value)}" for name, value in found.items())


def _short(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _parity(found: Json) -> Iterator[str]:
    yield "| beside the CPU's fp32 | largest of a voxel, HU | largest of a tissue's mean, HU |"
    yield "|---|---|---|"
    for name, ways in found.items():
        for way, off in ways.items():
            yield f"| {name}, {way} | {off['voxel_hu']:.3g} | {off['tissue_mean_hu']:.2g} |"


def _inference(found: Json) -> Iterator[str]:
    yield "| ms a slice, median (least to most) | | times plain | peak MiB | from fp32, HU |"
    yield "|---|---|---|---|---|"
    for name, ways in found.items():
        yield from _ways(name, ways, "seconds_per_slice", "largest_difference_hu")


def _steps(found: Json) -> Iterator[str]:
    yield "| ms a step, median (least to most) | | times the first | peak MiB |"
    yield "|---|---|---|---|"
    for name, ways in found.items():
        yield from _ways(name, ways, "seconds")


def _volumes(found: Json) -> Iterator[str]:
    yield from _steps({"segment_organs": found})


def _generative(found: Json) -> Iterator[str]:
    yield "| ms a step, median (least to most) | | peak MiB |"
    yield "|---|---|---|"
    for name, row in found.items():
        cells = [row["failed"], ""] if "failed" in row else [_ms(row["seconds"]), _mib(row)]
        turns = f", {row['iterations']} iterations" if row["iterations"] > 1 else ""
        yield f"| {name}{turns} | {' | '.join(cells)} |"


def _ways(name: str, ways: Json, key: str, *more: str) -> Iterator[str]:
    first = next((row[key] for row in ways.values() if key in row), None)
    for way, row in ways.items():
        if "failed" in row:
            cells = [row["failed"], *[""] * (2 + len(more))]
        else:
            times = statistics.median(first) / statistics.median(row[key]) if first else 0.0
            cells = [_ms(row[key]), f"{times:.2f}", _mib(row), *(f"{row[m]:.3g}" for m in more)]
        yield f"| {name}, {way} | {' | '.join(cells)} |"


def _ms(seconds: list[float]) -> str:
    return machine.spread([1000 * one for one in seconds])


def _mib(row: Json) -> str:
    return f"{row['peak_mib']:.0f}"


def _simulation(found: Json) -> Iterator[str]:
    yield "| slices a second, median (least to most) | |"
    yield "|---|---|"
    for way in ("numba", "torch"):
        yield f"| {way} | {machine.spread(found[way]['slices_per_s'])} |"
    yield (
        f"\nOf {found['noise_hu']:.3g} HU of noise, the two differ by "
        f"{found['largest_difference_hu']:.2g} HU at most."
    )


def _longest(found: Json) -> Iterator[str]:
    yield from _facts({name: value for name, value in found.items() if name != "loss"})
    yield ""
    yield "Loss: " + ", ".join(f"{loss:.4g} at {at}" for at, loss in found["loss"][::10])


TABLES = {
    "device": _facts,
    "parity": _parity,
    "inference": _inference,
    "training": _steps,
    "volumes": _volumes,
    "generative": _generative,
    "simulation": _simulation,
    "nccl": _facts,
    "longest": _longest,
}
