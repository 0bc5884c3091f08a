"""Agreement of scores given twice, by one reader or by two: quadratic-weighted kappa.

Cohen, Psychol Bull 70 (1968) 213, with percentile bootstraps over cases.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import cohen_kappa_score

from pipeline.metrics.bootstrap import bootstrap_distribution, percentile_interval
from pipeline.review.study.reader_study import Reading

#: The Likert scale.
SCORES = (1, 2, 3, 4, 5)
#: The ends of a 95 % interval; None of fewer than two cases.
Interval = tuple[float | None, float | None]


@dataclass(frozen=True)
class Kappa:
    """Quadratic-weighted kappa of `pairs` scores given twice; None where all are one value."""

    kappa: float | None
    interval: Interval
    pairs: int


#: Scores given twice, by case: the pairs of one case are drawn together.
Pairs = dict[str, list[tuple[int, int]]]


def repeats(readings: list[Reading], name: str) -> Pairs:
    """The same reader's scores of the same image, first and again."""
    firsts = {(each.reader, each.case): each for each in readings if not each.repeat}
    pairs: Pairs = {}
    for reading in readings:
        first = firsts.get((reading.reader, reading.case))
        if reading.repeat and first:
            pairs.setdefault(reading.case, []).extend(_score_pairs(first, reading, name))
    return pairs


def pairs_of_readers(first: list[Reading], name: str) -> Pairs:
    """Two readers' scores of the same image, for every two readers."""
    by_case: dict[str, list[Reading]] = {}
    for reading in sorted(first, key=lambda reading: reading.reader):
        by_case.setdefault(reading.case, []).append(reading)
    pairs: Pairs = {}
    for case, read in by_case.items():
        for one, other in combinations(read, 2):
            pairs.setdefault(case, []).extend(_score_pairs(one, other, name))
    return pairs


def _score_pairs(one: Reading, other: Reading, name: str) -> list[tuple[int, int]]:
    """(one, other) of the original, and of the denoised series."""
    return [(one.original[name], other.original[name]), (one.denoised[name], other.denoised[name])]


def kappa_of(pairs: Pairs, seed: int) -> Kappa | None:
    """Quadratic-weighted kappa of scores given twice; None without pairs."""
    if not pairs:
        return None
    every = np.array([pair for _, of_case in sorted(pairs.items()) for pair in of_case])
    sums = np.array([moments(np.array(of_case, float)) for _, of_case in sorted(pairs.items())])
    low, high = interval_over_cases(sums, resampled_kappa, seed)
    # Where all scores are one value chance alone explains them.
    defined = len(np.unique(every)) > 1
    value = cohen_kappa_score(*every.T, weights="quadratic", labels=SCORES) if defined else None
    return Kappa(
        kappa=None if value is None else round(value, 3),
        interval=(low, high),
        pairs=sum(map(len, pairs.values())),
    )


def moments(pairs: NDArray[np.float64]) -> list[float]:
    """Of [pairs, 2]: count, sums, sums of squares, and of squared differences."""
    one, other = pairs.T
    disagreement = (one - other) ** 2
    parts = (np.ones_like(one), one, other, one**2, other**2, disagreement)
    return [float(part.sum()) for part in parts]


def resampled_kappa(sums: NDArray[np.float64]) -> NDArray[np.float64]:
    """Cohen's kappa with quadratic weights, [draws], from [draws, 6] sums as moments gives them.

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


def interval_over_cases(
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
