"""A reader study in which lesions are marked: one series at a time, whose kind no reader learns.

Each reader reads every case twice, original and denoised, in an order of their own: all cases once,
half of them denoised, and only then all of them in the other kind. Marks are appended; the last
ones of an item count.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, model_validator

from pipeline.core.errors import ConfigError
from pipeline.review.series_index import DENOISED, ORIGINAL
from pipeline.review.study.froc import UNMARKED, Marked
from pipeline.review.study.lesion_truth import LesionTruth, Place
from pipeline.review.study.reader_study import (
    ItemRecord,
    Likert,
    Study,
    item_name,
    last_records,
    none_twice_in_a_row,
    reader_generator,
    readers_of,
    readings_of,
    require_reader,
)

ROLES = (ORIGINAL, DENOISED)
MAX_MARKS = 100


class LesionMark(BaseModel):
    """A place that may be a lesion. at_mm: LPS. rating: how sure the reader is, 1 to 5; None until
    it is given."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    at_mm: Place
    rating: Likert | None = None


class Marks(ItemRecord):
    """A reader's marks of one item so far. ended: there are no more, and each has its rating."""

    marks: list[LesionMark] = Field(default=[], max_length=MAX_MARKS)
    ended: bool = False

    @model_validator(mode="after")
    def _rated(self) -> Marks:
        if self.ended and any(mark.rating is None for mark in self.marks):
            raise ValueError("rate every mark before the reading ends")
        return self


class LesionItem(BaseModel):
    """A series to be read. role: ORIGINAL or DENOISED."""

    model_config = ConfigDict(frozen=True)

    item: str
    case: str
    role: str


def plan_of(study: Study, reader: str) -> list[LesionItem]:
    """A reader's items in their order; a case comes back after all others were read once."""
    generator = reader_generator(study, reader)
    order = list(generator.permutation(study.cases))
    denoised_first = set(generator.permutation(order)[: len(order) // 2])
    again = none_twice_in_a_row(order, list(generator.permutation(order)))
    rows = [(case, case in denoised_first) for case in order]
    rows += [(case, case not in denoised_first) for case in again]
    return [
        LesionItem(
            item=item_name(study, reader, f"marks/{number}"),
            case=case,
            role=DENOISED if denoised else ORIGINAL,
        )
        for number, (case, denoised) in enumerate(rows)
    ]


def save(root: Path, study: Study, reader: str, marks: Marks) -> None:
    """Append an item's marks; raises ConfigError for an item that is not the reader's."""
    require_reader(reader)
    if marks.item not in {item.item for item in plan_of(study, reader)}:
        raise ConfigError(f"{reader} has no item {marks.item}")
    readings_of(root, reader).append(json.loads(marks.model_dump_json()))


def last_marks(root: Path, reader: str) -> dict[str, Marks]:
    """The last marks of each item that a reader began, by item."""
    return last_records(root, reader, Marks)


def progress(root: Path, study: Study) -> dict[str, tuple[int, int]]:
    """How many items each reader who began has ended, and of how many."""
    return {
        reader: (
            sum(marks.ended for marks in last_marks(root, reader).values()),
            len(plan_of(study, reader)),
        )
        for reader in readers_of(root)
    }


@dataclass(frozen=True)
class Localised:
    """A reading that has ended, by what was read."""

    reader: str
    case: str
    role: str
    marks: tuple[LesionMark, ...]


def unblinded(root: Path, study: Study) -> list[Localised]:
    """Every ended reading of every reader of a study."""
    found = []
    for reader in readers_of(root):
        last = last_marks(root, reader)
        for item in plan_of(study, reader):
            marks = last.get(item.item)
            if marks is not None and marks.ended:
                found.append(Localised(reader, item.case, item.role, tuple(marks.marks)))
    return found


@dataclass(frozen=True)
class Held:
    """A mark held to the truth. lesion: its number in the case, None of a false mark. away_mm: from
    the nearest lesion, None where the case has none."""

    mark: LesionMark
    lesion: int | None
    away_mm: float | None


def held_to(truth: LesionTruth, case: str, marks: tuple[LesionMark, ...]) -> list[Held]:
    """Which lesion each mark is on: the nearest of those whose radius it is within."""
    lesions = truth.cases[case]
    if not lesions:
        return [Held(mark, None, None) for mark in marks]
    places = np.array([lesion.at_mm for lesion in lesions])
    radii = np.array([truth.radius_of(lesion) for lesion in lesions])
    found = []
    for mark in marks:
        away = np.linalg.norm(places - np.array(mark.at_mm), axis=1)
        inside = np.where(away <= radii, away, np.inf)
        lesion = int(inside.argmin()) if np.isfinite(inside).any() else None
        found.append(Held(mark, lesion, float(away.min() if lesion is None else away[lesion])))
    return found


def common_cases(readings: list[Localised]) -> list[str]:
    """The cases that every reader read in both kinds."""
    ended = {(each.reader, each.case, each.role) for each in readings}
    readers, cases = {each.reader for each in readings}, {each.case for each in readings}
    return sorted(
        case
        for case in cases
        if all((reader, case, role) in ended for reader in readers for role in ROLES)
    )


def marked(readings: list[Localised], truth: LesionTruth, cases: list[str]) -> Marked:
    """The marks of cases that all readers read in both kinds, as figures of merit are made of."""
    readers = sorted({each.reader for each in readings})
    with_lesions = [case for case in cases if truth.cases[case]]
    order = with_lesions + [case for case in cases if not truth.cases[case]]
    first = np.cumsum([0, *(len(truth.cases[case]) for case in with_lesions)])
    most = max((len(each.marks) for each in readings), default=0)
    lesions = np.full((2, len(readers), first[-1]), UNMARKED)
    false = np.full((2, len(readers), len(order), most), UNMARKED)
    for each in readings:
        if each.case not in cases:
            continue
        at = ROLES.index(each.role), readers.index(each.reader)
        case = order.index(each.case)
        for number, held in enumerate(held_to(truth, each.case, each.marks)):
            rating = float(held.mark.rating or UNMARKED)
            if held.lesion is None:
                false[(*at, case, number)] = rating
            else:
                lesion = (*at, int(first[case]) + held.lesion)
                lesions[lesion] = max(lesions[lesion], rating)
    return Marked(
        lesions=lesions,
        case_of=np.repeat(np.arange(len(with_lesions)), np.diff(first)),
        weights=np.array([w for case in with_lesions for w in truth.weights(case)]),
        false_marks=false,
    )


def as_csv(readings: list[Localised], truth: LesionTruth) -> str:
    """The marks as CSV with a head line, one a row; a reading without marks has a row too, without
    place. lesion: its number in the truth from 1; empty for a false mark. "" without readings."""
    rows = [row for each in readings for row in _rows(each, truth)]
    if not rows:
        return ""
    text = io.StringIO()
    writer = csv.DictWriter(text, rows[0].keys(), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _rows(each: Localised, truth: LesionTruth) -> Iterator[Mapping[str, str | int | float]]:
    about = {"reader": each.reader, "case": each.case, "series": each.role}
    lesions = len(truth.cases[each.case])
    held = held_to(truth, each.case, each.marks)
    places = [("x_mm", 0), ("y_mm", 1), ("z_mm", 2)]
    for number, one in enumerate(held, start=1):
        at = {name: round(one.mark.at_mm[axis], 3) for name, axis in places}
        away = "" if one.away_mm is None else round(one.away_mm, 3)
        on = "" if one.lesion is None else one.lesion + 1
        marks = {"mark": number, **at, "rating": one.mark.rating or ""}
        yield {**about, "lesions_in_case": lesions, **marks, "lesion": on, "away_mm": away}
    if not held:
        nothing = dict.fromkeys(("mark", "x_mm", "y_mm", "z_mm", "rating", "lesion", "away_mm"), "")
        yield {**about, "lesions_in_case": lesions, **nothing}
