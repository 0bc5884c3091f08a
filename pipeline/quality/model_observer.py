"""The channelised Hotelling observer: can a signal known exactly be distinguished from noise?

Myers & Barrett (1987); Gallas & Barrett, JOSA A 20 (2003). d' from finite samples flatters the
observer, as it is trained and judged on the same regions. For normal channel outputs the error
is known exactly, and so is the interval: Wunderlich, Noo, Gallas & Heilbrun, IEEE TMI 34 (2015).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import scipy  # scipy.stats, half a second, is loaded at its first use
from numpy.typing import NDArray
from scipy import optimize, special

from pipeline.core.errors import LdctError
from pipeline.core.json_numbers import JsonRecord

Outputs = NDArray[np.float64]  # [regions, channels]
Interval = tuple[float, float]


class Detectability(JsonRecord):
    """d' and the area under the ROC curve, both free of the bias of finite samples.

    The intervals are exact for normal channel outputs. auc_leave_pair_out assumes no
    distribution: each pair of regions is ranked by an observer trained without them. Where it
    leaves the interval (a network's output need not be normal), do not trust the other figures.
    """

    d_prime: float
    d_prime_interval: Interval
    auc: float
    auc_interval: Interval
    auc_leave_pair_out: float
    confidence: float
    present: int
    absent: int
    channels: int


def detectability(present: Outputs, absent: Outputs, *, confidence: float = 0.95) -> Detectability:
    """Judge channel outputs of regions with the signal and of regions without it."""
    sizes = _Sizes(len(present), len(absent), present.shape[1])
    distance2 = float(_distances2(present, absent, None, None)[0])
    d_prime = math.sqrt(max(0.0, float(sizes.unbiased(np.array(distance2)))))
    interval = sizes.interval(distance2, confidence)
    return Detectability(
        d_prime=d_prime,
        d_prime_interval=interval,
        auc=auc_of(d_prime),
        auc_interval=(auc_of(interval[0]), auc_of(interval[1])),
        auc_leave_pair_out=auc_leave_pair_out(present, absent),
        confidence=confidence,
        present=len(present),
        absent=len(absent),
        channels=present.shape[1],
    )


def auc_of(d_prime: float) -> float:
    """AUC = Phi(d' / sqrt(2)), for ratings normal with equal variance."""
    return float(scipy.stats.norm.cdf(d_prime / math.sqrt(2)))


def with_internal_noise(
    outputs: NDArray, absent: NDArray, factor: float, generator: np.random.Generator
) -> NDArray[np.float64]:
    """Outputs [..., regions, channels] with the reader's own noise on each channel.

    Its standard deviation is `factor` times that of the channel in regions without the signal,
    `absent`. Humans stay below the ideal; the factor is fitted to them (Yu et al. 2013). It
    divides a d' by sqrt(1 + factor^2) where the channels are independent.
    """
    deviation = absent.std(axis=-2, keepdims=True, ddof=1)
    return outputs + factor * deviation * generator.standard_normal(outputs.shape)


def known_d_prime(signal: NDArray, covariance: NDArray) -> float:
    """d' of channels whose mean signal [channels] and covariance are known, not estimated."""
    return math.sqrt(float(signal @ np.linalg.solve(covariance, signal)))


def bootstrap_d_prime(
    present: Outputs, absent: Outputs, present_weights: NDArray, absent_weights: NDArray
) -> NDArray[np.float64]:
    """d' [replicates] of resampled regions, weights [replicates, regions] saying how often.

    The correction for finite samples is applied twice: a replicate is drawn from a sample that
    itself flatters, so once brings it back to that sample's own plug-in figure, twice to truth.
    """
    sizes = _Sizes(len(present), len(absent), present.shape[1])
    distances2 = _distances2(present, absent, present_weights, absent_weights)
    unbiased = sizes.unbiased(sizes.unbiased(distances2))
    return np.sqrt(np.maximum(unbiased, 0))


def auc_leave_pair_out(present: Outputs, absent: Outputs) -> float:
    """Share of pairs (one of each class) ranked rightly by a template trained without either.

    Unbiased for training on one region less of each class (Airola et al., 2011). A template is
    the pooled covariance's inverse on the difference of means; both are updated, not redone.
    """
    n, m = len(present), len(absent)
    off_present, off_absent = present - present.mean(axis=0), absent - absent.mean(axis=0)
    scatter = off_present.T @ off_present + off_absent.T @ off_absent
    share = m / (m - 1)
    gaps = present.mean(axis=0) - absent.mean(axis=0) + off_absent / (m - 1)
    right = 0.0
    for region, off in zip(present, off_present, strict=True):
        inverse = np.linalg.inv(scatter - n / (n - 1) * np.outer(off, off))
        differences, gap = (region - absent) @ inverse, gaps - off / (n - 1)
        # Sherman & Morrison: the inverse of the scatter less one absent region's share.
        pull = off_absent @ inverse
        left = 1 - share * (off_absent * pull).sum(axis=1)
        across = ((region - absent) * pull).sum(axis=1) * (pull * gap).sum(axis=1)
        margin = (differences * gap).sum(axis=1) + share * across / left
        right += float((margin > 0).sum() + 0.5 * (margin == 0).sum())
    return right / (n * m)


@dataclass(frozen=True)
class _Sizes:
    """Regions of either class and channels: what the bias and the interval of d'^2 hang on."""

    present: int
    absent: int
    channels: int

    def __post_init__(self) -> None:
        if min(self.present, self.absent) < 3 or self.freedom <= self.channels + 1:
            raise LdctError(
                f"{self.present} regions with and {self.absent} without the signal are too few "
                f"for an observer of {self.channels} channels"
            )

    @property
    def freedom(self) -> int:
        """Degrees of freedom of the pooled covariance."""
        return self.present + self.absent - 2

    def unbiased(self, distance2: NDArray) -> NDArray:
        """d'^2 without bias, from the plug-in (Mahalanobis) d'^2; may be negative.

        E[plug-in] = f/(f-p-1) (d'^2 + p (1/n + 1/m)), f degrees of freedom, p channels.
        """
        shrink = (self.freedom - self.channels - 1) / self.freedom
        return shrink * distance2 - self.channels * (1 / self.present + 1 / self.absent)

    def interval(self, distance2: float, confidence: float) -> Interval:
        """Exact interval of d': Hotelling's T^2 is a noncentral F of the true d'^2."""
        weight = self.present * self.absent / (self.present + self.absent)
        second = self.freedom - self.channels + 1
        statistic = weight * distance2 * second / (self.freedom * self.channels)

        def noncentrality(level: float) -> float:
            """The one at which the statistic has this level of the noncentral F."""

            def excess(value: float) -> float:
                """Falls with the noncentrality; 0 where it is the one sought."""
                cdf = special.ncfdtr(self.channels, second, value, statistic)
                return float(cdf) - level

            if excess(0.0) <= 0:
                return 0.0
            high = 1.0
            while excess(high) > 0:
                high *= 2
            return float(optimize.brentq(excess, 0.0, high))

        tail = (1 - confidence) / 2
        low, high = noncentrality(1 - tail), noncentrality(tail)
        return math.sqrt(low / weight), math.sqrt(high / weight)


def _distances2(
    present: Outputs,
    absent: Outputs,
    present_weights: NDArray | None,
    absent_weights: NDArray | None,
) -> NDArray[np.float64]:
    """Plug-in d'^2 [replicates] with the pooled covariance; no weights: each region once."""
    replicates = 1 if present_weights is None else len(present_weights)
    channels = present.shape[1]
    gap = np.zeros((replicates, channels))
    pooled = np.zeros((replicates, channels, channels))
    for sign, outputs, weights in ((1, present, present_weights), (-1, absent, absent_weights)):
        count = len(outputs)
        held = np.ones((replicates, count)) if weights is None else weights
        # About the class's own mean, so that no digits cancel in the second moments.
        centre = outputs.mean(axis=0)
        off = outputs - centre
        mean = held @ off / count
        squares = (off[:, :, None] * off[:, None, :]).reshape(count, -1)
        moments = (held @ squares).reshape(pooled.shape)
        pooled += moments - count * mean[:, :, None] * mean[:, None, :]
        gap += sign * (mean + centre)
    pooled /= len(present) + len(absent) - 2
    try:
        return (gap * np.linalg.solve(pooled, gap[:, :, None])[:, :, 0]).sum(axis=1)
    except np.linalg.LinAlgError:
        raise LdctError("the channels' outputs do not vary: these images hold no noise") from None
