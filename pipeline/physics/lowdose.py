"""Low-dose CT from a full-dose image, by inserting the noise that a lower dose would add.

Only the noise is reconstructed and added, so that the image keeps its own resolution, kernel
and scanner (Yu et al., J Comput Assist Tomogr 2012). How much noise a ray gets is in
`noise_insertion`, how many quanta it carries in `detector`, the scanner's setting in
`calibration`.
"""

from __future__ import annotations

import math
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np

from pipeline.core.errors import ConfigError
from pipeline.core.units import hu_to_mu_per_mm, mu_per_mm_to_hu_difference
from pipeline.core.volume import Volume
from pipeline.physics.calibration import Calibration, calibrate
from pipeline.physics.detector import Exposure
from pipeline.physics.fan_beam_geometry import SLICES_PER_BLOCK, FanBeam, FloatArray
from pipeline.physics.noise_insertion import added_noise
from pipeline.physics.projector import projector_on

#: Threads that draw noise, a slice each: numpy's generators release the interpreter.
WORKERS = min(8, os.cpu_count() or 1)


@dataclass(frozen=True)
class LowDoseCT:
    """A degradation: the same anatomy at `dose_fraction` of the dose.

    photons_per_ray is N0, the quanta that the central ray's cell sees through air at full dose;
    None measures it in each volume, whose own noise it then continues. electronic_noise is Ne,
    the variance of the electronics in quanta. cutoff is the reconstruction filter's (see
    filtered_backprojection); None takes the calibration's, or the bare ramp where
    photons_per_ray is given. bowtie_mm, current_modulation and blur_cells: see Exposure.
    device: "cpu", or a torch device for the projections; the draws are the same on all.
    """

    dose_fraction: float
    photons_per_ray: float | None = 1.5e5
    electronic_noise: float = 10.0
    cutoff: float | None = None
    detectors: int = 736
    views: int = 1152
    bowtie_mm: float = 0.0
    current_modulation: float = 0.0
    blur_cells: float = 0.0
    device: str = field(default="cpu", repr=False, compare=False)
    geometry: FanBeam = field(init=False, repr=False)
    exposure: Exposure = field(init=False, repr=False)

    def __post_init__(self) -> None:
        if not 0 < self.dose_fraction <= 1:
            raise ConfigError(f"dose_fraction must lie in (0, 1], got {self.dose_fraction}")
        if self.photons_per_ray is not None and not 0 < self.photons_per_ray < math.inf:
            raise ConfigError(f"photons_per_ray must be positive, got {self.photons_per_ray}")
        if not 0 <= self.electronic_noise < math.inf:
            raise ConfigError(f"electronic_noise must not be negative, got {self.electronic_noise}")
        if self.cutoff is not None and not self.cutoff > 0:
            raise ConfigError(f"cutoff must be positive, got {self.cutoff}")
        exposure = Exposure(self.bowtie_mm, self.current_modulation, self.blur_cells)
        object.__setattr__(self, "geometry", FanBeam(self.detectors, self.views))
        object.__setattr__(self, "exposure", exposure)

    @property
    def description(self) -> str:
        """How the noise is set, as text for a derived image's header."""
        photons = (
            "photons per ray calibrated to the image's own noise"
            if self.photons_per_ray is None
            else f"{self.photons_per_ray:g} photons per ray at full dose"
        )
        return f"{photons}, electronic noise {self.electronic_noise:g} quanta"

    def calibration(self, volume: Volume) -> Calibration:
        """The scanner's setting for a volume: the configured one, or measured in it.

        Raises CalibrationError where it has to be measured and cannot be.
        """
        if self.photons_per_ray is None:
            return calibrate(
                volume,
                geometry=self.geometry,
                electronic_noise=self.electronic_noise,
                exposure=self.exposure,
                cutoff=self.cutoff,
            )
        return Calibration.known(
            self.photons_per_ray,
            slices=volume.image_hu.shape[0],
            cutoff=math.inf if self.cutoff is None else self.cutoff,
        )

    def __call__(
        self, volume: Volume, generator: np.random.Generator, scan: Calibration | None = None
    ) -> FloatArray:
        """Low-dose image_hu [slices, rows, columns]; padding stays as it is.

        scan: the result of `calibration` for the volume, if it is known already. Dose 1 returns
        the image bit for bit.
        """
        low_dose_hu = volume.image_hu.astype(np.float32, copy=True)
        if self.dose_fraction == 1:
            return low_dose_hu
        scan = scan or self.calibration(volume)
        # A generator a slice: neither blocks nor threads change the draws.
        generators = generator.spawn(low_dose_hu.shape[0])
        for start in range(0, low_dose_hu.shape[0], SLICES_PER_BLOCK):
            block = slice(start, start + SLICES_PER_BLOCK)
            noise_hu = self._noise_hu(
                low_dose_hu[block],
                volume.spacing_mm[1:],
                scan.slice_photons_per_ray[block],
                scan.cutoff,
                generators[block],
            )
            low_dose_hu[block] += noise_hu * volume.valid[block]
        return low_dose_hu

    def _noise_hu(
        self,
        image_hu: FloatArray,
        spacing_mm: tuple[float, float],
        photons_per_ray: tuple[float, ...],
        cutoff: float,
        generators: list[np.random.Generator],
    ) -> FloatArray:
        projector = projector_on(self.device)
        line_integrals = projector.forward_project(
            hu_to_mu_per_mm(image_hu), spacing_mm=spacing_mm, geometry=self.geometry
        )
        with ThreadPoolExecutor(WORKERS) as pool:
            noise = list(
                pool.map(self._sinogram_noise, line_integrals, photons_per_ray, generators)
            )
        noise_mu_per_mm = projector.filtered_backprojection(
            np.stack(noise),
            shape=(image_hu.shape[1], image_hu.shape[2]),
            spacing_mm=spacing_mm,
            geometry=self.geometry,
            cutoff=cutoff,
        )
        return mu_per_mm_to_hu_difference(noise_mu_per_mm)

    def _sinogram_noise(
        self, line_integrals: FloatArray, photons_per_ray: float, generator: np.random.Generator
    ) -> FloatArray:
        """One slice's added noise, [views, detectors]."""
        sent = self.exposure.relative_photons(line_integrals, self.geometry)
        counts = np.exp(-line_integrals) * (np.float32(photons_per_ray) * sent)
        noise = added_noise(
            counts,
            dose_fraction=self.dose_fraction,
            electronic_noise=self.electronic_noise,
            generator=generator,
        )
        return self.exposure.blurred(noise)
