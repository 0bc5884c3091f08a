"""The statistics of a reader study: agreement, differences, and non-inferiority of denoised.

Weighted kappa with quadratic weights (Cohen 1968), Wilcoxon's signed-rank test with Pratt's
treatment of zeros (1959) on one difference per case, and non-inferiority by the lower end of a
95 % interval above minus the margin (CONSORT extension, Piaggio et al. 2012). Intervals are
percentile bootstraps over cases, the unit that was sampled.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray
from scipy import stats
from sklearn.metrics import cohen_kappa_score

from pipeline.core.errors import NothingUsableError
from pipeline.core.types import Json
from pipeline.metrics.bootstrap import LEVEL, bootstrap_distribution, percentile_interval
from pipeline.review.reader_study import CRITERIA, Reading

#: Half a point of five: a smaller loss counts as none.
MARGIN = 0.5
#: The Likert scale.
SCORES = (1, 2, 3, 4, 5)
#: The exact test enumerates all signs of so many cases at most: 65536.
MAX_EXACT_CASES = 16

#: The ends of a 95 % interval; None of fewer than two cases.
Interval = tuple[float | None, float | None]


@dataclass(frozen=True)
class Kappa:
    """Quadratic-weighted kappa of `pairs` scores given twice; None where all are one value."""

    kappa: float | None
    interval: Interval
    pairs: int


@dataclass(frozen=True)
class CriterionStatistics:
    """One criterion, in points of the Likert scale.

    original, denoised: mean scores. difference: denoised minus original, the mean over cases, with
    its interval. non_inferior: the interval lies above minus the margin; None without interval.
    """

    original: float
    denoised: float
    difference: float
    interval: Interval
    non_inferior: bool | None
    wilcoxon_p: float | None
    intra_reader_kappa: Kappa | None
    inter_reader_kappa: Kappa | None


@dataclass(frozen=True)
class Preference:
    """How many readings preferred denoised, original or neither.

    share: of denoised among those that preferred one, with Wilson's interval. sign_test_p:
    two-sided binomial test of that share against one half. None where none preferred one.
    """

    denoised: int
    original: int
    neither: int
    share: float | None
    interval: Interval
    sign_test_p: float | None


@dataclass(frozen=True)
class StudyStatistics:
    """A reader study: its readers, counts of cases and readings, and the results by criterion."""

    readers: list[str]
    cases: int
    readings: int
    margin: float
    criteria: dict[str, CriterionStatistics]
    preference: Preference

    def to_dict(self) -> Json:
        """As `ldct review stats --json` has it."""
        return asdict(self)


def study_statistics(
    readings: list[Reading], *, margin: float = MARGIN, seed: int = 0
) -> StudyStatistics:
    """Compute all statistics; repeats count for agreement within readers only.

    margin: of non-inferiority, in points. seed: of the bootstraps. Raises NothingUsableError where
    there is no reading.
    """
    if not readings:
        raise NothingUsableError("no complete reading: nothing to compute statistics from")
    first = [reading for reading in readings if not reading.repeat]
    return StudyStatistics(
        readers=sorted({reading.reader for reading in readings}),
        cases=len({reading.case for reading in readings}),
        readings=len(readings),
        margin=margin,
        criteria={
            name: _criterion(readings, first, name, margin=margin, seed=seed) for name in CRITERIA
        },
        preference=_preference(first),
    )


def _criterion(
    readings: list[Reading], first: list[Reading], name: str, *, margin: float, seed: int
) -> CriterionStatistics:
    differences = _by_case(first, lambda reading: reading.denoised[name] - reading.original[name])
    counted = np.column_stack([np.ones_like(differences), differences])
    low, high = _interval(counted, lambda sums: sums[:, 1] / sums[:, 0], seed)
    return CriterionStatistics(
        original=round(float(np.mean([reading.original[name] for reading in first])), 3),
        denoised=round(float(np.mean([reading.denoised[name] for reading in first])), 3),
        difference=round(float(differences.mean()), 3),
        interval=(low, high),
        non_inferior=None if low is None else bool(low > -margin),
        wilcoxon_p=wilcoxon_p(differences),
        intra_reader_kappa=_kappa(_repeats(readings, name), seed),
        inter_reader_kappa=_kappa(_pairs_of_readers(first, name), seed),
    )


def _by_case(readings: list[Reading], value: Callable[[Reading], float]) -> NDArray[np.float64]:
    """The mean over readers for each case: readings of one case are not independent."""
    cases: dict[str, list[float]] = {}
    for reading in readings:
        cases.setdefault(reading.case, []).append(value(reading))
    return np.array([np.mean(values) for _, values in sorted(cases.items())])


def _interval(
    sums: NDArray[np.float64], statistic: Callable[[NDArray[np.float64]], NDArray], seed: int
) -> Interval:
    """A percentile bootstrap over cases; (None, None) of fewer than two.

    sums: [cases, sums]. statistic: of [draws, sums], the sums over the cases drawn.
    """
    if len(sums) < 2:
        return None, None
    found = bootstrap_distribution(
        lambda drawn: statistic(sums[drawn].sum(axis=1)),
        len(sums),
        generator=np.random.default_rng(seed),
    )
    finite = found[np.isfinite(found)]
    if not len(finite):
        return None, None
    low, high = percentile_interval(finite)
    return round(float(low), 3), round(float(high), 3)


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


#: Scores given twice, by case: the pairs of one case are drawn together.
Pairs = dict[str, list[tuple[int, int]]]


def _repeats(readings: list[Reading], name: str) -> Pairs:
    """The same reader's scores of the same image, first and again."""
    firsts = {(each.reader, each.case): each for each in readings if not each.repeat}
    pairs: Pairs = {}
    for reading in readings:
        first = firsts.get((reading.reader, reading.case))
        if reading.repeat and first:
            pairs.setdefault(reading.case, []).extend(_score_pairs(first, reading, name))
    return pairs


def _pairs_of_readers(first: list[Reading], name: str) -> Pairs:
    """Two readers' scores of the same image, for every two readers."""
    pairs: Pairs = {}
    for one, other in combinations(sorted(first, key=lambda reading: reading.reader), 2):
        if one.case == other.case:
            pairs.setdefault(one.case, []).extend(_score_pairs(one, other, name))
    return pairs


def _score_pairs(one: Reading, other: Reading, name: str) -> list[tuple[int, int]]:
    """(one, other) of the original, and of the denoised series."""
    return [(one.original[name], other.original[name]), (one.denoised[name], other.denoised[name])]


def _kappa(pairs: Pairs, seed: int) -> Kappa | None:
    """Quadratic-weighted kappa of scores given twice; None without pairs."""
    if not pairs:
        return None
    every = np.array([pair for _, of_case in sorted(pairs.items()) for pair in of_case])
    sums = np.array([_moments(np.array(of_case, float)) for _, of_case in sorted(pairs.items())])
    low, high = _interval(sums, resampled_kappa, seed)
    # Where all scores are one value chance alone explains them.
    defined = len(np.unique(every)) > 1
    value = cohen_kappa_score(*every.T, weights="quadratic", labels=SCORES) if defined else None
    return Kappa(
        kappa=None if value is None else round(value, 3),
        interval=(low, high),
        pairs=sum(map(len, pairs.values())),
    )


def _moments(pairs: NDArray[np.float64]) -> list[float]:
    """Of [pairs, 2]: count, sums, sums of squares, and of squared differences."""
    one, other = pairs.T
    disagreement = (one - other) ** 2
    parts = (np.ones_like(one), one, other, one**2, other**2, disagreement)
    return [float(part.sum()) for part in parts]


def resampled_kappa(sums: NDArray[np.float64]) -> NDArray[np.float64]:
    """Cohen's kappa with quadratic weights, [draws], from [draws, 6] sums as _moments gives them.

    scikit-learn's cohen_kappa_score of each resampling, which would take minutes for all of them.
    1 - D / E: D the mean squared difference of the pairs, E that of independent scores, which is
    both variances and the squared difference of both means. Not a number where all scores are
    one value: chance alone explains them.
    """
    count = sums[:, 0]
    one, other, one_squared, other_squared, seen = (sums[:, k] / count for k in range(1, 6))
    chance = one_squared - one**2 + other_squared - other**2 + (one - other) ** 2
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(chance > 1e-12, 1 - seen / chance, np.nan)


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
