"""Where a curve over dose reaches a level, and how surely."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pipeline.core.json_numbers import JsonRecord
from pipeline.metrics.bootstrap import percentile_interval

Numbers = NDArray[np.float64]

#: Thresholds outside the doses measured: reached already at the lowest, or not even at full.
AT_LOWEST, NEVER = 0.0, np.inf
#: A d' of 0 has no logarithm; below this an observer guesses (AUC 0.51).
_MIN_D_PRIME = 0.05
#: Two d' that differ by less than this share are the same: a model that changes nothing but the
#: last digit must not be worth less than full dose.
_SAME_D_PRIME = 1e-3


class EquivalentDose(JsonRecord):
    """The dose fraction at which denoised images show as much as undenoised full dose.

    answer, interval_in_words: always say which; dose and the ends of interval are None where the
    answer is no number, 'none' or at most the lowest dose.
    """

    answer: str
    dose: float | None
    interval: tuple[float | None, float | None]
    interval_in_words: str
    confidence: float
    share_of_replicates_none: float
    share_of_replicates_at_lowest: float
    replicates: int


def threshold_doses(doses: Numbers, d_prime: Numbers, target: Numbers) -> Numbers:
    """The lowest dose from which on a curve stays at or above its target, for each curve.

    doses [n], rising to full dose; d_prime [curves, n]; target [curves]. log d' is interpolated
    in log dose, exactly right where d' is a power of dose (its root, for noise of quanta and a
    linear system). AT_LOWEST where even the lowest dose reaches the target, so that the true
    answer lies at or below it; NEVER where full dose does not.
    """
    curves = np.log(np.maximum(d_prime, _MIN_D_PRIME))
    levels = np.log(np.maximum(target, _MIN_D_PRIME))
    return np.array(
        [
            _threshold(np.log(doses), curve, level)
            for curve, level in zip(curves, levels, strict=True)
        ]
    )


def _threshold(log_doses: Numbers, curve: Numbers, level: float) -> float:
    below = np.flatnonzero(curve < level - _SAME_D_PRIME)
    if not below.size:
        return AT_LOWEST
    last = int(below[-1])
    if last == curve.size - 1:
        return NEVER
    share = (level - curve[last]) / (curve[last + 1] - curve[last])
    share = min(share, 1.0)
    return float(np.exp(log_doses[last] + share * (log_doses[last + 1] - log_doses[last])))


def equivalent_dose(
    thresholds: Numbers, doses: tuple[float, ...], confidence: float
) -> EquivalentDose:
    """The answer from thresholds [1 + replicates], the estimate first.

    Quantiles are of the replicates themselves, since
    nothing lies between a dose and 'none'.
    """
    estimate, replicates = float(thresholds[0]), thresholds[1:]
    bounds = percentile_interval(replicates, confidence, method="inverted_cdf")
    low, high = map(float, bounds)
    return EquivalentDose(
        answer=_words(estimate, doses[0]),
        dose=_number(estimate),
        interval=(_number(low), _number(high)),
        interval_in_words=_between(_words(low, doses[0]), _words(high, doses[0])),
        confidence=confidence,
        share_of_replicates_none=float(np.mean(replicates == NEVER)),
        share_of_replicates_at_lowest=float(np.mean(replicates == AT_LOWEST)),
        replicates=len(replicates),
    )


def _words(dose: float, lowest: float) -> str:
    if dose == NEVER:
        return "none"
    return f"at most {lowest:g}" if dose == AT_LOWEST else f"{dose:.2f}"


def _between(low: str, high: str) -> str:
    return f"{low} throughout" if low == high else f"{low} to {high}"


def _number(dose: float) -> float | None:
    return None if dose in (AT_LOWEST, NEVER) else float(dose)
