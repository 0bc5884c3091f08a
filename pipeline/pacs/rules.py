"""Which series are worked on, and why: every condition with its answer."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import date, timedelta

from pydicom.dataset import Dataset

from pipeline.core.sanitise import printable_line
from pipeline.dicom.derived.provenance import MARKINGS, own_equipment
from pipeline.pacs.hospital_config import Dates, RoutingRule

#: What a rule may ask for; read of one image of the series, where QIDO does not give it.
ATTRIBUTES = (
    "Modality",
    "SeriesDescription",
    "BodyPartExamined",
    "ConvolutionKernel",
    "StudyDate",
    "ContributingEquipmentSequence",
)


@dataclass(frozen=True)
class Facts:
    """What is known of a series before it is worked on."""

    modality: str
    description: str
    body_part: str
    kernel: str
    study_date: date | None
    instances: int
    ours: bool

    @classmethod
    def of(cls, header: Dataset, instances: int) -> Facts:
        """From the header of one image; ours: made by this software, so never its input."""
        description = printable_line(str(header.get("SeriesDescription") or ""))
        return cls(
            modality=printable_line(str(header.get("Modality") or "")),
            description=description,
            body_part=printable_line(str(header.get("BodyPartExamined") or "")),
            kernel=printable_line(_text(header.get("ConvolutionKernel"))),
            study_date=_date(str(header.get("StudyDate") or "")),
            instances=instances,
            ours=bool(own_equipment(header)) or description.startswith(MARKINGS),
        )


@dataclass(frozen=True)
class Reason:
    """One condition of a rule, what the series has, and whether it is met."""

    condition: str
    found: str
    met: bool

    @property
    def told(self) -> str:
        return self.found or "not stated"

    def __str__(self) -> str:
        return f"{self.condition}: {self.told}{'' if self.met else ' (not met)'}"


@dataclass(frozen=True)
class Match:
    """A series against one rule."""

    rule: str
    reasons: tuple[Reason, ...]

    @property
    def matched(self) -> bool:
        return all(reason.met for reason in self.reasons)


def judge_series(facts: Facts, rules: list[RoutingRule], *, today: date) -> list[Match]:
    """Every rule's answer, with its reasons; a series is worked on where one matches."""
    return [Match(rule.name, tuple(_reasons(facts, rule, today))) for rule in rules]


def matched(matches: list[Match]) -> str | None:
    """The first rule that matches."""
    return next((match.rule for match in matches if match.matched), None)


def _reasons(facts: Facts, rule: RoutingRule, today: date) -> list[Reason]:
    made = "its own" if facts.ours else "another's"
    reasons = [
        Reason("not made by this software", made, not facts.ours),
        Reason(
            f"at least {rule.instances} images",
            str(facts.instances),
            facts.instances >= rule.instances,
        ),
        _one_of("modality", rule.modality, facts.modality),
    ]
    if rule.body_part is not None:
        reasons.append(_one_of("body part", rule.body_part, facts.body_part))
    if rule.kernel is not None:
        reasons.append(_one_of("kernel", rule.kernel, facts.kernel))
    if rule.description is not None:
        met = re.search(rule.description, facts.description, re.IGNORECASE) is not None
        reasons.append(Reason(f"description like {rule.description}", facts.description, met))
    if rule.date is not None:
        reasons.append(_dated(rule.date, facts.study_date, today))
    return reasons


def _one_of(name: str, wanted: tuple[str, ...], found: str) -> Reason:
    # A kernel may have several values, such as Br40f\\3.
    values = {found.casefold(), *found.casefold().split("\\")}
    met = not values.isdisjoint(word.casefold() for word in wanted)
    return Reason(f"{name} one of {', '.join(wanted)}", found, met)


def _dated(wanted: Dates, found: date | None, today: date) -> Reason:
    first, last = study_dates(wanted, today)
    met = found is not None and (first or found) <= found <= (last or found)
    told = f"study date {first or 'any'} to {last or 'any'}"
    # The date itself identifies a patient together with little else: it is not told.
    return Reason(told, "a date" if found else "", met)


def study_dates(wanted: Dates, today: date) -> tuple[date | None, date | None]:
    """First and last day that are wanted; None for no end."""
    if wanted.within_days is not None:
        return today - timedelta(days=wanted.within_days), today
    return wanted.since, wanted.until


def _text(value: object) -> str:
    """Of a value that may be several; the kernel of some scanners is."""
    if value is None or isinstance(value, str):
        return value or ""
    return "\\".join(str(part) for part in value) if hasattr(value, "__iter__") else str(value)


def _date(text: str) -> date | None:
    try:
        return date(int(text[:4]), int(text[4:6]), int(text[6:8]))
    except ValueError:
        return None
