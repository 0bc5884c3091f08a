"""Ask the source which series the rules want, and put them into the ledger."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from typing import Any, Protocol

from pipeline.core.pseudonyms import pseudonym
from pipeline.pacs.hospital_config import Pacs, RoutingRule
from pipeline.pacs.ledger import Ledger
from pipeline.pacs.rules import Facts, Match, judge_series, matched
from pipeline.pacs.work_item import PacsSeries


class Searched(Protocol):
    def candidates(self, rule: RoutingRule, *, today: date) -> Iterator[tuple[PacsSeries, Facts]]:
        """Series that a rule may want, and what is known of them."""


@dataclass(frozen=True)
class Answer:
    """What the rules say of one series of the source."""

    series: PacsSeries
    matches: list[Match]

    @property
    def rule(self) -> str | None:
        return matched(self.matches)

    def facts(self, key: bytes) -> dict[str, Any]:
        """For a person, without UIDs; descriptions are shown to whoever asks, and never kept."""
        return {
            "series": pseudonym(key, "s", self.series.series_uid),
            "images": len(self.series.instance_uids),
            "rule": self.rule,
            "rules": {
                match.rule: [str(reason) for reason in match.reasons] for match in self.matches
            },
        }


def ask(source: Searched, rules: list[RoutingRule], *, today: date) -> list[Answer]:
    """Every series that some rule may want, once, with every rule's reasons."""
    found: dict[str, tuple[PacsSeries, Facts]] = {}
    for rule in rules:
        for series, facts in source.candidates(rule, today=today):
            found.setdefault(series.series_uid, (series, facts))
    return [
        Answer(series, judge_series(facts, rules, today=today)) for series, facts in found.values()
    ]


def put_down(
    answers: list[Answer], ledger: Ledger, settings: Pacs, *, model: str
) -> dict[str, int]:
    """Matching series become work, due once they had the time to grow; what the ledger has
    already stays as it is."""
    wanted = [answer for answer in answers if answer.rule]
    before = sum(ledger.counts().values())
    for answer in wanted:
        due = ledger.now() + settings.settle_s
        ledger.add(answer.series, model, origin="dicomweb", rule=str(answer.rule), due=due)
    added = sum(ledger.counts().values()) - before
    return {"asked": len(answers), "matched": len(wanted), "new": added}
