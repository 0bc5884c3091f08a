"""Which series a hospital's rules select, and why: every condition with what the series has."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import date, timedelta

from pydicom.dataset import Dataset

from pipeline.core.sanitise import printable_line
from pipeline.dicom.derived.provenance import MARKINGS, own_equipment
from pipeline.pacs.settings.hospital import Dates, RoutingRule

#: What a rule's conditions are about; read from one image of a series.
ATTRIBUTES = (
    "Modality",
    "SeriesDescription",
    "BodyPartExamined",
    "ConvolutionKernel",
    "StationName",
    "InstitutionName",
    "StudyDate",
    "ContributingEquipmentSequence",
)


#: The first patient was scanned on 1 October 1971; a clock that lost its time begins in 1970.
FIRST_CT = date(1971, 10, 1)
WRONG_CLOCK = "a study date that no right clock gives: look at the scanner's"


@dataclass(frozen=True)
class SeriesFacts:
    """What is known of a series before it is retrieved.

    study_date: None where it is absent or no date. instances: how many images the series has.
    ours: made by this software, so never its input. callers: the AE titles that sent it by
    C-STORE; none where it was asked for.
    """

    modality: str
    description: str
    body_part: str
    kernel: str
    study_date: date | None
    instances: int
    ours: bool
    station: str = ""
    institution: str = ""
    callers: tuple[str, ...] = ()

    @classmethod
    def of(cls, header: Dataset, instances: int, callers: tuple[str, ...] = ()) -> SeriesFacts:
        """From the header of one image, with at least ATTRIBUTES where it has them."""
        description = printable_line(str(header.get("SeriesDescription") or ""))
        return cls(
            modality=printable_line(str(header.get("Modality") or "")),
            description=description,
            body_part=printable_line(str(header.get("BodyPartExamined") or "")),
            kernel=printable_line(_text(header.get("ConvolutionKernel"))),
            study_date=_date(str(header.get("StudyDate") or "")),
            instances=instances,
            ours=bool(own_equipment(header)) or description.startswith(MARKINGS),
            station=printable_line(str(header.get("StationName") or "")),
            institution=printable_line(str(header.get("InstitutionName") or "")),
            callers=callers,
        )


def has_wrong_clock(facts: SeriesFacts, today: date) -> bool:
    """Whether a series' study date is none that a scanner with a right clock gives: in the future
    (a day ahead may be another time zone's), or from before there was CT."""
    at = facts.study_date
    return at is not None and (at >= first_future(today) or at < FIRST_CT)


def first_future(today: date) -> date:
    """The first study date that lies in the future in every time zone."""
    return today + timedelta(days=2)


@dataclass(frozen=True)
class Reason:
    """One condition of a rule, what the series has, and whether it is met."""

    condition: str
    found: str
    met: bool

    @property
    def found_text(self) -> str:
        """What the series has, in words."""
        return self.found or "not stated"

    def __str__(self) -> str:
        return f"{self.condition}: {self.found_text}{'' if self.met else ' (not met)'}"


@dataclass(frozen=True)
class RuleMatch:
    """A series against one rule, condition by condition."""

    rule: str
    reasons: tuple[Reason, ...]

    @property
    def matched(self) -> bool:
        """Whether every condition of the rule is met."""
        return all(reason.met for reason in self.reasons)


def match_rules(facts: SeriesFacts, rules: list[RoutingRule], *, today: date) -> list[RuleMatch]:
    """Match a series against every rule; it is processed where one matches."""
    return [RuleMatch(rule.name, tuple(_reasons(facts, rule, today))) for rule in rules]


def first_match(matches: list[RuleMatch]) -> str | None:
    """The name of the first rule that matches, None where none does."""
    return next((match.rule for match in matches if match.matched), None)


def _reasons(facts: SeriesFacts, rule: RoutingRule, today: date) -> list[Reason]:
    reasons = [
        Reason(
            "not made by this software", "its own" if facts.ours else "another's", not facts.ours
        ),
        Reason(
            f"at least {rule.instances} images",
            str(facts.instances),
            facts.instances >= rule.instances,
        ),
        _one_of("modality", rule.modality, facts.modality),
    ]
    reasons += [
        _one_of(name, allowed, found)
        for name, allowed, found in (
            ("body part", rule.body_part, facts.body_part),
            ("kernel", rule.kernel, facts.kernel),
            ("station", rule.station, facts.station),
            ("institution", rule.institution, facts.institution),
            ("calling AE title", rule.calling, "\\".join(facts.callers)),
        )
        if allowed is not None
    ]
    if rule.description is not None:
        met = re.search(rule.description, facts.description, re.IGNORECASE) is not None
        reasons.append(Reason(f"description like {rule.description}", facts.description, met))
    if rule.date is not None:
        reasons.append(_date_within(rule.date, facts, today))
    return reasons


def _one_of(name: str, allowed: tuple[str, ...], found: str) -> Reason:
    # A kernel may have several values, such as Br40f\\3; several may have sent a series.
    values = {found.casefold(), *found.casefold().split("\\")}
    met = not values.isdisjoint(word.casefold() for word in allowed)
    return Reason(f"{name} one of {', '.join(allowed)}", found, met)


def _date_within(dates: Dates, facts: SeriesFacts, today: date) -> Reason:
    found = facts.study_date
    first, last = study_dates(dates, today)
    met = found is not None and (first or found) <= found <= (last or found)
    condition = f"study date {first or 'any'} to {last or 'any'}"
    # The date itself identifies a patient together with little else: it is not shown.
    shown = "a date" if found else ""
    if has_wrong_clock(facts, today):
        shown = WRONG_CLOCK
    return Reason(condition, shown, met)


def study_dates(dates: Dates, today: date) -> tuple[date | None, date | None]:
    """First and last study date that a rule allows, both included; None for no limit."""
    if dates.within_days is not None:
        return today - timedelta(days=dates.within_days), today
    return dates.since, dates.until


def _text(value: object) -> str:
    """The text of an element; several values, as some scanners give a kernel, joined by \\."""
    if value is None or isinstance(value, str):
        return value or ""
    return "\\".join(str(part) for part in value) if hasattr(value, "__iter__") else str(value)


def _date(text: str) -> date | None:
    try:
        return date(int(text[:4]), int(text[4:6]), int(text[6:8]))
    except ValueError:
        return None
