"""How many readers and cases a reader study needs, fixed before its first reading.

The readers' differences vary by reader, by case and by what is left; their mean is tested as in
`reader_comparison`. Hillis, Obuchowski & Berbaum, Acad Radiol 18 (2011) 129, have the same
calculation in terms of covariances.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, model_validator
from scipy import stats

from pipeline.core.errors import ConfigError, NothingUsableError
from pipeline.review.decisions import audit_of
from pipeline.review.study.reader_comparison import (
    LEVEL,
    compare_scores,
    hillis_degrees_of_freedom,
    score_covariances,
    unseen_share,
    unseen_share_of_merit,
)
from pipeline.review.study.reader_study import CRITERIA, readers_of

PLANNED = "study planned"
#: A study of more cases is not looked for.
MOST_CASES = 1000
FEWEST_CASES = 2


class StudyPlan(BaseModel):
    """What a study is to show, and how much the differences are expected to vary.

    readers: who each read all cases. margin: the largest loss taken for none, points of the scale
    of 1 to 5. power: the chance that every criterion is found not inferior where no image is worse.
    reader_sd, case_sd, residual_sd: standard deviations of denoised minus original, in points:
    between readers, between cases, and of one reading of one case beyond both. Those given here are
    assumptions; a pilot's are better. forced_choice: readers must prefer one side (two-alternative
    forced choice); otherwise they may say neither. lesions: readers mark lesions instead; the
    points are then of JAFROC's figure of merit, from 0 to 1, the only one to be found not inferior,
    and half of the cases have lesions.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    readers: int = Field(default=5, ge=2, le=100)
    margin: float = Field(default=0.5, gt=0, le=4)
    power: float = Field(default=0.8, gt=0, lt=1)
    reader_sd: float = Field(default=0.2, ge=0, le=4)
    case_sd: float = Field(default=0.4, ge=0, le=4)
    residual_sd: float = Field(default=0.6, gt=0, le=4)
    forced_choice: bool = False
    lesions: bool = False

    @model_validator(mode="after")
    def _one_kind(self) -> StudyPlan:
        if self.lesions and self.forced_choice:
            raise ValueError("where lesions are marked there are no two sides to choose from")
        return self

    @property
    def power_of_each(self) -> float:
        """Of each criterion, so that all together are found with `power`, however related."""
        return 1 - (1 - self.power) / (1 if self.lesions else len(CRITERIA))

    def narrowest(self, cases: int) -> float:
        """No interval over so many cases reaches less far than this from its middle, in points."""
        return unseen_share_of_merit(cases // 2) if self.lesions else unseen_share(cases)

    def power_of(self, readers: int, cases: int) -> float:
        """The chance that one criterion is found not inferior where nothing is worse."""
        by_reader = (self.reader_sd**2 + self.residual_sd**2 / cases) / 2
        by_case = readers * self.case_sd**2 / cases / 2
        freedom = hillis_degrees_of_freedom(by_reader, by_case, readers)
        error = float(np.sqrt(2 / readers * (by_reader + by_case)))
        reach = max(float(stats.t.ppf((1 + LEVEL) / 2, freedom)), self.narrowest(cases) / error)
        return float(stats.nct.sf(reach, freedom, self.margin / error))

    def cases_needed(self, readers: int | None = None) -> int | None:
        """The fewest cases for so many readers, `self.readers` by default; None where not even
        MOST_CASES are enough."""
        readers = self.readers if readers is None else readers
        step = 2 if self.lesions else 1  # as many with lesions as without
        low, high = FEWEST_CASES // step * step - step, MOST_CASES
        if self.power_of(readers, high) < self.power_of_each:
            return None
        while high - low > step:
            middle = (low + high) // (2 * step) * step
            if self.power_of(readers, middle) >= self.power_of_each:
                high = middle
            else:
                low = middle
        return high


#: The usual plan where lesions are marked. The deviations between cases and beyond are those of
#: five modalities, four readers and 200 mammograms (Zanca et al., Med Phys 36 (2009) 765) by the
#: covariances that RJafroc's documentation prints; that between readers, estimated there as none,
#: is an assumption.
LESION_PLAN = StudyPlan(lesions=True, margin=0.05, reader_sd=0.01, case_sd=0.11, residual_sd=0.44)


def read_plan(root: Path) -> StudyPlan:
    """The plan that a folder's audit log has; the usual one where none was made."""
    records = [record for record in audit_of(root).records() if record["act"] == PLANNED]
    if not records:
        return StudyPlan()
    last = records[-1]
    return StudyPlan(**{name: last[name] for name in StudyPlan.model_fields if name in last})


def require_no_readings(root: Path) -> None:
    """Raises ConfigError once a reader has marked anything: a study is planned before."""
    if readers_of(root):
        raise ConfigError(f"{root} has readings: a study is planned before its first reading")


def set_plan(root: Path, plan: StudyPlan) -> None:
    """Record the plan; raises ConfigError once a reader has marked anything, or where no number
    of cases is enough."""
    require_no_readings(root)
    if plan.cases_needed() is None:
        raise ConfigError(
            f"not even {MOST_CASES} cases are enough for {plan.readers} readers who differ by "
            f"{plan.reader_sd:g} points from each other: plan more readers"
        )
    audit_of(root).append({"act": PLANNED, **json.loads(plan.model_dump_json())})


def deviations_of_pilot(scores: list[NDArray[np.float64]]) -> dict[str, float]:
    """A plan's standard deviations as a pilot has them: the largest of its criteria.

    scores: [2, readers, cases] of each criterion, 2 readers and 2 cases or more, else
    NothingUsableError. From a small pilot they are rough themselves.
    """
    if min(scores[0].shape[1:]) < FEWEST_CASES:
        raise NothingUsableError("a pilot needs 2 readers who each read the same 2 cases or more")
    found = np.array([_variances(each) for each in scores])
    by_reader, by_case, residual = np.sqrt(np.maximum(found, 0)).max(axis=0).round(3).tolist()
    # Equal marks alone would promise that no reader ever differs from another.
    return {"reader_sd": by_reader, "case_sd": by_case, "residual_sd": max(residual, 0.1)}


def _variances(scores: NDArray[np.float64]) -> tuple[float, float, float]:
    """Of the differences: by reader, by case, and the rest; an estimate may be below 0."""
    cases = scores.shape[2]
    errors = score_covariances(scores)
    by_case = errors.cov2 - errors.cov3
    residual = errors.variance - errors.cov1 - by_case
    by_reader = compare_scores(scores).reader_variance - residual
    return 2 * by_reader, 2 * cases * by_case, 2 * cases * residual
