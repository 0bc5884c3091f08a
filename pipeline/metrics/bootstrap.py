"""Bootstrap over cases: how sure a figure is that was measured on a few of them.

Cases (patients, cases of a reader study, regions of a phantom) are drawn with replacement, each
with all that was measured of it, as slices of a patient or readings of a case resemble each
other. Efron & Tibshirani, An Introduction to the Bootstrap (1993), percentile intervals, by
scipy.stats.bootstrap.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Literal

import numpy as np
import scipy  # scipy.stats, half a second, is loaded at its first use
from numpy.typing import NDArray

RESAMPLINGS, LEVEL = 2000, 0.95

#: Indices of the cases drawn, [resamplings, cases].
Drawn = NDArray[np.int64]


def bootstrap_distribution(
    statistic: Callable[..., NDArray[np.float64]],
    *counts: int,
    generator: np.random.Generator,
    resamplings: int = RESAMPLINGS,
) -> NDArray[np.float64]:
    """A statistic of cases drawn with replacement, [..., resamplings].

    counts: the number of cases of each sample, 2 or more, else ValueError; samples are drawn
    independently of each other. `statistic` takes the indices drawn from each, [resamplings,
    count], and returns [..., resamplings]: all figures of one call see the same draws, so that
    their differences are paired.
    """

    def of_indices(*drawn: NDArray, axis: int) -> NDArray[np.float64]:
        """SciPy makes numbers of the indices, and names their last axis."""
        return statistic(*(each.astype(np.int64) for each in drawn))

    with warnings.catch_warnings():
        # Cases may be equal, and a resampling may lack the figure: the caller sees it.
        warnings.simplefilter("ignore", scipy.stats.DegenerateDataWarning)
        return scipy.stats.bootstrap(
            [np.arange(count) for count in counts],
            of_indices,
            n_resamples=resamplings,
            vectorized=True,
            method="percentile",
            rng=generator,
        ).bootstrap_distribution


def percentile_interval(
    distribution: NDArray[np.float64],
    level: float = LEVEL,
    *,
    method: Literal["linear", "inverted_cdf"] = "linear",
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(low, high) [...] of a distribution [..., resamplings]; NaN where it holds a NaN.

    method: numpy.quantile's; `inverted_cdf` gives values of the distribution itself.
    """
    tail = (1 - level) / 2
    low, high = np.quantile(distribution, [tail, 1 - tail], axis=-1, method=method)
    return low, high


def times_drawn(drawn: Drawn) -> NDArray[np.float64]:
    """How often each of `cases` cases was drawn: [resamplings, cases] of indices of that shape."""
    resamplings, cases = drawn.shape
    places = drawn + cases * np.arange(resamplings)[:, None]
    counts = np.bincount(places.ravel(), minlength=drawn.size)
    return counts.reshape(drawn.shape).astype(np.float64)
