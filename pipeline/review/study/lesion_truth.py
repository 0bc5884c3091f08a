"""Where the lesions of a reader study are: what its marks are held to.

A YAML, written by who plans the study and never shown to readers. DIR/review keeps it as it was
when the study was planned, with the cases by the names that the page asks for.
"""

from __future__ import annotations

import json
from hashlib import sha256
from pathlib import Path

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from pipeline.core.atomic_files import write_json
from pipeline.core.errors import ConfigError
from pipeline.review.audit_log import FOLDER
from pipeline.review.decisions import audit_of
from pipeline.review.series_index import DENOISED, ORIGINAL
from pipeline.review.worklist import Collection

TRUTH = "lesions.json"
PLACES = "lesions given"
#: Each kind of case, with lesions and without, has at least so many: one can then be left out.
FEWEST_OF_A_KIND = 2
#: How far the weights of a case's lesions may be from 1 in sum.
ROUNDING = 1e-6

Place = tuple[float, float, float]


class Lesion(BaseModel):
    """One lesion. at_mm: LPS. radius_mm: a mark no farther away is on it; the list's own by
    default. weight: how much it counts among its case's lesions, which add up to 1; alike by
    default."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    at_mm: Place
    radius_mm: float | None = Field(default=None, gt=0)
    weight: float | None = Field(default=None, gt=0, le=1)


class LesionTruth(BaseModel):
    """All lesions of all cases of a study. radius_mm: of lesions that give none. cases: the lesions
    of each case that is read, by its name; [] where there is none."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    radius_mm: float = Field(gt=0)
    cases: dict[str, list[Lesion]]

    @model_validator(mode="after")
    def _usable(self) -> LesionTruth:
        for case, lesions in self.cases.items():
            given = [lesion.weight for lesion in lesions if lesion.weight is not None]
            if given and len(given) < len(lesions):
                raise ValueError(f"{case}: give weights to all of its lesions or to none")
            if given and abs(sum(given) - 1) > ROUNDING:
                raise ValueError(f"{case}: the weights of its lesions add up to {sum(given):g}")
        for kind, cases in (("with", self.with_lesions), ("without", self.without)):
            if len(cases) < FEWEST_OF_A_KIND:
                raise ValueError(
                    f"{len(cases)} cases {kind} lesions; {FEWEST_OF_A_KIND} or more are needed"
                )
        return self

    @property
    def with_lesions(self) -> list[str]:
        """The cases that have any."""
        return sorted(case for case, lesions in self.cases.items() if lesions)

    @property
    def without(self) -> list[str]:
        """The cases that have none."""
        return sorted(case for case, lesions in self.cases.items() if not lesions)

    def weights(self, case: str) -> list[float]:
        """Of a case's lesions; they add up to 1."""
        lesions = self.cases[case]
        return [lesion.weight or 1 / len(lesions) for lesion in lesions]

    def radius_of(self, lesion: Lesion) -> float:
        """How far a mark on a lesion may be from it, mm."""
        return lesion.radius_mm or self.radius_mm


def read_truth(path: Path, collection: Collection) -> LesionTruth:
    """Read a YAML whose cases are named as the worklist names them; they get the page's names.

    Raises ConfigError for a file that is none, for a case that is not in the collection, and for
    one without an original and a denoised series.
    """
    try:
        found = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"{path} cannot be read: {' '.join(str(error).split())}") from error
    truth = _validated(found, path)
    known = {}
    for case in collection.cases.values():
        if case.folder and {ORIGINAL, DENOISED} <= case.shown.keys():
            known[case.folder.relative_to(collection.root).as_posix()] = case.cid
    unknown = sorted(truth.cases.keys() - known.keys())
    if unknown:
        raise ConfigError(f"{path}: {unknown[0]} is no case with an original and a denoised series")
    named = {known[name]: lesions for name, lesions in truth.cases.items()}
    return truth.model_copy(update={"cases": named})


def save_truth(root: Path, truth: LesionTruth) -> None:
    """Keep it with the study; the audit log gets its digest."""
    path = root / FOLDER / TRUTH
    write_json(path, json.loads(truth.model_dump_json()))
    audit_of(root).append({"act": PLACES, "sha256": sha256(path.read_bytes()).hexdigest()})


def kept_truth(root: Path) -> LesionTruth:
    """The lesions of a folder's study. Raises ConfigError where they are not there, or are others
    than those that it was planned with."""
    path = root / FOLDER / TRUTH
    try:
        content = path.read_bytes()
        found = json.loads(content)
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path} cannot be read: {error}") from error
    planned = [record["sha256"] for record in audit_of(root).records() if record["act"] == PLACES]
    if planned[-1:] != [sha256(content).hexdigest()]:
        raise ConfigError(f"{path} changed since the study was planned: restore it from a backup")
    return _validated(found, path)


def _validated(found: object, path: Path) -> LesionTruth:
    try:
        return LesionTruth.model_validate(found)
    except ValidationError as error:
        problem = error.errors()[0]
        where = ".".join(str(part) for part in problem["loc"])
        raise ConfigError(f"{path}: {where}{': ' if where else ''}{problem['msg']}") from None
