"""What a study in which lesions are marked shows: JAFROC and its parts, over readers and cases.

The figures of `froc`, compared by `reader_comparison` with the jackknife over cases.
Denoised is not inferior where the interval of the weighted JAFROC lies above minus the margin, once
the study has the readers and cases of its plan.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np

from pipeline.core.errors import NothingUsableError
from pipeline.core.types import Json
from pipeline.review.study.agreement import Interval
from pipeline.review.study.froc import (
    Marked,
    Merit,
    false_marks_per_case,
    jafroc,
    lesions_found,
)
from pipeline.review.study.lesion_truth import FEWEST_OF_A_KIND, LesionTruth
from pipeline.review.study.localisation import ROLES, Localised, common_cases, marked
from pipeline.review.study.power import LESION_PLAN, StudyPlan
from pipeline.review.study.reader_comparison import (
    Comparison,
    compare_merits,
    unseen_share,
    unseen_share_of_merit,
)

#: The figure that decides.
WEIGHTED = "JAFROC, weighted"
RATINGS = (5, 4, 3, 2, 1)


@dataclass(frozen=True)
class MeritStatistics:
    """A figure of merit. original, denoised: means over readers. difference: denoised minus
    original, with its interval over readers and cases, standard error, Hillis' degrees of freedom
    (None for infinitely many) and p of no difference; None for fewer than two readers.
    non_inferior: of the one that decides, None below the plan."""

    original: float
    denoised: float
    difference: float | None = None
    interval: Interval = (None, None)
    standard_error: float | None = None
    degrees_of_freedom: float | None = None
    p: float | None = None
    non_inferior: bool | None = None


@dataclass(frozen=True)
class OperatingPoint:
    """A point of the FROC, a mean over readers: marks rated `rating` or higher. llf: the share of
    lesions found. nlf: false marks per case."""

    rating: int
    nlf: float
    llf: float


@dataclass(frozen=True)
class LocalisationStatistics:
    """A study in which lesions are marked.

    cases, with_lesions, lesions: of the cases that all readers read in both kinds, to which all
    figures refer. readings: that ended, of any case. readers_needed, cases_needed: of the plan,
    half of them with lesions. no_verdict: what lacks of that, "" where nothing does. criteria: the
    figure that decides. figures: the others. froc: of each kind of series.
    """

    readers: list[str]
    cases: int
    with_lesions: int
    lesions: int
    readings: int
    margin: float
    power: float
    readers_needed: int
    cases_needed: int | None
    no_verdict: str
    criteria: dict[str, MeritStatistics]
    figures: dict[str, MeritStatistics]
    froc: dict[str, list[OperatingPoint]]

    def to_dict(self) -> Json:
        """As `ldct review stats --json` has it."""
        return asdict(self)


def localisation_statistics(
    readings: list[Localised], truth: LesionTruth, plan: StudyPlan = LESION_PLAN
) -> LocalisationStatistics:
    """Compute all figures of the cases that all readers read in both kinds.

    Raises NothingUsableError where these are fewer than two with lesions and two without.
    """
    found = common_marks(readings, truth)
    with_lesions = found.with_lesions
    without = found.cases - with_lesions
    readers = sorted({each.reader for each in readings})
    no_verdict = _lacking(len(readers), with_lesions, without, plan)
    reach = unseen_share_of_merit(min(with_lesions, without))
    return LocalisationStatistics(
        readers=readers,
        cases=found.cases,
        with_lesions=with_lesions,
        lesions=len(found.weights),
        readings=len(readings),
        margin=plan.margin,
        power=plan.power,
        readers_needed=plan.readers,
        cases_needed=plan.cases_needed(),
        no_verdict=no_verdict,
        criteria={
            WEIGHTED: _statistics(
                jafroc(found, weighted=True), reach, None if no_verdict else plan.margin
            )
        },
        figures={
            "JAFROC": _statistics(jafroc(found, weighted=False), reach),
            "lesions found": _statistics(lesions_found(found), unseen_share(with_lesions)),
            "false marks per case": _statistics(
                false_marks_per_case(found), unseen_share(found.cases)
            ),
        },
        froc={role: _froc(found, k) for k, role in enumerate(ROLES)},
    )


def common_marks(readings: list[Localised], truth: LesionTruth) -> Marked:
    """The marks of the cases that all readers read in both kinds; raises NothingUsableError where
    these are fewer than two with lesions and two without."""
    cases = common_cases(readings)
    with_lesions = sum(bool(truth.cases[case]) for case in cases)
    without = len(cases) - with_lesions
    if min(with_lesions, without) < FEWEST_OF_A_KIND:
        raise NothingUsableError(
            f"all readers ended {with_lesions} cases with lesions and {without} without, original "
            f"and denoised: figures need {FEWEST_OF_A_KIND} of either kind"
        )
    return marked(readings, truth, cases)


def weighted_merit(readings: list[Localised], truth: LesionTruth) -> Merit:
    """The figure that decides; raises NothingUsableError as common_marks does."""
    return jafroc(common_marks(readings, truth), weighted=True)


def _lacking(readers: int, with_lesions: int, without: int, plan: StudyPlan) -> str:
    """What the plan asks for that is not there yet, "" where all is."""
    needed = plan.cases_needed()
    enough = needed is not None and min(with_lesions, without) >= needed // 2
    if enough and readers >= plan.readers:
        return ""
    cases = "more cases than can be read"
    if needed is not None:
        cases = f"the same {needed // 2} cases with lesions and {needed // 2} without"
    return (
        f"no verdict: the plan needs {plan.readers} readers who each read {cases}; "
        f"{readers} read {with_lesions} with and {without} without"
    )


def _statistics(merit: Merit, narrowest: float, margin: float | None = None) -> MeritStatistics:
    """margin: of non-inferiority; None where there is no verdict."""
    original, denoised = (round(float(value), 4) for value in merit.values.mean(axis=1))
    if merit.values.shape[1] < 2:
        return MeritStatistics(original, denoised)
    compared = compare_merits(merit.values, merit.left_out, narrowest=narrowest)
    low, high = compared.interval
    return MeritStatistics(
        original=original,
        denoised=denoised,
        difference=round(compared.difference, 4),
        interval=(round(low, 4), round(high, 4)),
        standard_error=round(compared.standard_error, 4),
        degrees_of_freedom=_finite(compared),
        p=compared.p,
        non_inferior=None if margin is None else low > -margin,
    )


def _finite(compared: Comparison) -> float | None:
    """None for infinite degrees of freedom, which JSON has no number for."""
    freedom = compared.degrees_of_freedom
    return round(freedom, 2) if np.isfinite(freedom) else None


def _froc(found: Marked, modality: int) -> list[OperatingPoint]:
    """From the highest rating down."""
    return [
        OperatingPoint(
            rating=rating,
            nlf=round(float(false_marks_per_case(found, rating).values[modality].mean()), 4),
            llf=round(float(lesions_found(found, rating).values[modality].mean()), 4),
        )
        for rating in RATINGS
    ]
