"""Two modalities compared over readers and cases that both stand for others: Obuchowski-Rockette.

Obuchowski & Rockette, Commun Stat Simul 24 (1995) 285, for the model; Hillis, Stat Med 26 (2007)
596, for the degrees of freedom. Here a reader's figure of merit is the mean score of a modality's
images, whose covariances over cases are the sample's own (for a mean, so is the jackknife), or
another one, with the jackknife's.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

#: Of the intervals, two-sided: non-inferiority is then tested at 2.5 %.
LEVEL = 0.95
#: One step of the scale of 1 to 5, of a figure of merit from 0 to 1.
STEP_OF_MERIT = 0.25


@dataclass(frozen=True)
class ErrorCovariances:
    """What the drawing of the cases does to the readers' figures of merit.

    variance: of one figure. cov1: one reader, two modalities. cov2: two readers, one modality.
    cov3: two readers, two modalities. The names are those of Obuchowski and Rockette.
    """

    variance: float
    cov1: float
    cov2: float
    cov3: float


@dataclass(frozen=True)
class Comparison:
    """The second modality minus the first.

    degrees_of_freedom: Hillis'. p: two-sided, of no difference; None where nothing varies.
    reader_variance: MS(T*R), the mean square of modality by reader.
    """

    difference: float
    interval: tuple[float, float]
    standard_error: float
    degrees_of_freedom: float
    p: float | None
    reader_variance: float


def score_covariances(scores: NDArray[np.float64]) -> ErrorCovariances:
    """Covariances of the mean scores, of [2, readers, cases] with 2 readers and 2 cases or more."""
    _, readers, cases = scores.shape
    found = np.cov(scores.reshape(2 * readers, cases)).reshape(2, readers, 2, readers) / cases
    same, other = (found[0, :, 0] + found[1, :, 1]) / 2, (found[0, :, 1] + found[1, :, 0]) / 2
    apart = ~np.eye(readers, dtype=bool)
    return ErrorCovariances(
        variance=float(np.diag(same).mean()),
        cov1=float(np.diag(other).mean()),
        cov2=float(same[apart].mean()),
        cov3=float(other[apart].mean()),
    )


def compare(
    merits: NDArray[np.float64], errors: ErrorCovariances, *, narrowest: float = 0.0
) -> Comparison:
    """Compare modalities, readers and cases random, of [2, readers] figures of merit.

    narrowest: the interval reaches at least so far from the difference. There are 2 readers or
    more.
    """
    readers = merits.shape[1]
    differences = merits[1] - merits[0]
    difference = float(differences.mean())
    by_reader = float(differences.var(ddof=1) / 2)
    by_case = readers * max(errors.cov2 - errors.cov3, 0.0)
    error = float(np.sqrt(2 / readers * (by_reader + by_case)))
    freedom = hillis_degrees_of_freedom(by_reader, by_case, readers)
    half = float(stats.t.ppf((1 + LEVEL) / 2, freedom)) * error
    half = max(half, narrowest)
    return Comparison(
        difference=difference,
        interval=(difference - half, difference + half),
        standard_error=error,
        degrees_of_freedom=freedom,
        p=float(2 * stats.t.sf(abs(difference) / error, freedom)) if error > 0 else None,
        reader_variance=by_reader,
    )


def _require_two_of_each(values: NDArray[np.float64]) -> None:
    """values: [2, readers, cases]."""
    for what, count in zip(("readers", "cases"), values.shape[1:], strict=True):
        if count < 2:
            raise ValueError(f"{what} are random: 2 or more are needed")


def hillis_degrees_of_freedom(by_reader: float, by_case: float, readers: int) -> float:
    """Of the mean square of two modalities: readers - 1 where cases add nothing, more where they
    do, infinite where only they do. by_reader: MS(T*R). by_case: readers * (cov2 - cov3)."""
    if by_reader <= 0:
        return float("inf") if by_case > 0 else float(readers - 1)
    return (by_reader + by_case) ** 2 / by_reader**2 * (readers - 1)


def unseen_share(cases: int) -> float:
    """The share of cases that may be of a kind that none of `cases` was: the upper end of Clopper
    and Pearson's interval (1934). No interval over cases can be narrower than that many points:
    that all scores were equal does not show that all others would be."""
    return float(1 - ((1 - LEVEL) / 2) ** (1 / cases))


def unseen_share_of_merit(cases: int) -> float:
    """The same for figures of merit from 0 to 1, of so many cases with lesions, or without: such a
    share of them may move the figure by one step."""
    return STEP_OF_MERIT * unseen_share(cases)


def compare_scores(scores: NDArray[np.float64]) -> Comparison:
    """Compare mean scores, of [2, readers, cases]; the interval cannot collapse.

    Raises ValueError for fewer than 2 readers or 2 cases.
    """
    _require_two_of_each(scores)
    return compare(
        scores.mean(axis=2),
        score_covariances(scores),
        narrowest=unseen_share(scores.shape[2]),
    )


def pseudovalues(merits: NDArray[np.float64], left_out: NDArray[np.float64]) -> NDArray[np.float64]:
    """The jackknife's, [2, readers, cases]: what each case adds to a figure of merit. Their
    covariances, as of scores, are the jackknife's (Hillis, Berbaum & Metz, Acad Radiol 15 (2008)
    647). merits: [2, readers]. left_out: [2, readers, cases], without each case."""
    cases = left_out.shape[2]
    return cases * merits[..., None] - (cases - 1) * left_out


def compare_merits(
    merits: NDArray[np.float64], left_out: NDArray[np.float64], *, narrowest: float
) -> Comparison:
    """Compare figures of merit by the jackknife over cases; arguments as those of pseudovalues and
    compare. Raises ValueError for fewer than 2 readers or 2 cases."""
    _require_two_of_each(left_out)
    errors = score_covariances(pseudovalues(merits, left_out))
    return compare(merits, errors, narrowest=narrowest)


def compare_to_half(shares: NDArray[np.float64]) -> Comparison:
    """How often one of two is preferred, less one half, of [readers, cases]: 1 where it is, 0 where
    the other is, one half where neither.

    The interval reaches over readers and cases, as for scores; one half is the same for all of
    them. Raises ValueError for fewer than 2 readers or 2 cases.
    """
    return compare_scores(np.stack([np.full_like(shares, 0.5), shares]))
