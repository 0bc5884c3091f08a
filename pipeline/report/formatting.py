"""Figures, times and refusals as a page says them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from jinja2 import Undefined

from pipeline.core.types import Json

#: In the place of a figure that was not measured.
NOT_MEASURED = "–"
#: How many file names and values a group of equal refusals spells out.
EXAMPLES = 3


def or_dash(value: Any) -> Any:
    """The value, or NOT_MEASURED where there is none."""
    return NOT_MEASURED if value is None or isinstance(value, Undefined) else value


def fixed(value: Any, decimals: int = 2, *, signed: bool = False) -> str:
    """A figure with so many decimals, a dash where there is none."""
    if not is_number(value):
        return NOT_MEASURED
    if math.isinf(value):
        return "∞" if value > 0 else "−∞"
    sign = "+" if signed else ""
    return f"{value:{sign}z,.{decimals}f}".replace("-", "−")


def is_number(value: Any) -> bool:
    """Whether it is a number, infinity included; NaN is none."""
    return isinstance(value, int | float) and not math.isnan(value)


def change(output: Any, before: Any) -> float | None:
    """Output minus input; None unless both were measured."""
    return output - before if is_number(output) and is_number(before) else None


def duration(seconds: Any) -> str:
    """3.1 s, 10 min 12 s, 2 h 05 min"""
    if not is_number(seconds):
        return NOT_MEASURED
    if round(seconds, 1) < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"


def day(started: Any) -> str:
    """An ISO 8601 time for reading; as it is where it is none."""
    try:
        return f"{datetime.fromisoformat(started):%Y-%m-%d %H:%M %Z}".strip()
    except (TypeError, ValueError):
        return str(or_dash(started))


@dataclass(frozen=True)
class Examples:
    """The first few of several texts, and how many more there are."""

    shown: list[str]
    more: int

    @classmethod
    def of(cls, texts: list[str]) -> Examples:
        """The first EXAMPLES different ones."""
        distinct = list(dict.fromkeys(texts))
        return cls(distinct[:EXAMPLES], max(0, len(distinct) - EXAMPLES))


@dataclass(frozen=True)
class RefusalGroup:
    """Files refused for one reason, their number, and the DICOM attribute with its values."""

    reason: str
    attribute: str
    count: int
    files: Examples
    values: Examples


def grouped(refusals: list[Json]) -> list[RefusalGroup]:
    """Refusals with the same reason and attribute together, the largest group first."""
    groups: dict[tuple[str, str], list[Json]] = {}
    for refusal in refusals:
        key = (str(refusal.get("reason")), str(refusal.get("attribute") or ""))
        groups.setdefault(key, []).append(refusal)
    return [
        RefusalGroup(
            reason,
            attribute,
            len(members),
            files=Examples.of([str(member.get("file")) for member in members]),
            values=Examples.of([str(m["value"]) for m in members if m.get("value")]),
        )
        for (reason, attribute), members in sorted(groups.items(), key=lambda g: -len(g[1]))
    ]


def median(values: list[Any]) -> float | None:
    """The upper median of those that are numbers; None without any."""
    numbers = sorted(value for value in values if is_number(value))
    return numbers[len(numbers) // 2] if numbers else None
