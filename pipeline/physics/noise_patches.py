"""Noise measured in an image of a patient: small flat patches of tissue, in bands of frequency.

Anatomy is smooth where noise is not, so noise is measured above about 0.1 cycles per mm. Flat
tissue is found in an image smoothed until little noise is left, so that the choice of the
patches hardly depends on what is measured in them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from pipeline.physics.fan_beam_geometry import FloatArray

#: Edge of a patch: a vessel's distance in the liver, and still a hundred pixels.
PATCH_MM = 8.0

#: Water, fat, muscle, organs, the plastics of phantoms; no lung, no bone.
TISSUE_HU = (-150.0, 200.0)

#: Gaussians between which the bands lie: noise finer than the first, and between the two.
FINE_MM, COARSE_MM = 0.6, 1.5

_SMOOTH_MM = 2.0

#: Of a slice's patches of tissue, the flattest: the others hold vessels, borders, fat strands.
FLATTEST = 0.4


@dataclass(frozen=True)
class Patches:
    """Square patches of one slice: `edge` pixels wide, `chosen` [rows, columns] of patches."""

    edge: int
    chosen: NDArray[np.bool_]

    def __len__(self) -> int:
        return int(self.chosen.sum())

    def variances(self, image: FloatArray) -> FloatArray:
        """The variance of an image [rows, columns] within each chosen patch, [patches]."""
        return _blocks(image, self.edge).var(axis=(1, 3))[self.chosen]

    def regions(self, image: FloatArray) -> FloatArray:
        """The chosen patches of an image [rows, columns], [patches, edge, edge]."""
        return _blocks(image, self.edge).swapaxes(1, 2)[self.chosen]

    def means(self, image: FloatArray) -> FloatArray:
        """The mean of an image [rows, columns] within each chosen patch, [patches]."""
        return _blocks(image, self.edge).mean(axis=(1, 3))[self.chosen]


def _blocks(image: NDArray, edge: int) -> NDArray:
    """[rows, edge, columns, edge]: a slice cut into patches, the rest at its ends left out."""
    rows, columns = image.shape[0] // edge, image.shape[1] // edge
    return image[: rows * edge, : columns * edge].reshape(rows, edge, columns, edge)


def flat_patches(
    image_hu: FloatArray, valid: NDArray[np.bool_], spacing_mm: tuple[float, float]
) -> Patches:
    """The flattest patches of tissue in a slice [rows, columns]; none where there is no tissue."""
    edge = max(4, round(PATCH_MM / spacing_mm[0]))
    sigma = _pixels(_SMOOTH_MM, spacing_mm)
    smooth = _blocks(ndimage.gaussian_filter(image_hu, sigma), edge)
    low, high = TISSUE_HU
    tissue = (smooth.min(axis=(1, 3)) > low) & (smooth.max(axis=(1, 3)) < high)
    tissue &= _blocks(valid, edge).all(axis=(1, 3))
    steepness = _blocks(ndimage.gaussian_gradient_magnitude(image_hu, sigma), edge).mean(
        axis=(1, 3)
    )
    if tissue.any():
        tissue &= steepness <= np.quantile(steepness[tissue], FLATTEST)
    return Patches(edge, tissue)


def bands(image: FloatArray, spacing_mm: tuple[float, float]) -> tuple[FloatArray, FloatArray]:
    """A slice's fine band and the next coarser, [rows, columns] each; their sum is the noise."""
    fine = ndimage.gaussian_filter(image, _pixels(FINE_MM, spacing_mm))
    coarse = ndimage.gaussian_filter(image, _pixels(COARSE_MM, spacing_mm))
    return image - fine, fine - coarse


def _pixels(mm: float, spacing_mm: tuple[float, float]) -> tuple[float, float]:
    return mm / spacing_mm[0], mm / spacing_mm[1]
