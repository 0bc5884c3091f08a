"""The noise of an image of a patient, as one figure: how strong it is, and how fine."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pipeline.core.types import ImageHU
from pipeline.core.volume import Volume
from pipeline.physics.noise_patches import Patches, bands, flat_patches

#: Slices of a volume that are measured, evenly spread, and the patches that one needs.
SLICES, MIN_PATCHES = 5, 10

#: What full-dose scans show, by how fine their noise is (the kernel) and how thick the slice: the
#: logarithm of HU is _USUAL[0] + _USUAL[1] fineness + _USUAL[2] log(mm). Nine tenths of the 105
#: full-dose series (64 patients, three vendors; no head, none under 1 mm) lie below; a quantile
#: regression (Koenker and Bassett, Econometrica 1978), residuals of 32 %, measured by
#: benchmarks/usual_noise.py.
_USUAL = (3.175, 0.384, -0.292)


@dataclass(frozen=True)
class ImageNoise:
    """noise_hu: median standard deviation in flat tissue, finer than 0.1 cycles per mm. fineness:
    logarithm of the variance in the fine band over that in the next coarser (noise_patches)."""

    noise_hu: float
    fineness: float


@dataclass(frozen=True)
class FlatTissue:
    """Where noise is measured: slices by number, their flat patches, the spacing of rows and
    columns in mm."""

    slices: tuple[int, ...]
    patches: tuple[Patches, ...]
    spacing_mm: tuple[float, float]

    @classmethod
    def of(cls, volume: Volume) -> FlatTissue:
        """In up to SLICES slices of a volume; none where there is too little flat tissue."""
        spacing_mm = volume.spacing_mm[1:]
        found = {
            number: flat_patches(
                np.asarray(volume.image_hu[number], np.float32),
                np.asarray(volume.valid[number]),
                spacing_mm,
            )
            for number in evenly_spread(len(volume.image_hu))
        }
        kept = {n: patches for n, patches in found.items() if len(patches) >= MIN_PATCHES}
        return cls(tuple(kept), tuple(kept.values()), spacing_mm)

    def noise(self, slices_hu: Sequence[ImageHU]) -> ImageNoise | None:
        """Of the images of `slices`, in this order, each [rows, columns]; None where there are
        none."""
        if not self.slices:
            return None
        variances = []
        for image_hu, patches in zip(slices_hu, self.patches, strict=True):
            fine, coarse = bands(np.asarray(image_hu, np.float32), self.spacing_mm)
            variances.append([patches.variances(each) for each in (fine, coarse, fine + coarse)])
        in_fine, in_coarse, in_both = (
            max(1e-9, float(np.median(np.concatenate(each))))
            for each in zip(*variances, strict=True)
        )
        return ImageNoise(math.sqrt(in_both), math.log(in_fine / in_coarse))


def evenly_spread(count: int, most: int = SLICES) -> list[int]:
    """Numbers of up to `most` slices of `count`, from the first to the last, evenly spread."""
    return np.unique(np.linspace(0, count - 1, min(most, count)).round().astype(int)).tolist()


def usual_noise_hu(fineness: float, thickness_mm: float) -> float:
    """The noise of a full-dose scan with noise as fine and slices as thick."""
    level, by_fineness, by_thickness = _USUAL
    return math.exp(level + by_fineness * fineness + by_thickness * math.log(thickness_mm))
