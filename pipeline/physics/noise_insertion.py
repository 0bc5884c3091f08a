"""The noise that a lower dose adds to each line integral.

Ordinary rays: Yu et al., "Development and validation of a practical lower-dose-simulation tool"
(J Comput Assist Tomogr 2012), eq. 9, a Gaussian. Starved rays, under STARVED_COUNTS quanta: the
formula is a first order and misses both the spread and the logarithm's bias, so the low-dose
measurement itself is drawn, count by count (see `detector` for its model).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import special

from pipeline.physics.detector import log_counts, log_counts_moments
from pipeline.physics.fan_beam_geometry import FloatArray

#: Quanta at the low dose under which a ray is drawn in the count domain. Down to here Yu's
#: formula is within 2 % of counted truth and the logarithm's bias within 0.01.
STARVED_COUNTS = 60.0


def yu_deviation(counts: NDArray, dose_fraction: float, electronic_noise: float) -> NDArray:
    """Standard deviation of the noise to add to a line integral (Yu et al. 2012, eq. 9).

    counts: quanta detected at full dose, N0 exp(-p). With a the dose fraction:
    sqrt((1-a)/a / counts * (1 + (1+a)/a * Ne / counts)).
    """
    a = dose_fraction
    electronic = 1 + (1 + a) / a * electronic_noise / counts
    return np.sqrt((1 - a) / a / counts * electronic)


def added_noise(
    counts: FloatArray,
    *,
    dose_fraction: float,
    electronic_noise: float,
    generator: np.random.Generator,
) -> FloatArray:
    """One draw of what a lower dose adds to the line integrals of a scan.

    counts: mean quanta detected on each ray at full dose, any shape. Every ray takes the same
    random numbers whatever its counts: rounding in one ray does not move the draws of others.
    """
    noise = generator.standard_normal(counts.shape, dtype=np.float32)
    few = np.float32(STARVED_COUNTS / dose_fraction)
    starved = counts < few
    quantum = noise[starved].astype(np.float64)
    noise *= yu_deviation(np.maximum(counts, few), dose_fraction, electronic_noise)
    if starved.any():
        noise[starved] = starved_noise(
            counts[starved],
            dose_fraction=dose_fraction,
            electronic_noise=electronic_noise,
            quantum=quantum,
            electronics=generator.standard_normal(counts.shape, dtype=np.float32)[starved],
        )
    return noise


def starved_noise(
    counts: NDArray,
    *,
    dose_fraction: float,
    electronic_noise: float,
    quantum: NDArray[np.float64],
    electronics: NDArray,
) -> NDArray[np.float64]:
    """added_noise where few quanta arrive: right in mean and variance down to none.

    The low-dose measurement is drawn and its deviation from its own mean shrunk by
    sqrt(1 - v_full / v_low): the image has the full dose's variance already, and the two add up
    to the low dose's. For many quanta this is Yu's formula. The logarithm's bias, beyond the
    one the full dose has, goes with it. quantum, electronics: standard normal, of the shape of
    `counts`; more of either is fewer quanta or a lower reading, so that this and Yu's formula
    give a ray between them nearly the same.
    """
    low_counts = dose_fraction * counts.astype(np.float64)
    full_mean, full_variance = log_counts_moments(low_counts / dose_fraction, electronic_noise)
    low_mean, low_variance = log_counts_moments(low_counts, electronic_noise)
    chance = special.ndtr(-quantum)
    reported = log_counts(low_counts, electronic_noise, chance=chance, electronics=-electronics)
    deviation = reported - low_mean
    missing = np.clip(1 - full_variance / np.maximum(low_variance, 1e-12), 0, 1)
    bias = np.log(dose_fraction) + full_mean - low_mean
    return bias - deviation * np.sqrt(missing)
