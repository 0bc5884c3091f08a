"""How much of a small disc's contrast a denoiser keeps, by size, contrast and dose.

A slice of noise is denoised with and without discs in it, and the difference is held against the
discs themselves: the noise cancels, and what is left is what the denoiser made of the discs.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import scipy  # scipy.stats, half a second, is loaded at its first use
from numpy.typing import NDArray

from pipeline.core.json_numbers import Figure, Interval, JsonRecord
from pipeline.physics.phantoms.image_quality import (
    PhantomGrid,
    Rod,
    RodKind,
    ring_mm,
    rod_phantom,
    water_phantom,
)
from pipeline.quality.phantom_scan import Scan, Scanner, scan

#: image_hu [slices, rows, columns] to the same shape.
Denoiser = Callable[[NDArray[np.float32]], NDArray[np.float32]]

DIAMETERS_MM = (2.0, 3.0, 5.0, 7.0, 10.0)
CONTRASTS_HU = (10.0, 20.0, 50.0, 100.0)
DOSES = (0.1, 0.25, 0.5, 1.0)
CONFIDENCE = 0.95
#: Of each size in a slice, evenly spread on a circle in the water.
PLACES, _RING_MM = 3, 60.0
_SCANNED_HU = 100.0
#: Around a disc, what of the difference is still taken for the disc's.
_MARGIN_MM = 2.0


class DiscKept(JsonRecord):
    """The share of a disc's contrast that is left, 1 for all of it, and its interval."""

    diameter_mm: float
    contrast_hu: float
    kept: Figure
    interval: Interval


@dataclass(frozen=True)
class DiscScans:
    """A scan of water, and what discs add to it for each HU of their contrast: signal [rows,
    columns], free of noise. contrasts_hu: with which the discs are shown."""

    water: Scan
    signal: NDArray[np.float32]
    discs: tuple[Rod, ...]
    contrasts_hu: tuple[float, ...]
    grid: PhantomGrid

    @property
    def realisations(self) -> int:
        """Slices of independent noise."""
        return len(self.water.quantum_hu)


def scan_discs(
    scanner: Scanner,
    *,
    realisations: int,
    generator: np.random.Generator,
    diameters_mm: Sequence[float] = DIAMETERS_MM,
    contrasts_hu: Sequence[float] = CONTRASTS_HU,
) -> DiscScans:
    """Discs of every size in water, PLACES of each.

    What a scanner makes of them is linear in their contrast, as its projections and their
    filtered backprojection are: it is computed once.
    """
    grid = PhantomGrid()
    # In turn, so that the discs of a size are spread over the circle.
    sizes = [*diameters_mm] * PLACES
    discs = tuple(
        Rod(x, y, size / 2, _SCANNED_HU)
        for (x, y), size in zip(ring_mm(len(sizes), _RING_MM), sizes, strict=True)
    )
    water_hu = water_phantom(grid).volume.image_hu[0]
    scanned = partial(scan, pixel_mm=grid.pixel_mm, scanner=scanner, generator=generator)
    water = scanned(water_hu, realisations=realisations)
    with_discs = scanned(rod_phantom(discs, grid).volume.image_hu[0], realisations=0)
    signal = (with_discs.clean_hu - water.clean_hu) / np.float32(_SCANNED_HU)
    return DiscScans(water, signal, discs, tuple(contrasts_hu), grid)


def discs_kept(denoise: Denoiser, scans: DiscScans, dose_fraction: float) -> list[DiscKept]:
    """Of each size and contrast at one dose; the denoiser sees (1 + contrasts) x realisations
    slices.

    kept is the mean over places and slices of sum(d s) / sum(s s) around a disc, where s is the
    disc as it is reconstructed without noise and d what denoising leaves of it; the interval is
    Student's for that mean.
    """
    noisy_hu = scans.water.at_dose(dose_fraction)
    without_hu = denoise(noisy_hu)
    found = []
    for contrast_hu in scans.contrasts_hu:
        signal_hu = np.float32(contrast_hu) * scans.signal
        left_hu = denoise(noisy_hu + signal_hu) - without_hu
        by_size: dict[float, list[NDArray[np.float64]]] = {}
        for disc in scans.discs:
            near = _near(disc, scans.grid)
            shape = signal_hu[near].astype(np.float64)
            kept = left_hu[:, near].astype(np.float64) @ shape / (shape @ shape)
            by_size.setdefault(2 * disc.radius_mm, []).append(kept)
        found += [
            _disc_kept(RodKind(diameter_mm, contrast_hu), np.concatenate(values))
            for diameter_mm, values in sorted(by_size.items())
        ]
    return found


def _near(disc: Rod, grid: PhantomGrid) -> NDArray[np.bool_]:
    """Pixels [rows, columns] up to the margin around a disc."""
    axis_mm = grid.axis_mm
    beyond_mm = np.hypot(axis_mm[:, None] - disc.y_mm, axis_mm[None] - disc.x_mm)
    return beyond_mm <= disc.radius_mm + _MARGIN_MM


def _disc_kept(kind: RodKind, values: NDArray[np.float64]) -> DiscKept:
    mean = float(values.mean())
    half = math.nan
    if len(values) > 1:
        error = float(values.std(ddof=1)) / math.sqrt(len(values))
        half = float(scipy.stats.t.ppf((1 + CONFIDENCE) / 2, len(values) - 1)) * error
    return DiscKept(
        diameter_mm=kind.diameter_mm,
        contrast_hu=kind.contrast_hu,
        kept=mean,
        interval=(mean - half, mean + half),
    )
