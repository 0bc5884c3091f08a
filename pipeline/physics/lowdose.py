"""Low-dose CT from a full-dose image, by inserting the noise that a lower dose would add.

Yu et al., "Development and validation of a practical lower-dose-simulation tool" (J Comput
Assist Tomogr 2012). Only the noise is reconstructed and added, so that the image keeps its
own resolution, kernel and scanner.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import ConfigError
from pipeline.physics.fanbeam import (
    SLICES_PER_BLOCK,
    FanBeam,
    FloatArray,
    filtered_backprojection,
    forward_project,
)
from pipeline.units import hu_to_mu_per_mm, mu_per_mm_to_hu_difference
from pipeline.volume import Volume


@dataclass(frozen=True)
class LowDoseCT:
    """A degradation: the same anatomy at `dose_fraction` of the dose.

    photons_per_ray is N0, the quanta a detector cell sees through air at full dose;
    electronic_noise is Ne, the variance of the electronics in quanta; cutoff is the
    reconstruction filter's (see filtered_backprojection).
    """

    dose_fraction: float
    photons_per_ray: float = 1.5e5
    electronic_noise: float = 10.0
    cutoff: float = 1.0
    detectors: int = 736
    views: int = 1152
    geometry: FanBeam = field(init=False, repr=False)

    def __post_init__(self) -> None:
        if not 0 < self.dose_fraction <= 1:
            raise ConfigError(f"dose_fraction must lie in (0, 1], got {self.dose_fraction}")
        if self.photons_per_ray <= 0 or self.electronic_noise < 0:
            raise ConfigError(
                "photons_per_ray must be positive and electronic_noise not negative, got "
                f"{self.photons_per_ray} and {self.electronic_noise}"
            )
        if not 0 < self.cutoff <= 1:
            raise ConfigError(f"cutoff must lie in (0, 1], got {self.cutoff}")
        object.__setattr__(self, "geometry", FanBeam(self.detectors, self.views))

    def __call__(self, volume: Volume, generator: np.random.Generator) -> FloatArray:
        """Low-dose image_hu [slices, rows, columns]; padding stays as it is.

        Dose 1 returns the image bit for bit.
        """
        low_dose_hu = volume.image_hu.astype(np.float32, copy=True)
        if self.dose_fraction == 1:
            return low_dose_hu
        for start in range(0, low_dose_hu.shape[0], SLICES_PER_BLOCK):
            block = slice(start, start + SLICES_PER_BLOCK)
            noise_hu = self._noise_hu(low_dose_hu[block], volume.spacing_mm[1:], generator)
            low_dose_hu[block] += noise_hu * volume.valid[block]
        return low_dose_hu

    def _noise_hu(
        self,
        image_hu: FloatArray,
        spacing_mm: tuple[float, float],
        generator: np.random.Generator,
    ) -> FloatArray:
        mu_per_mm = hu_to_mu_per_mm(image_hu)
        line_integrals = forward_project(mu_per_mm, spacing_mm=spacing_mm, geometry=self.geometry)
        noise = generator.standard_normal(line_integrals.shape, dtype=np.float32)
        noise *= self.noise_deviation(line_integrals)
        noise_mu_per_mm = filtered_backprojection(
            noise,
            shape=(image_hu.shape[1], image_hu.shape[2]),
            spacing_mm=spacing_mm,
            geometry=self.geometry,
            cutoff=self.cutoff,
        )
        return mu_per_mm_to_hu_difference(noise_mu_per_mm)

    def noise_deviation(self, line_integrals: NDArray) -> NDArray:
        """Standard deviation of the noise to add to each line integral (Yu et al., eq. 9).

        sqrt((1-a)/a * exp(p)/N0 * (1 + (1+a)/a * Ne * exp(p)/N0)), a the dose fraction. A ray
        that metal leaves less than one quantum counts as one: the formula knows no floor.
        """
        a = self.dose_fraction
        starved = np.log(max(a * self.photons_per_ray, 1.0))
        per_quantum = np.exp(np.minimum(line_integrals, starved)) / self.photons_per_ray
        electronic = 1 + (1 + a) / a * self.electronic_noise * per_quantum
        return np.sqrt((1 - a) / a * per_quantum * electronic)
