"""A blinded, randomised reader study: who sees what when, on which side, and what they said.

Each reader has an order and sides of their own, drawn from the study's seed and their name, and
gets some cases twice, for intra-reader agreement. Scores are appended as they are given; the
last of an item counts, so that a study goes on where it stopped.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from pipeline.core.atomic_files import write_json
from pipeline.core.errors import ConfigError
from pipeline.review.audit_log import FOLDER, Journal
from pipeline.review.decisions import READER
from pipeline.review.series_index import DENOISED, ORIGINAL

STUDY, READINGS = "study.json", "readings"
#: Scored 1 (unusable) to 5 (excellent), on each side.
CRITERIA = ("noise", "sharpness", "artefacts", "texture", "lesion conspicuity", "confidence")
SIDES = ("left", "right")
#: Of the cases, so many are read a second time.
REPEATED = 0.25

Likert = Literal[1, 2, 3, 4, 5]


class Study(BaseModel):
    """Which cases are read; fixed at its first use, so that all readers read the same."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    seed: int = 0
    cases: list[str]
    repeated: float = Field(default=REPEATED, ge=0, le=1)


class Score(BaseModel):
    """What a reader said of one item so far. preference: the better side, or neither."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    item: str
    left: dict[str, Likert] = {}
    right: dict[str, Likert] = {}
    preference: Literal["left", "right", "neither"] | None = None

    @property
    def complete(self) -> bool:
        full = set(CRITERIA)
        return full == self.left.keys() == self.right.keys() and self.preference is not None


class Item(BaseModel):
    """One reading. left: the role shown there, which stays on the server until the statistics."""

    model_config = ConfigDict(frozen=True)

    item: str
    case: str
    left: str
    repeat: bool


def open_study(root: Path, cases: list[str]) -> Study:
    """The folder's study; made of `cases`, those with both series, where there is none.

    Raises ConfigError where there is nothing to compare or the file cannot be understood.
    """
    path = root / FOLDER / STUDY
    if path.exists():
        try:
            return Study.model_validate_json(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise ConfigError(f"{path} is no study: {error}") from error
    if not cases:
        raise ConfigError(f"{root} has no case with both an original and a denoised series")
    study = Study(cases=sorted(cases))
    write_json(path, json.loads(study.model_dump_json()))
    return study


def plan(study: Study, reader: str) -> list[Item]:
    """A reader's items in their order: every case once, then the repeats."""
    drawn = hashlib.sha256(f"{study.seed}/{reader}".encode()).digest()
    generator = np.random.default_rng(int.from_bytes(drawn[:8], "big"))
    order = list(generator.permutation(study.cases))
    count = int(np.ceil(study.repeated * len(order)))
    again = list(generator.permutation(order)[:count])
    if len(order) > 1 and again and again[0] == order[-1]:
        again = again[1:] + again[:1]  # nobody reads a case twice running, where there are others
    return [
        Item(
            item=hashlib.sha256(f"{study.seed}/{reader}/{number}".encode()).hexdigest()[:12],
            case=case,
            left=ORIGINAL if generator.integers(2) else DENOISED,
            repeat=number >= len(order),
        )
        for number, case in enumerate(order + again)
    ]


def require_reader(reader: str) -> str:
    """Raises ConfigError for a name that is none."""
    if not READER.fullmatch(reader):
        raise ConfigError("a reader's name is 1 to 32 letters, digits, - or _")
    return reader


def readings_of(root: Path, reader: str) -> Journal:
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
    """The last score of each item."""
    fields = Score.model_fields.keys()
    records = readings_of(root, reader).records()
    rows = [Score(**{k: v for k, v in record.items() if k in fields}) for record in records]
    return {score.item: score for score in rows}


def unblinded(root: Path, study: Study) -> list[dict[str, Any]]:
    """A row for each complete reading of each reader: scores by what was read, not by side.

    preference: 1 for denoised, -1 for original, 0 for neither.
    """
    rows = []
    folder = root / FOLDER / READINGS
    for reader in sorted(path.stem for path in folder.glob("*.jsonl")):
        given = scores(root, reader)
        for item in plan(study, reader):
            score = given.get(item.item)
            if score is None or not score.complete:
                continue
            rows.append(_row(reader, item, score))
    return rows


def _row(reader: str, item: Item, score: Score) -> dict[str, Any]:
    denoised_side = "right" if item.left == ORIGINAL else "left"
    sides = {"left": score.left, "right": score.right}
    denoised = sides.pop(denoised_side)
    original = next(iter(sides.values()))
    preference = {"neither": 0, denoised_side: 1}.get(score.preference or "", -1)
    told: dict[str, Any] = {
        "reader": reader,
        "case": item.case,
        "repeat": item.repeat,
        "denoised_side": denoised_side,
        "preference": preference,
    }
    for name in CRITERIA:
        told[f"original {name}"] = original[name]
        told[f"denoised {name}"] = denoised[name]
    return told


def as_csv(rows: list[dict[str, Any]]) -> str:
    """The rows of `unblinded` as a table."""
    text = io.StringIO()
    if rows:
        writer = csv.DictWriter(text, rows[0].keys(), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    return text.getvalue()
