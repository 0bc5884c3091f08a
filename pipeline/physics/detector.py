"""What a detector cell reports for few quanta, and how many quanta reach it.

The model of a measurement, wherever this package speaks of truth: a cell catches K quanta,
Poisson with mean `counts`; the electronics add a Gaussian of variance `electronic_noise`, in
quanta; the sum is raised to FLOOR_COUNTS where it lies below, and its logarithm is taken.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage, special

from pipeline.core.errors import ConfigError
from pipeline.core.units import MU_WATER_PER_MM
from pipeline.physics.fan_beam_geometry import FanBeam, FloatArray

#: Counts are raised to this before the logarithm, as scanners do, each in its own way.
FLOOR_COUNTS = 1.0

#: Of the anatomy's attenuation, what the tube current follows where noise is least for the
#: dose: Gies et al., Med Phys 26 (1999) 2235.
GIES_EXPONENT = 0.5

_TABLE_COUNTS = np.geomspace(1e-3, 2000, 400)


def log_counts_moments(counts: NDArray, electronic_noise: float) -> tuple[NDArray, NDArray]:
    """Mean and variance of the logarithm that a cell reports for a mean of `counts` quanta.

    From a table up to 2000 quanta, exact to its spacing (a hundredth of a standard deviation);
    above, the second order of the logarithm's expansion.
    """
    means, variances = _moments_table(electronic_noise)
    position = np.log(np.maximum(counts, _TABLE_COUNTS[0]))
    known = np.log(_TABLE_COUNTS)
    relative = (counts + electronic_noise) / np.maximum(counts, 1.0) ** 2
    many = counts > _TABLE_COUNTS[-1]
    mean = np.where(many, position - relative / 2, np.interp(position, known, means))
    variance = np.where(many, relative + relative**2 / 2, np.interp(position, known, variances))
    return mean, variance


@lru_cache(maxsize=8)
def _moments_table(electronic_noise: float) -> tuple[NDArray, NDArray]:
    largest = _TABLE_COUNTS[-1]
    quanta = np.arange(int(largest + 8 * math.sqrt(largest)) + 1)
    # The first two moments of the logarithm for each number of quanta, over the electronics.
    z = np.linspace(-6, 6, 601) if electronic_noise else np.zeros(1)
    weight = np.exp(-(z**2) / 2)
    weight /= weight.sum()
    read = quanta[:, None] + math.sqrt(electronic_noise) * z
    logarithm = np.log(np.maximum(read, FLOOR_COUNTS))
    first, second = logarithm @ weight, logarithm**2 @ weight
    chance = np.exp(
        special.xlogy(quanta, _TABLE_COUNTS[:, None])
        - _TABLE_COUNTS[:, None]
        - special.gammaln(quanta + 1)
    )
    mean = chance @ first
    return mean, chance @ second - mean**2


def log_counts(
    counts: NDArray, electronic_noise: float, *, chance: NDArray, electronics: NDArray
) -> NDArray[np.float64]:
    """The logarithm, floored, that cells report for means of `counts` quanta, up to some hundred.

    chance: uniform in [0, 1), each cell's quantile among the quanta that it may catch;
    electronics: standard normal. Both of the shape of `counts`.
    """
    read = poisson_quantile(chance, counts) + math.sqrt(electronic_noise) * electronics
    return np.log(np.maximum(read, FLOOR_COUNTS))


def poisson_quantile(chance: NDArray, mean: NDArray) -> NDArray[np.float64]:
    """The least number whose cumulative probability is at least `chance`, by adding up.

    Unlike a generator's own Poisson numbers, one for each random number: a mean that rounding
    changes then cannot move the draws that come after.
    """
    mean = mean.astype(np.float64)
    number, term = np.zeros_like(mean), np.exp(-mean)
    cumulative = term.copy()
    most = float(mean.max(initial=0))
    for following in range(1, math.ceil(most + 12 * math.sqrt(most) + 20)):
        above = chance > cumulative
        if not above.any():
            break
        number += above
        term *= mean / following
        cumulative += term
    return number


@dataclass(frozen=True)
class Exposure:
    """How the quanta are spread over the rays, and how the detector blurs their noise.

    bowtie_mm: water that a bowtie filter adds at the fan's edge, with the profile that evens out
    a cylinder; 0 for none. current_modulation: the power of the anatomy's attenuation that
    the tube current follows round the patient, GIES_EXPONENT for least noise; 0 for a constant
    current. blur_cells: standard deviation of the detector's crosstalk, in cells.
    """

    bowtie_mm: float = 0.0
    current_modulation: float = 0.0
    blur_cells: float = 0.0

    def __post_init__(self) -> None:
        for name in ("bowtie_mm", "current_modulation", "blur_cells"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ConfigError(f"{name} must not be negative, got {getattr(self, name)}")
        if self.current_modulation > 1:
            raise ConfigError(
                f"current_modulation must lie in [0, 1], got {self.current_modulation}"
            )

    def relative_photons(self, line_integrals: FloatArray, geometry: FanBeam) -> FloatArray:
        """Quanta sent along each ray of one slice, [views, detectors] or broadcastable to it.

        line_integrals: [views, detectors]. 1 on the central ray, averaged over the views.
        """
        return self._bowtie(geometry) * self._current(line_integrals)

    def _bowtie(self, geometry: FanBeam) -> FloatArray:
        """exp(-mu t (1 - sqrt(1 - s^2))), s the ray's distance from the centre over the edge's."""
        edge = math.sin(geometry.fan_angle_rad / 2)
        profile = 1 - np.sqrt(1 - (np.sin(geometry.detector_angles_rad) / edge) ** 2)
        return np.exp(-MU_WATER_PER_MM * self.bowtie_mm * profile).astype(np.float32)

    def _current(self, line_integrals: FloatArray) -> FloatArray:
        """[views, 1]; 1 on average, follows the most attenuated ray of each view."""
        if self.current_modulation == 0:
            return np.ones((1, 1), np.float32)
        thickest = line_integrals.max(axis=1, keepdims=True).astype(np.float64)
        current = np.exp(self.current_modulation * (thickest - thickest.max()))
        return (current / current.mean()).astype(np.float32)

    def blurred(self, noise: FloatArray) -> FloatArray:
        """Noise [views, detectors] after crosstalk, which averages it over neighbouring cells.

        Weights that sum to 1: slow variations, which are what the quanta's number decides,
        stay; fast ones fall. The electronics' share, which arises later, is blurred with it.
        """
        if self.blur_cells == 0:
            return noise
        return ndimage.gaussian_filter1d(noise, self.blur_cells, axis=1, mode="nearest")
