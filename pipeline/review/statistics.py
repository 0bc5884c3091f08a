"""What a reader study says: agreement, differences, and whether denoised is not inferior.

Weighted kappa with quadratic weights (Cohen 1968), Wilcoxon's signed-rank test with Pratt's
treatment of zeros (1959) on one difference per case, and non-inferiority by the lower end of a
95 % interval above minus the margin (CONSORT extension, Piaggio et al. 2012). Intervals are
percentile bootstraps over cases, the unit that was sampled.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats
from sklearn.metrics import cohen_kappa_score

from pipeline.core.errors import NothingUsableError
from pipeline.metrics.bootstrap import LEVEL, bootstrap_distribution, percentile_interval
from pipeline.review.reader_study import CRITERIA
from pipeline.review.series_index import DENOISED, ORIGINAL

#: Half a point of five: the largest loss that is taken for none.
MARGIN = 0.5
#: On the Likert scale.
SCORES = (1, 2, 3, 4, 5)
#: Signs are counted out for so many cases at most: 65536 ways.
MOST_EXACT = 16

Row = dict[str, Any]


def study_statistics(rows: list[Row], *, margin: float = MARGIN, seed: int = 0) -> dict[str, Any]:
    """All of it as JSON can hold it. rows: of readers.unblinded.

    Raises NothingUsableError where no reading is complete.
    """
    if not rows:
        raise NothingUsableError("no complete reading: nothing to compute statistics from")
    first = [row for row in rows if not row["repeat"]]
    return {
        "readers": sorted({row["reader"] for row in rows}),
        "cases": len({row["case"] for row in rows}),
        "readings": len(rows),
        "margin": margin,
        "criteria": {
            name: _criterion(rows, first, name, margin=margin, seed=seed) for name in CRITERIA
        },
        "preference": _preference(first),
    }


def _criterion(
    rows: list[Row], first: list[Row], name: str, *, margin: float, seed: int
) -> dict[str, Any]:
    differences = _by_case(first, lambda row: row[f"denoised {name}"] - row[f"original {name}"])
    counted = np.column_stack([np.ones_like(differences), differences])
    low, high = _interval(counted, lambda sums: sums[:, 1] / sums[:, 0], seed)
    return {
        "original": round(float(np.mean([row[f"original {name}"] for row in first])), 3),
        "denoised": round(float(np.mean([row[f"denoised {name}"] for row in first])), 3),
        "difference": round(float(differences.mean()), 3),
        "interval": [low, high],
        "non_inferior": None if low is None else bool(low > -margin),
        "wilcoxon_p": wilcoxon_p(differences),
        "intra_reader_kappa": _kappa(_repeats(rows, name), seed),
        "inter_reader_kappa": _kappa(_pairs_of_readers(first, name), seed),
    }


def _by_case(rows: list[Row], value: Callable[[Row], float]) -> NDArray[np.float64]:
    """The mean over readers for each case: readings of one case are not independent."""
    cases: dict[str, list[float]] = {}
    for row in rows:
        cases.setdefault(row["case"], []).append(value(row))
    return np.array([np.mean(values) for _, values in sorted(cases.items())])


def _interval(
    sums: NDArray[np.float64], statistic: Callable[[NDArray[np.float64]], NDArray], seed: int
) -> tuple[float | None, float | None]:
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
    """Two-sided; None where there is nothing to test. Exact for few cases, ties or not, which
    SciPy counts a thousand times slower; SciPy's normal approximation for many."""
    measured = differences != 0
    count = int(measured.sum())
    if len(differences) < 2 or not count:
        return None
    if count > MOST_EXACT:
        found = stats.wilcoxon(differences, zero_method="pratt", method="asymptotic")
        return float(found.pvalue)
    ranks = stats.rankdata(np.abs(differences))[measured]  # Pratt: zeros take ranks, no part
    signs = np.arange(2**count)[:, None] >> np.arange(count) & 1
    middle = ranks.sum() / 2
    seen = abs(ranks[differences[measured] > 0].sum() - middle)
    return float(np.mean(np.abs(signs @ ranks - middle) >= seen - 1e-9))


#: Scores given twice, by case: the pairs of one case are drawn together.
Pairs = dict[str, list[tuple[int, int]]]


def _repeats(rows: list[Row], name: str) -> Pairs:
    """The same reader's scores of the same image, first and again."""
    firsts = {(row["reader"], row["case"]): row for row in rows if not row["repeat"]}
    pairs: Pairs = {}
    for row in rows:
        first = firsts.get((row["reader"], row["case"]))
        if row["repeat"] and first:
            pairs.setdefault(row["case"], []).extend(_both(first, row, name))
    return pairs


def _pairs_of_readers(first: list[Row], name: str) -> Pairs:
    """Two readers' scores of the same image, for every two readers."""
    pairs: Pairs = {}
    for one, other in combinations(sorted(first, key=lambda row: row["reader"]), 2):
        if one["case"] == other["case"]:
            pairs.setdefault(one["case"], []).extend(_both(one, other, name))
    return pairs


def _both(one: Row, other: Row, name: str) -> list[tuple[int, int]]:
    return [(one[f"{image} {name}"], other[f"{image} {name}"]) for image in (ORIGINAL, DENOISED)]


def _kappa(pairs: Pairs, seed: int) -> dict[str, Any] | None:
    """Quadratic-weighted kappa of scores given twice; None without pairs."""
    if not pairs:
        return None
    every = np.array([pair for _, of_case in sorted(pairs.items()) for pair in of_case])
    sums = np.array([_moments(np.array(of_case, float)) for _, of_case in sorted(pairs.items())])
    low, high = _interval(sums, resampled_kappa, seed)
    # Where all scores are one value chance alone explains them.
    defined = len(np.unique(every)) > 1
    value = cohen_kappa_score(*every.T, weights="quadratic", labels=SCORES) if defined else None
    return {
        "kappa": None if value is None else round(value, 3),
        "interval": [low, high],
        "pairs": sum(map(len, pairs.values())),
    }


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


def _preference(first: list[Row]) -> dict[str, Any]:
    """How often denoised was preferred to the original, of the readings that preferred one."""
    given = [row["preference"] for row in first]
    denoised, original = given.count(1), given.count(-1)
    told: dict[str, Any] = {
        "denoised": denoised,
        "original": original,
        "neither": given.count(0),
        "share": None,
        "interval": [None, None],
        "sign_test_p": None,
    }
    if denoised + original:
        test = stats.binomtest(denoised, denoised + original)
        interval = test.proportion_ci(LEVEL, method="wilson")
        told["share"] = round(denoised / (denoised + original), 3)
        told["interval"] = [round(float(interval.low), 3), round(float(interval.high), 3)]
        told["sign_test_p"] = float(test.pvalue)
    return told
