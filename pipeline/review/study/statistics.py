"""The statistics of a reader study: agreement, differences, and non-inferiority of denoised.

Differences by the method of Obuchowski and Rockette, readers and cases random, and
non-inferiority by the lower end of their 95 % interval above minus the margin (CONSORT extension,
Piaggio et al. 2012), once the study has the readers and cases of its plan. Weighted kappa with
quadratic weights (Cohen 1968), with percentile bootstraps over cases, and Wilcoxon's signed-rank
test with Pratt's treatment of zeros (1959) on one difference per case.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from pipeline.core.errors import NothingUsableError
from pipeline.core.types import Json
from pipeline.metrics.bootstrap import LEVEL
from pipeline.review.study.agreement import Interval, Kappa, kappa_of, pairs_of_readers, repeats
from pipeline.review.study.power import StudyPlan
from pipeline.review.study.reader_comparison import Comparison, compare_scores, compare_to_half
from pipeline.review.study.reader_study import CRITERIA, Reading

#: The exact test enumerates all signs of so many cases at most: 65536.
MAX_EXACT_CASES = 16


@dataclass(frozen=True)
class CriterionStatistics:
    """One criterion, in points of the Likert scale.

    original, denoised: mean scores of all first readings. The others are of the cases that all
    readers read: difference: denoised minus original, with its interval over readers and cases,
    standard error, Hillis' degrees of freedom and p of no difference; None for fewer than two
    readers or cases. non_inferior: the interval lies above minus the margin; None below the
    readers and cases of the study's plan.
    """

    original: float
    denoised: float
    difference: float | None
    interval: Interval
    standard_error: float | None
    degrees_of_freedom: float | None
    p: float | None
    non_inferior: bool | None
    wilcoxon_p: float | None
    intra_reader_kappa: Kappa | None
    inter_reader_kappa: Kappa | None


@dataclass(frozen=True)
class Preference:
    """How many readings preferred denoised, original or neither.

    share: of denoised among those that preferred one, with Wilson's interval. sign_test_p:
    two-sided binomial test of that share against one half. None where none preferred one. Both take
    readings for independent. share_of_all: of denoised among the cases that all readers read,
    neither counted as one half, with its interval over readers and cases and p of one half; None
    for fewer than two readers or cases.
    """

    denoised: int
    original: int
    neither: int
    share: float | None
    interval: Interval
    sign_test_p: float | None
    share_of_all: float | None = None
    interval_of_all: Interval = (None, None)
    p_of_all: float | None = None


@dataclass(frozen=True)
class StudyStatistics:
    """A reader study: its readers, counts of cases and readings, and the results by criterion.

    common_cases: read by all readers. readers_needed, cases_needed: of the plan, which all readers
    must have read. no_verdict: what lacks of that, "" where nothing does.
    """

    readers: list[str]
    cases: int
    readings: int
    common_cases: int
    margin: float
    power: float
    readers_needed: int
    cases_needed: int | None
    no_verdict: str
    criteria: dict[str, CriterionStatistics]
    preference: Preference

    def to_dict(self) -> Json:
        """As `ldct review stats --json` has it."""
        return asdict(self)


def study_statistics(
    readings: list[Reading], plan: StudyPlan | None = None, *, seed: int = 0
) -> StudyStatistics:
    """Compute all statistics; repeats count for agreement within readers only.

    plan: what the study was to show; the usual one by default. seed: of the bootstraps. Raises
    NothingUsableError where there is no reading.
    """
    if not readings:
        raise NothingUsableError("no complete reading: nothing to compute statistics from")
    plan = plan or StudyPlan()
    first = [reading for reading in readings if not reading.repeat]
    common = common_cases(first)
    no_verdict = _lacking(first, common, plan)
    return StudyStatistics(
        readers=sorted({reading.reader for reading in readings}),
        cases=len({reading.case for reading in readings}),
        readings=len(readings),
        common_cases=len(common),
        margin=plan.margin,
        power=plan.power,
        readers_needed=plan.readers,
        cases_needed=plan.cases_needed(),
        no_verdict=no_verdict,
        criteria={
            name: _criterion(
                readings,
                name,
                compared=_compared(first, common, name),
                margin=None if no_verdict else plan.margin,
                seed=seed,
            )
            for name in CRITERIA
        },
        preference=replace(_preference(first), **_over_readers_and_cases(first, common)),
    )


def common_cases(first: list[Reading]) -> list[str]:
    """The cases that every reader read."""
    by_reader: dict[str, set[str]] = {}
    for reading in first:
        by_reader.setdefault(reading.reader, set()).add(reading.case)
    return sorted(set.intersection(*by_reader.values())) if by_reader else []


def common_scores(first: list[Reading], common: list[str], name: str) -> NDArray[np.float64]:
    """A criterion's scores of the common cases, [original and denoised, readers, cases]."""
    readers = sorted({reading.reader for reading in first})
    found = {(reading.reader, reading.case): reading for reading in first}
    rows = [[found[reader, case] for case in common] for reader in readers]
    return np.array(
        [
            [[reading.original[name] for reading in row] for row in rows],
            [[reading.denoised[name] for reading in row] for row in rows],
        ],
        float,
    )


def _lacking(first: list[Reading], common: list[str], plan: StudyPlan) -> str:
    """What the plan asks for that is not there yet, "" where all is."""
    readers = len({reading.reader for reading in first})
    needed = plan.cases_needed()
    if needed is not None and readers >= plan.readers and len(common) >= needed:
        return ""
    cases = f"the same {needed} cases" if needed is not None else "more cases than can be read"
    return (
        f"no verdict: the plan needs {plan.readers} readers who each read {cases}; "
        f"{readers} read the same {len(common)}"
    )


def _compared(first: list[Reading], common: list[str], name: str) -> Comparison | None:
    scores = common_scores(first, common, name)
    return compare_scores(scores) if min(scores.shape[1:]) >= 2 else None


def _criterion(
    readings: list[Reading],
    name: str,
    *,
    compared: Comparison | None,
    margin: float | None,
    seed: int,
) -> CriterionStatistics:
    """margin: of non-inferiority; None where there is no verdict."""
    first = [reading for reading in readings if not reading.repeat]
    low, high, difference, error, freedom, p = _numbers(compared)
    return CriterionStatistics(
        original=round(float(np.mean([reading.original[name] for reading in first])), 3),
        denoised=round(float(np.mean([reading.denoised[name] for reading in first])), 3),
        difference=_rounded(difference),
        interval=(_rounded(low), _rounded(high)),
        standard_error=_rounded(error),
        degrees_of_freedom=_finite(freedom),
        p=p,
        non_inferior=None if low is None or margin is None else low > -margin,
        wilcoxon_p=wilcoxon_p(
            _by_case(first, lambda reading: reading.denoised[name] - reading.original[name])
        ),
        intra_reader_kappa=kappa_of(repeats(readings, name), seed),
        inter_reader_kappa=kappa_of(pairs_of_readers(first, name), seed),
    )


def _numbers(compared: Comparison | None) -> tuple[float | None, ...]:
    """Interval, difference, standard error, degrees of freedom and p of a comparison."""
    if compared is None:
        return (None,) * 6
    return (
        *compared.interval,
        compared.difference,
        compared.standard_error,
        compared.degrees_of_freedom,
        compared.p,
    )


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(float(value), 3)


def _finite(value: float | None) -> float | None:
    """None for infinite degrees of freedom, which JSON has no number for."""
    return _rounded(value) if value is not None and np.isfinite(value) else None


def _by_case(readings: list[Reading], value: Callable[[Reading], float]) -> NDArray[np.float64]:
    """The mean over readers for each case: readings of one case are not independent."""
    cases: dict[str, list[float]] = {}
    for reading in readings:
        cases.setdefault(reading.case, []).append(value(reading))
    return np.array([np.mean(values) for _, values in sorted(cases.items())])


def wilcoxon_p(differences: NDArray[np.float64]) -> float | None:
    """Wilcoxon's signed-rank test, two-sided, with Pratt's treatment of zeros.

    differences: [cases]. None for fewer than two cases and where all differences are zero. Exact
    up to MAX_EXACT_CASES, ties or not, a thousand times faster than SciPy's enumeration; SciPy's
    normal approximation beyond.
    """
    measured = differences != 0
    count = int(measured.sum())
    if len(differences) < 2 or not count:
        return None
    if count > MAX_EXACT_CASES:
        found = stats.wilcoxon(differences, zero_method="pratt", method="asymptotic")
        return float(found.pvalue)
    ranks = stats.rankdata(np.abs(differences))[measured]  # Pratt: zeros are ranked, then left out
    signs = np.arange(2**count)[:, None] >> np.arange(count) & 1
    middle = ranks.sum() / 2
    seen = abs(ranks[differences[measured] > 0].sum() - middle)
    return float(np.mean(np.abs(signs @ ranks - middle) >= seen - 1e-9))


def _preference(first: list[Reading]) -> Preference:
    """How often denoised was preferred to the original."""
    preferences = [reading.preference for reading in first]
    denoised, original = preferences.count(1), preferences.count(-1)
    counts = denoised, original, preferences.count(0)
    if not denoised + original:
        return Preference(*counts, share=None, interval=(None, None), sign_test_p=None)
    test = stats.binomtest(denoised, denoised + original)
    interval = test.proportion_ci(LEVEL, method="wilson")
    return Preference(
        *counts,
        share=round(denoised / (denoised + original), 3),
        interval=(round(float(interval.low), 3), round(float(interval.high), 3)),
        sign_test_p=float(test.pvalue),
    )


def _over_readers_and_cases(first: list[Reading], common: list[str]) -> Json:
    """The share of denoised with readers and cases random, as fields of Preference."""
    readers = sorted({reading.reader for reading in first})
    if min(len(readers), len(common)) < 2:
        return {}
    found = {(reading.reader, reading.case): reading.preference for reading in first}
    shares = np.array([[(1 + found[reader, case]) / 2 for case in common] for reader in readers])
    compared = compare_to_half(shares)
    low, high = (round(min(1.0, max(0.0, 0.5 + end)), 3) for end in compared.interval)
    share = round(0.5 + compared.difference, 3)
    return {"share_of_all": share, "interval_of_all": (low, high), "p_of_all": compared.p}
