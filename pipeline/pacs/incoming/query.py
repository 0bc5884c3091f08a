"""Ask the source which series the rules select, and put them into the ledger."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import date
from typing import Any, Protocol

from pipeline.core.pseudonyms import pseudonym
from pipeline.pacs.settings.endpoints import DimseSource, StudyFolder
from pipeline.pacs.settings.hospital import Pacs, RoutingRule
from pipeline.pacs.settings.rules import (
    RuleMatch,
    SeriesFacts,
    first_match,
    has_wrong_clock,
    match_rules,
)
from pipeline.pacs.work.item import PacsSeries
from pipeline.pacs.work.ledger import Ledger


class CandidateSource(Protocol):
    """A PACS that can be searched."""

    def candidates(
        self, rule: RoutingRule, *, today: date
    ) -> Iterator[tuple[PacsSeries, SeriesFacts]]:
        """Series that a rule may select, and what is known of them."""


@dataclass(frozen=True)
class CandidateSeries:
    """A series of the source, and how it matches each rule.

    wrong_clock: its study date is in the future, or from before there was CT.
    """

    series: PacsSeries
    matches: list[RuleMatch]
    wrong_clock: bool = False

    @property
    def rule(self) -> str | None:
        """The name of the first rule that matches, None where none does."""
        return first_match(self.matches)

    def destinations(self, settings: Pacs) -> list[str]:
        """Where its result would be sent; nowhere without a rule."""
        if self.rule is None:
            return []
        return [each.label for each in settings.destinations_of(self.rule)]

    def to_dict(self, key: bytes) -> dict[str, Any]:
        """As `ldct pacs pull --json` shows it, without UIDs. key: the installation's.

        Descriptions in it are shown to the user who asks, and never kept.
        """
        return {
            "series": pseudonym(key, "s", self.series.series_uid),
            "images": len(self.series.instance_uids),
            "rule": self.rule,
            "rules": {
                match.rule: [str(reason) for reason in match.reasons] for match in self.matches
            },
        }


@dataclass(frozen=True)
class PullCounts:
    """How many series were found at the source, match a rule, and are new in the ledger; how many
    files and folders of a folder of studies could not be read; and how many series have a study
    date that no scanner with a right clock gives."""

    asked: int
    matched: int
    new: int
    unreadable: int = 0
    wrong_clock: int = 0


def find_candidates(
    source: CandidateSource, rules: list[RoutingRule], *, today: date
) -> list[CandidateSeries]:
    """Every series that some rule may select, once, matched against every rule.

    Raises Unreachable and Refused as the source does.
    """
    found: dict[str, tuple[PacsSeries, SeriesFacts]] = {}
    for rule in rules:
        for series, facts in source.candidates(rule, today=today):
            found.setdefault(series.series_uid, (series, facts))
    return [
        CandidateSeries(
            series, match_rules(facts, rules, today=today), has_wrong_clock(facts, today)
        )
        for series, facts in found.values()
    ]


def count_matches(candidates: list[CandidateSeries]) -> PullCounts:
    """The counts before anything is put into a ledger."""
    matched = sum(candidate.rule is not None for candidate in candidates)
    wrong = sum(candidate.wrong_clock for candidate in candidates)
    return PullCounts(asked=len(candidates), matched=matched, new=0, wrong_clock=wrong)


def add_to_ledger(
    candidates: list[CandidateSeries], ledger: Ledger, settings: Pacs, *, model: str
) -> PullCounts:
    """Add each matching series as work for a model version, due once it had the time to grow.

    What the ledger has already stays as it is.
    """
    before = sum(ledger.counts().values())
    for candidate in candidates:
        if candidate.rule:
            ledger.add(
                candidate.series,
                model,
                origin=_origin(settings),
                rule=candidate.rule,
                due=ledger.now() + settings.settle_s,
                priority=settings.priority_of(candidate.rule),
            )
    counts = count_matches(candidates)
    return replace(counts, new=sum(ledger.counts().values()) - before)


def _origin(settings: Pacs) -> str:
    if isinstance(settings.source, StudyFolder):
        return "folder"
    return "dimse" if isinstance(settings.source, DimseSource) else "dicomweb"
