"""What a dose sweep scans and how it is read; all of it goes into the record."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from pipeline.core.errors import ConfigError
from pipeline.physics.phantoms.image_quality import LOW_CONTRAST_RODS, PhantomGrid, RodKind, ring_mm
from pipeline.quality.phantom_scan import MIN_QUANTA, ScanConditions, Scanner


@dataclass(frozen=True)
class Sweep:
    """What is scanned and how it is read.

    Full dose, 1, always belongs to the doses. `regions` is the number of regions with each rod
    and of regions without, at least; they lie on a circle of `ring_radius_mm` in the water,
    `places` to a slice, all in one noise. A channel's width is `width_per_diameter` times the
    rod's. internal_noise is the reader's own (model_observer.with_internal_noise): 0 is the ideal
    reader of the channels, and only there are the intervals those of quantum noise alone.
    """

    doses: tuple[float, ...] = (0.1, 0.25, 0.5, 1.0)
    rods: tuple[RodKind, ...] = LOW_CONTRAST_RODS
    regions: int = 100
    places: int = 16
    ring_radius_mm: float = 60.0
    body_radius_mm: float = 100.0
    grid: PhantomGrid = field(default_factory=PhantomGrid)
    region_pixels: int = 33
    channels: int = 6
    width_per_diameter: float = 1.5
    internal_noise: float = 0.0
    bootstraps: int = 1000
    confidence: float = 0.95

    def __post_init__(self) -> None:
        if not self.doses or not all(0 < dose <= 1 for dose in self.doses):
            raise ConfigError(f"doses must lie in (0, 1], got {self.doses}")
        object.__setattr__(self, "doses", tuple(sorted({*self.doses, 1.0})))
        gap_mm = 2 * self.ring_radius_mm * math.sin(math.pi / max(self.places, 2))
        if gap_mm < self.region_pixels * self.grid.pixel_mm:
            raise ConfigError(
                f"regions of {self.region_pixels} pixels overlap: {self.places} places lie "
                f"{gap_mm:.1f} mm apart"
            )

    @property
    def slices(self) -> int:
        """Slices for each kind of rod, and as many without a rod."""
        return math.ceil(self.regions / self.places)

    @property
    def images(self) -> int:
        """How many images a denoiser will see."""
        return self.slices * (len(self.rods) + 1) * len(self.doses)

    @property
    def places_mm(self) -> tuple[tuple[float, float], ...]:
        """(x, y) of every place, on the centre of a pixel, as the signal is known exactly."""
        pixel_mm, half = self.grid.pixel_mm, (self.grid.matrix - 1) / 2

        def snap(mm: float) -> float:
            """To the centre of the nearest pixel."""
            return (round(mm / pixel_mm + half) - half) * pixel_mm

        return tuple((snap(x), snap(y)) for x, y in ring_mm(self.places, self.ring_radius_mm))


def parse_doses(text: str) -> tuple[float, ...]:
    """Dose fractions from `0.1,0.25,1`; ConfigError where they are none."""
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise ConfigError(f"doses are written as 0.1,0.25,0.5,1, got {text!r}") from None


class SweepConditions(ScanConditions):
    """All that the figures of a sweep depend on, with units."""

    task: str
    observer: str
    d_prime_and_auc: str
    equivalent_dose: str
    internal_noise_factor: float
    confidence: float
    bootstraps: int
    regions_with_rod: int
    regions_without_rod: int
    slices_per_rod: int
    region_pixels: int
    region_mm: float
    pixel_mm: float
    matrix: int
    body_diameter_mm: float
    ring_radius_mm: float
    fewest_quanta_in_a_ray_at_full_dose: float
    doses: list[float]
    warnings: list[str]


def conditions(sweep: Sweep, scanner: Scanner, min_quanta: float) -> SweepConditions:
    """min_quanta: detected at full dose in the ray that meets most matter."""
    pixel_mm, count = sweep.grid.pixel_mm, sweep.slices * sweep.places
    return SweepConditions(
        task="signal known exactly: a rod of known size and place in water, or water alone",
        observer=f"channelised Hotelling, {sweep.channels} Laguerre-Gauss channels",
        d_prime_and_auc="unbiased for finite samples, exact interval for normal outputs",
        equivalent_dose="dose fraction at which denoised d' equals that of undenoised full dose",
        internal_noise_factor=sweep.internal_noise,
        confidence=sweep.confidence,
        bootstraps=sweep.bootstraps,
        regions_with_rod=count,
        regions_without_rod=count,
        slices_per_rod=sweep.slices,
        region_pixels=sweep.region_pixels,
        region_mm=sweep.region_pixels * pixel_mm,
        pixel_mm=pixel_mm,
        matrix=sweep.grid.matrix,
        body_diameter_mm=2 * sweep.body_radius_mm,
        ring_radius_mm=sweep.ring_radius_mm,
        **scanner.conditions.to_dict(),
        fewest_quanta_in_a_ray_at_full_dose=min_quanta,
        doses=list(sweep.doses),
        warnings=_warnings(sweep.doses[0], min_quanta),
    )


def _warnings(lowest_dose: float, min_quanta: float) -> list[str]:
    left = min_quanta * lowest_dose
    if left >= MIN_QUANTA:
        return []
    return [
        f"at dose {lowest_dose:g} a ray keeps {left:.0f} quanta; below {MIN_QUANTA:.0f} the noise "
        "is understated"
    ]
