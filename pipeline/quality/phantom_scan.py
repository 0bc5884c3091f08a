"""A phantom scanned at any dose: the same quanta, more or less of them.

Unlike LowDoseCT, which adds what a lower dose would add to a real image, the image here is
noiseless, so full dose has to be drawn as well.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from pipeline.core.errors import ConfigError
from pipeline.core.json_numbers import JsonRecord
from pipeline.core.units import AIR_HU, hu_to_mu_per_mm, mu_per_mm_to_hu_difference
from pipeline.physics.detector import Exposure
from pipeline.physics.fan_beam import filtered_backprojection, forward_project
from pipeline.physics.fan_beam_geometry import SLICES_PER_BLOCK, FanBeam
from pipeline.physics.lowdose import LowDoseCT

Stack = NDArray[np.float32]

#: Fewer detected quanta than this a ray, and normal noise on the line integral is no longer
#: what a scanner sees: measured against counts, its deviation is 2 % off at 62 and 17 % at 14.
MIN_QUANTA = 60.0


class ScanConditions(JsonRecord):
    """The settings of a Scanner, as they stand beside every figure measured with it."""

    photons_per_ray_at_full_dose: float
    electronic_noise_quanta: float
    kernel: str
    detectors: int
    views: int
    bowtie_mm: float
    current_modulation: float
    blur_cells: float


@dataclass(frozen=True)
class Scanner:
    """What scans a phantom: a fan beam, its quanta, its electronics and its reconstruction.

    photons_per_ray: quanta N0 that the central cell sees through air at full dose;
    electronic_noise: the electronics' variance Ne in quanta; cutoff: the reconstruction
    filter's, see filtered_backprojection, infinity for the bare ramp; exposure: bowtie, current
    modulation and detector blur. The meanings are LowDoseCT's.
    """

    photons_per_ray: float = 1.5e5
    electronic_noise: float = 10.0
    cutoff: float = math.inf
    geometry: FanBeam = field(default_factory=FanBeam)
    exposure: Exposure = field(default_factory=Exposure)

    def __post_init__(self) -> None:
        if self.photons_per_ray <= 0 or self.electronic_noise < 0:
            raise ConfigError(
                "photons_per_ray must be positive and electronic_noise not negative, got "
                f"{self.photons_per_ray} and {self.electronic_noise}"
            )

    @classmethod
    def like(cls, physics: LowDoseCT, *, photons_per_ray: float | None = None) -> Scanner:
        """The scanner whose noise a degradation inserts; other photons where the argument says so.

        Where the degradation measures its photons in each image, the default's.
        """
        if photons_per_ray is None:
            photons_per_ray = physics.photons_per_ray or cls.photons_per_ray
        return cls(
            photons_per_ray=photons_per_ray,
            electronic_noise=physics.electronic_noise,
            cutoff=math.inf if physics.cutoff is None else physics.cutoff,
            geometry=physics.geometry,
            exposure=physics.exposure,
        )

    @property
    def conditions(self) -> ScanConditions:
        """All settings, for the record."""
        hann = f"ramp under a Hann window to {self.cutoff:g} of the detector's Nyquist frequency"
        return ScanConditions(
            photons_per_ray_at_full_dose=self.photons_per_ray,
            electronic_noise_quanta=self.electronic_noise,
            kernel="bare ramp" if math.isinf(self.cutoff) else hann,
            detectors=self.geometry.detectors,
            views=self.geometry.views,
            **asdict(self.exposure),
        )


@dataclass(frozen=True)
class Scan:
    """Realisations of one slice at every dose at once.

    clean_hu [rows, columns] is the noiseless reconstruction; quantum_hu and electronic_hu
    [realisations, rows, columns] are the noise at full dose. min_quanta: detected at full
    dose in the ray that meets most matter.
    """

    clean_hu: Stack
    quantum_hu: Stack
    electronic_hu: Stack
    min_quanta: float

    def at_dose(self, dose_fraction: float) -> Stack:
        """image_hu [realisations, rows, columns] at a fraction of the full dose.

        One realisation has the same quantum pattern at all doses, only scaled, so that two
        doses differ by dose alone and not by chance.
        """
        if not 0 < dose_fraction <= 1:
            raise ConfigError(f"a dose fraction must lie in (0, 1], got {dose_fraction}")
        noise_hu = self.quantum_hu / np.float32(np.sqrt(dose_fraction))
        noise_hu += self.electronic_hu / np.float32(dose_fraction)
        return noise_hu + self.clean_hu


def scan(
    image_hu: Stack,
    *,
    pixel_mm: float,
    scanner: Scanner,
    realisations: int,
    generator: np.random.Generator,
) -> Scan:
    """Scan a noiseless slice image_hu [rows, columns] `realisations` times.

    The variance of a line integral p at dose a is exp(p)/(a N0) (1 + Ne exp(p)/(a N0)), the
    first-order error of -log(counts/N0) for Poisson counts plus electronic noise (Yu et al.,
    J Comput Assist Tomogr 2012). Its two terms are drawn separately, as they scale differently.
    """
    return scan_each(
        image_hu[None],
        pixel_mm=pixel_mm,
        scanner=scanner,
        realisations=realisations,
        generator=generator,
    )[0]


def scan_each(
    slices_hu: Stack,
    *,
    pixel_mm: float,
    scanner: Scanner,
    realisations: int,
    generator: np.random.Generator,
) -> list[Scan]:
    """`scan` of each slice in turn, the same noise, several times faster: rays are shared."""
    spacing_mm = (pixel_mm, pixel_mm)
    mu = hu_to_mu_per_mm(slices_hu).astype(np.float32)
    integrals = forward_project(mu, spacing_mm=spacing_mm, geometry=scanner.geometry)
    per_quantum = [_variance_per_quantum(each, scanner) for each in integrals]

    def sinograms() -> Iterator[Stack]:
        """Of each slice the clean one, then its noise of quanta and of the electronics."""
        for clean, variance in zip(integrals, per_quantum, strict=True):
            yield clean
            yield from _draws(np.sqrt(variance), scanner, realisations, generator)
            if scanner.electronic_noise > 0:
                deviation = np.sqrt(np.float32(scanner.electronic_noise)) * variance
                yield from _draws(deviation, scanner, realisations, generator)

    found_hu = _reconstructed(sinograms(), slices_hu.shape[1:], spacing_mm, scanner)
    return [
        _scan_of(images_hu, realisations, float(1 / variance.max()))
        for images_hu, variance in zip(np.split(found_hu, len(slices_hu)), per_quantum, strict=True)
    ]


def _variance_per_quantum(integrals: Stack, scanner: Scanner) -> Stack:
    """Of each line integral [views, detectors], from the quanta: one over those detected."""
    sent = scanner.exposure.relative_photons(integrals, scanner.geometry)
    return np.exp(integrals) / (np.float32(scanner.photons_per_ray) * sent)


def _draws(
    deviation: Stack, scanner: Scanner, realisations: int, generator: np.random.Generator
) -> Iterator[Stack]:
    for _ in range(realisations):
        draw = generator.standard_normal(deviation.shape, dtype=np.float32) * deviation
        yield scanner.exposure.blurred(draw)


def _reconstructed(
    sinograms: Iterator[Stack],
    shape: tuple[int, int],
    spacing_mm: tuple[float, float],
    scanner: Scanner,
) -> Stack:
    """Differences in HU [images, rows, columns]; a block of sinograms is in memory at a time."""
    found = []
    while block := list(islice(sinograms, SLICES_PER_BLOCK)):
        mu_per_mm = filtered_backprojection(
            np.stack(block),
            shape=shape,
            spacing_mm=spacing_mm,
            geometry=scanner.geometry,
            cutoff=scanner.cutoff,
        )
        found.append(mu_per_mm_to_hu_difference(mu_per_mm).astype(np.float32))
    return np.concatenate(found)


def _scan_of(images_hu: Stack, realisations: int, min_quanta: float) -> Scan:
    """From the clean image, the noise of quanta and, where there is any, of the electronics."""
    quantum_hu = images_hu[1 : 1 + realisations]
    electronic_hu = images_hu[1 + realisations :]
    if not len(electronic_hu):
        electronic_hu = np.zeros_like(quantum_hu)
    return Scan(images_hu[0] + np.float32(AIR_HU), quantum_hu, electronic_hu, min_quanta)
