"""What a reader study says: agreement, differences, and whether denoised is not inferior.

Weighted kappa with quadratic weights (Cohen 1968), Wilcoxon's signed-rank test with Pratt's
treatment of zeros (1959) on one difference per case, and non-inferiority by the lower end of a
95 % interval above minus the margin (CONSORT extension, Piaggio et al. 2012). Intervals are
percentile bootstraps over cases, the unit that was sampled.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats
from sklearn.metrics import cohen_kappa_score

from pipeline.errors import NothingUsableError
from pipeline.review.readers import CRITERIA

#: Half a point of five: the largest loss that is taken for none.
MARGIN = 0.5
DRAWS = 2000
LEVEL = 0.95
LIKERT = (1, 2, 3, 4, 5)

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
    low, high = _interval(differences, np.mean, seed)
    return {
        "original": round(float(np.mean([row[f"original {name}"] for row in first])), 3),
        "denoised": round(float(np.mean([row[f"denoised {name}"] for row in first])), 3),
        "difference": round(float(differences.mean()), 3),
        "interval": [low, high],
        "non_inferior": None if low is None else bool(low > -margin),
        "wilcoxon_p": _wilcoxon(differences),
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
    values: NDArray, statistic: Callable[[NDArray], float], seed: int
) -> tuple[float | None, float | None]:
    """A percentile bootstrap over the first axis; (None, None) of fewer than two."""
    if len(values) < 2:
        return None, None
    generator = np.random.default_rng(seed)
    drawn = [
        statistic(values[generator.integers(len(values), size=len(values))]) for _ in range(DRAWS)
    ]
    finite = np.array([value for value in drawn if np.isfinite(value)])
    if not len(finite):
        return None, None
    tail = (1 - LEVEL) / 2
    low, high = np.quantile(finite, [tail, 1 - tail])
    return round(float(low), 3), round(float(high), 3)


def _wilcoxon(differences: NDArray[np.float64]) -> float | None:
    """Two-sided; None where there is nothing to test."""
    if len(differences) < 2 or not differences.any():
        return None
    return float(stats.wilcoxon(differences, zero_method="pratt").pvalue)


def _repeats(rows: list[Row], name: str) -> NDArray[np.int64]:
    """[pairs, 2]: the same reader's scores of the same image, first and again."""
    firsts = {(row["reader"], row["case"]): row for row in rows if not row["repeat"]}
    pairs = [
        (firsts[row["reader"], row["case"]][f"{image} {name}"], row[f"{image} {name}"])
        for row in rows
        if row["repeat"] and (row["reader"], row["case"]) in firsts
        for image in ("original", "denoised")
    ]
    return np.array(pairs, dtype=int).reshape(-1, 2)


def _pairs_of_readers(first: list[Row], name: str) -> NDArray[np.int64]:
    """[pairs, 2]: two readers' scores of the same image, for every two readers."""
    by_case: dict[str, list[Row]] = {}
    for row in first:
        by_case.setdefault(row["case"], []).append(row)
    pairs = [
        (one[f"{image} {name}"], other[f"{image} {name}"])
        for _, rows in sorted(by_case.items())
        for one, other in combinations(sorted(rows, key=lambda row: row["reader"]), 2)
        for image in ("original", "denoised")
    ]
    return np.array(pairs, dtype=int).reshape(-1, 2)


def _kappa(pairs: NDArray[np.int64], seed: int) -> dict[str, Any] | None:
    """Quadratic-weighted kappa of scores given twice; None without pairs."""
    if not len(pairs):
        return None
    value = weighted_kappa(pairs)
    low, high = _interval(pairs, weighted_kappa, seed)
    finite = bool(np.isfinite(value))
    return {
        "kappa": round(float(value), 3) if finite else None,
        "interval": [low, high],
        "pairs": len(pairs),
    }


def weighted_kappa(pairs: NDArray[np.int64]) -> float:
    """Of [pairs, 2] Likert scores; not a number where all are one value: chance explains it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of 0 / 0, which is told by the value
        return float(
            cohen_kappa_score(pairs[:, 0], pairs[:, 1], labels=LIKERT, weights="quadratic")
        )


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
