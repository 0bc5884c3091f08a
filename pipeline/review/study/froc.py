"""What readers found and where they were wrong, of marks that locate lesions with a confidence.

JAFROC (Chakraborty & Berbaum, Med Phys 31 (2004) 2313): how often a lesion is rated higher than
the highest false mark of a case without lesions; ties count one half, and so does a lesion without
a mark against a case without one. Weighted (Chakraborty & Zhai, Med Phys 43 (2016) 2548): every
case with lesions counts alike, however many it has. Each figure is [2 modalities, readers], and is
computed again without each case: the jackknife.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
#: The rating where there is no mark: below every other.
UNMARKED = -np.inf
#: Every mark is rated at least so.
ANY = float(np.finfo(np.float64).min)


@dataclass(frozen=True)
class Marked:
    """All readers' marks of both modalities of all cases; those with lesions come first.

    lesions: [2, readers, lesions], the highest rating of a mark on each lesion, UNMARKED where
    there is none. case_of: [lesions], from 0 upwards. weights: [lesions], 1 in sum in each case.
    false_marks: [2, readers, cases, most], the ratings of marks on no lesion, in any order, and
    UNMARKED beyond the last one of a case.
    """

    lesions: Floats
    case_of: NDArray[np.intp]
    weights: Floats
    false_marks: Floats

    @property
    def cases(self) -> int:
        """How many cases there are, with lesions or without."""
        return self.false_marks.shape[2]

    @property
    def with_lesions(self) -> int:
        """How many cases have lesions."""
        return int(self.case_of.max()) + 1


@dataclass(frozen=True)
class Merit:
    """A figure of merit. values: [2, readers]. left_out: [2, readers, cases], without each of the
    cases that it is of."""

    values: Floats
    left_out: Floats


def jafroc(marked: Marked, *, weighted: bool) -> Merit:
    """How often lesions are rated higher than false marks."""
    highest_false = marked.false_marks.max(axis=3, initial=UNMARKED)
    wins = _wins(marked.lesions, highest_false[:, :, marked.with_lesions :])
    shares = marked.weights if weighted else np.ones_like(marked.weights)
    pairs = _by_case(marked, wins * shares[:, None])  # [2, readers, with lesions, without]
    of_case = np.bincount(marked.case_of, shares)
    total, normal = pairs.sum(axis=(2, 3)), pairs.shape[3]
    without_one = (total[..., None] - pairs.sum(axis=3)) / ((of_case.sum() - of_case) * normal)
    without_normal = (total[..., None] - pairs.sum(axis=2)) / (of_case.sum() * (normal - 1))
    values = total / (of_case.sum() * normal)
    return Merit(values, np.concatenate([without_one, without_normal], axis=2))


def lesions_found(marked: Marked, at_least: float = ANY) -> Merit:
    """The share of lesions with a mark, rated `at_least` so: the lesion localisation fraction. Of
    the cases with lesions."""
    found = _by_case(marked, (marked.lesions >= at_least)[..., None].astype(float))[..., 0]
    return _ratio(found, np.bincount(marked.case_of).astype(float))


def false_marks_per_case(marked: Marked, at_least: float = ANY) -> Merit:
    """The non-lesion localisation fraction, of all cases."""
    counts = (marked.false_marks >= at_least).sum(axis=3).astype(float)
    return _ratio(counts, np.ones(marked.cases))


def _wins(lesions: Floats, highest_false: Floats) -> Floats:
    """[2, readers, lesions, cases without]: 1 where the lesion is higher, one half in a tie."""
    lesion, false = lesions[..., None], highest_false[:, :, None]
    return (lesion > false) + 0.5 * (lesion == false)


def _by_case(marked: Marked, values: Floats) -> Floats:
    """Sums over the lesions of each case: [2, readers, lesions, n] to [2, readers, cases, n]."""
    first = np.flatnonzero(np.diff(marked.case_of, prepend=-1))
    return np.add.reduceat(values, first, axis=2)


def _ratio(numerators: Floats, denominators: Floats) -> Merit:
    """A sum over cases by another. numerators: [2, readers, cases]. denominators: [cases]."""
    above, below = numerators.sum(axis=2), denominators.sum()
    return Merit(above / below, (above[..., None] - numerators) / (below - denominators))
