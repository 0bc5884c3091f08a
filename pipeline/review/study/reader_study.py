"""A blinded, randomised reader study: the order and sides of each reader, and their scores.

Each reader has an order and sides of their own, drawn from the study's seed and their name, and
gets some cases twice, for intra-reader agreement. Scores are appended; the last one of an
item counts, so that a study goes on where it stopped.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeVar

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from pipeline.core.atomic_files import write_json
from pipeline.core.errors import ConfigError
from pipeline.review.access.roles import NAME_RULE, is_reader
from pipeline.review.audit_log import FOLDER, Journal
from pipeline.review.series_index import DENOISED, ORIGINAL

STUDY, READINGS = "study.json", "readings"
#: Scored 1 (unusable) to 5 (excellent), on each side.
CRITERIA = ("noise", "sharpness", "artefacts", "texture", "lesion conspicuity", "confidence")
SIDES = ("left", "right")
#: The share of cases that are read a second time.
REPEATED = 0.25

Likert = Literal[1, 2, 3, 4, 5]


class Study(BaseModel):
    """The cases to read; fixed at first use, so that all readers read the same.

    seed: of the orders and sides. repeated: the share of cases that are read a second time.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    seed: int = 0
    cases: list[str]
    repeated: float = Field(default=REPEATED, ge=0, le=1)


class ItemRecord(BaseModel):
    """What a reader said of one item so far."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    item: str


Said = TypeVar("Said", bound=ItemRecord)


class Score(ItemRecord):
    """A reader's scores of one item so far, by criterion.

    preference: the better side, or neither.
    """

    left: dict[str, Likert] = {}
    right: dict[str, Likert] = {}
    preference: Literal["left", "right", "neither"] | None = None

    @property
    def complete(self) -> bool:
        """Whether every criterion is scored on both sides, and a preference stated."""
        full = set(CRITERIA)
        return full == self.left.keys() == self.right.keys() and self.preference is not None


class Item(BaseModel):
    """A case to be read once. left: the role shown there, which no reader learns.

    repeat: the reader has read the case before.
    """

    model_config = ConfigDict(frozen=True)

    item: str
    case: str
    left: str
    repeat: bool


def open_study(root: Path, cases: list[str]) -> Study:
    """Read the folder's study, or make one of `cases` where there is none.

    cases: those with an original and a denoised series. Raises ConfigError where there is none, or
    the file cannot be understood.
    """
    path = root / FOLDER / STUDY
    if path.exists():
        try:
            return Study.model_validate_json(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise ConfigError(f"{path} is no study: {error}") from error
    if not cases:
        raise ConfigError(f"{root} has no case with both an original and a denoised series")
    return replace_study(root, cases)


def replace_study(root: Path, cases: list[str]) -> Study:
    """Fix a folder's study to these cases, before its first reading."""
    study = Study(cases=sorted(cases))
    write_json(root / FOLDER / STUDY, json.loads(study.model_dump_json()))
    return study


def reader_generator(study: Study, reader: str) -> np.random.Generator:
    """What a reader's order and sides are drawn from: the same every time."""
    digest = hashlib.sha256(f"{study.seed}/{reader}".encode()).digest()
    return np.random.default_rng(int.from_bytes(digest[:8], "big"))


def plan(study: Study, reader: str) -> list[Item]:
    """A reader's items in their order: every case once, then the repeats."""
    generator = reader_generator(study, reader)
    order = list(generator.permutation(study.cases))
    count = int(np.ceil(study.repeated * len(order)))
    repeats = none_twice_in_a_row(order, list(generator.permutation(order)[:count]))
    return [
        Item(
            item=item_name(study, reader, str(number)),
            case=case,
            left=ORIGINAL if generator.integers(2) else DENOISED,
            repeat=number >= len(order),
        )
        for number, case in enumerate(order + repeats)
    ]


def none_twice_in_a_row(order: list[str], again: list[str]) -> list[str]:
    """Cases that are read again after all others, begun with another than the last, if there is."""
    if len(order) > 1 and again and again[0] == order[-1]:
        return again[1:] + again[:1]
    return again


def item_name(study: Study, reader: str, number: str) -> str:
    """What an item is known by, which says nothing of its case."""
    return hashlib.sha256(f"{study.seed}/{reader}/{number}".encode()).hexdigest()[:12]


def require_reader(reader: str) -> str:
    """Return the reader's name; raises ConfigError for one that cannot be one."""
    if not is_reader(reader):
        raise ConfigError(f"a reader's name is {NAME_RULE}")
    return reader


def readings_of(root: Path, reader: str) -> Journal:
    """The file that a reader's scores are appended to."""
    return Journal(root / FOLDER / READINGS / f"{require_reader(reader)}.jsonl")


def save(root: Path, study: Study, reader: str, score: Score) -> None:
    """Append a score; raises ConfigError for an item that is not the reader's."""
    require_reader(reader)
    if score.item not in {item.item for item in plan(study, reader)}:
        raise ConfigError(f"{reader} has no item {score.item}")
    unknown = (score.left.keys() | score.right.keys()) - set(CRITERIA)
    if unknown:
        raise ConfigError(f"unknown criteria: {', '.join(sorted(unknown))}")
    readings_of(root, reader).append(json.loads(score.model_dump_json()))


def scores(root: Path, reader: str) -> dict[str, Score]:
    """The last score of each item that a reader scored, by item."""
    return last_records(root, reader, Score)


def last_records(root: Path, reader: str, kind: type[Said]) -> dict[str, Said]:
    """The last record of each item that a reader began, by item."""
    fields = kind.model_fields.keys()
    records = readings_of(root, reader).records()
    rows = [kind(**{k: v for k, v in record.items() if k in fields}) for record in records]
    return {row.item: row for row in rows}


@dataclass(frozen=True)
class Reading:
    """A complete reading of one case, by what was read and not by side.

    denoised_side: left or right. preference: 1 for denoised, -1 for original, 0 for neither.
    original, denoised: the score of each criterion, 1 to 5.
    """

    reader: str
    case: str
    repeat: bool
    denoised_side: str
    preference: int
    original: Mapping[str, int]
    denoised: Mapping[str, int]

    @classmethod
    def of(cls, reader: str, item: Item, score: Score) -> Reading:
        """Unblind a complete score."""
        denoised_side = "right" if item.left == ORIGINAL else "left"
        left, right = dict(score.left), dict(score.right)
        original, denoised = (left, right) if denoised_side == "right" else (right, left)
        preference = {"neither": 0, denoised_side: 1}.get(score.preference or "", -1)
        return cls(reader, item.case, item.repeat, denoised_side, preference, original, denoised)

    def to_row(self) -> dict[str, str | int | bool]:
        """As a row of the CSV, a column for each criterion of each series."""
        names = ("reader", "case", "repeat", "denoised_side", "preference")
        row = {name: getattr(self, name) for name in names}
        for name in CRITERIA:
            row[f"original {name}"] = self.original[name]
            row[f"denoised {name}"] = self.denoised[name]
        return row


def readers_of(root: Path) -> list[str]:
    """Who has marked anything."""
    return sorted(path.stem for path in (root / FOLDER / READINGS).glob("*.jsonl"))


def progress(root: Path, study: Study) -> dict[str, tuple[int, int]]:
    """How many items each reader who began has completed, and of how many."""
    found = {}
    for reader in readers_of(root):
        last_scores, items = scores(root, reader), plan(study, reader)
        done = sum(score.complete for score in last_scores.values())
        found[reader] = done, len(items)
    return found


def unblinded(root: Path, study: Study) -> list[Reading]:
    """Every complete reading of every reader of a study."""
    readings = []
    for reader in readers_of(root):
        last_scores = scores(root, reader)
        for item in plan(study, reader):
            score = last_scores.get(item.item)
            if score is not None and score.complete:
                readings.append(Reading.of(reader, item, score))
    return readings


def as_csv(readings: list[Reading]) -> str:
    """The readings as CSV with a head line; "" without readings."""
    text = io.StringIO()
    rows = [reading.to_row() for reading in readings]
    if rows:
        writer = csv.DictWriter(text, rows[0].keys(), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    return text.getvalue()
