"""A registered version in one page of Markdown: what it is, what it learned from, how well."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pipeline.core.verdicts import Verdict

NOT_FOR = "AI-derived images. Not for primary diagnosis."
#: Rows of figures; a segmenter of a hundred classes has hundreds.
MAX_METRICS = 40


@dataclass(frozen=True)
class CardFacts:
    """What a card says.

    headline: the figures in a few words. about: task, configuration, anatomy and the like, by
    name. data: a line for each side of the split. metrics: figures of the test patients by their
    stable names.
    """

    name: str
    headline: str
    about: Mapping[str, str]
    data: list[str]
    metrics: Mapping[str, float]
    verdict: Verdict


def model_card(facts: CardFacts) -> str:
    """The card in Markdown."""
    lines = [f"# {facts.name}", "", facts.headline, "", f"**{NOT_FOR}**", ""]
    lines += _table(("", ""), [(name, f"`{value}`") for name, value in facts.about.items()])
    if facts.data:
        lines += ["", "## Data", "", *(f"- {line}" for line in facts.data)]
    lines += ["", "## Gate", "", f"{'Passed' if facts.verdict.passed else 'Not passed'}.", ""]
    checks = [
        (check.name, _number(check.figure), check.limit, "passed" if check.passed else "failed")
        for check in facts.verdict.checks
    ]
    lines += _table(("check", "figure", "limit", "verdict"), checks)
    lines += ["", "## Figures of the test patients", ""]
    shown = list(facts.metrics.items())[:MAX_METRICS]
    lines += _table(("metric", "value"), [(f"`{name}`", _number(value)) for name, value in shown])
    if more := len(facts.metrics) - len(shown):
        lines += ["", f"{more} more are metrics of the run."]
    lines += ["", "## Use", "", f"    ldct apply {facts.name} SERIES --out FOLDER", ""]
    return "\n".join(lines)


def _table(heading: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> list[str]:
    escaped = [tuple(cell.replace("|", r"\|") for cell in row) for row in rows]
    cells = [heading, ("---",) * len(heading), *escaped]
    return [f"| {' | '.join(row)} |" for row in cells]


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.4g}"
