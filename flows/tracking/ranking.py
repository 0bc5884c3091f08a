"""Registered versions sorted and chosen by what is known of them: `ldct models --sort, --where`."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from flows.tracking.versions import VersionRow
from pipeline.core.errors import ConfigError

if TYPE_CHECKING:  # which imports MLflow
    from flows.tracking.registry import Registry

#: What a version says in words; anatomy and alias may be several, of which one is meant.
WORDS: dict[str, Callable[[VersionRow], list[str]]] = {
    "name": lambda row: [row.name],
    "alias": lambda row: row.aliases,
    "gate": lambda row: [row.gate],
    "task": lambda row: [row.task],
    "anatomy": lambda row: row.anatomy.split(","),
    "dose": lambda row: [row.dose],
    "reader_study": lambda row: [row.reader_study],
}
COMPARISONS: dict[str, Callable[[float, float], bool]] = {
    ">=": operator.ge,
    "<=": operator.le,
    "!=": operator.ne,
    ">": operator.gt,
    "<": operator.lt,
    "=": operator.eq,
}
_CONDITION = re.compile(r"^\s*(?P<name>[\w.-]+)\s*(?P<sign>>=|<=|!=|=|>|<)\s*(?P<value>.*?)\s*$")


@dataclass(frozen=True)
class Condition:
    """A metric compared with a number, or one of WORDS with a word."""

    name: str
    sign: str
    value: str

    @classmethod
    def parse(cls, text: str) -> Condition:
        """Such as `test.soft_tissue.output.psnr > 38` or `task = denoise`; else ConfigError."""
        match = _CONDITION.match(text)
        if match is None:
            raise ConfigError(
                f"--where {text!r}: expected NAME, one of {' '.join(COMPARISONS)}, and a value"
            )
        found = cls(match["name"], match["sign"], match["value"])
        if found.name in WORDS:
            if found.sign not in ("=", "!="):
                raise ConfigError(f"--where {text!r}: {found.name} is a word: compare by = or !=")
        elif not _is_number(found.value):
            raise ConfigError(f"--where {text!r}: {found.value!r} is no number")
        return found

    def holds(self, row: VersionRow) -> bool:
        """False for a version without the metric, whatever the comparison."""
        if self.name in WORDS:
            return (self.value in WORDS[self.name](row)) is (self.sign == "=")
        figure = row.metrics.get(self.name)
        return figure is not None and COMPARISONS[self.sign](figure, float(self.value))


@dataclass(frozen=True)
class Ranking:
    """Versions in order. metrics: those that were asked about. lacking: for each of them, how many
    versions were looked at that have no such metric, as ones from before have none."""

    rows: list[VersionRow]
    metrics: list[str]
    lacking: dict[str, int]


def ranked(
    registry: Registry, *, sort: str | None, where: list[str], ascending: bool, every_metric: bool
) -> Ranking:
    """`rank` of all versions of a registry. every_metric: rows with all of a run's metrics, not
    just those that are asked about, which takes several times as long.

    Raises ConfigError as `rank` does.
    """
    asked = asked_metrics(sort, where)
    rows = registry.list(metrics=None if every_metric else asked)
    if any(all(name not in row.metrics for row in rows) for name in asked):
        rows = registry.list()  # to name the metrics that there are
    return rank(rows, sort=sort, where=where, ascending=ascending)


def rank(
    rows: Iterable[VersionRow], *, sort: str | None, where: list[str], ascending: bool = False
) -> Ranking:
    """Those for which every condition holds; by the metric `sort`, the largest first, those without
    it last, in the order they came in.

    Raises ConfigError for a condition that is none, and for a metric that no version has.
    """
    conditions, every = [Condition.parse(text) for text in where], list(rows)
    metrics = asked_metrics(sort, where)
    for name in metrics:
        _require_known(name, every)
    words = [condition for condition in conditions if condition.name in WORDS]
    looked_at = [row for row in every if all(one.holds(row) for one in words)]
    lacking = {name: sum(name not in row.metrics for row in looked_at) for name in metrics}
    found = [row for row in looked_at if all(one.holds(row) for one in conditions)]
    if sort:
        sign = 1 if ascending else -1
        found.sort(key=lambda row: (sort not in row.metrics, sign * row.metrics.get(sort, 0.0)))
    return Ranking(found, metrics, {name: count for name, count in lacking.items() if count})


def asked_metrics(sort: str | None, where: list[str]) -> list[str]:
    """The metrics that `rank` looks at. Raises ConfigError for a condition that is none."""
    names = [Condition.parse(text).name for text in where]
    asked = [*([sort] if sort else []), *(name for name in names if name not in WORDS)]
    return list(dict.fromkeys(asked))


def _require_known(name: str, rows: list[VersionRow]) -> None:
    known = sorted({metric for row in rows for metric in row.metrics})
    if name not in known:
        shown = ", ".join(known) or "none: no version was registered with metrics"
        raise ConfigError(f"no version has a metric {name}; there are: {shown}")


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
