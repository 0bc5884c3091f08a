"""HU that are right, contrast over noise, and noise alike from the centre to the rim."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from pipeline.core.errors import LdctError
from pipeline.core.json_numbers import Figure, JsonRecord
from pipeline.core.types import ImageHU
from pipeline.core.units import AIR_HU
from pipeline.metrics.image import TISSUE_SMOOTHING_PIXELS, tissue_masks
from pipeline.quality.rois import cut_regions, detrend

Mask = NDArray[np.bool_]

#: Air around the patient is darker than this; emphysema and the rim of the body are not.
AIR_BELOW_HU = AIR_HU + 30
#: Smoothing and blur reach so far from the body or the couch into the air.
_AIR_MARGIN_PIXELS = 3


class TissueBias(JsonRecord):
    """Mean error in HU over so many voxels of a tissue class; None where it has none."""

    bias_hu: Figure
    voxels: int


class ContrastToNoise(JsonRecord):
    """A rod's contrast over the noise about it (cnr; None without noise), and where each was
    measured: discs of these radii, on so many slices."""

    contrast_hu: Figure
    noise_hu: Figure
    cnr: Figure
    disc_radius_mm: float
    background_radius_mm: float
    pixels_inside: int
    pixels_outside: int
    slices: int


class Uniformity(JsonRecord):
    """HU and noise of water in squares at the centre and around it (IEC 61223-3-5).

    worst_difference_hu: the largest of periphery less centre, absolute. noise_ratio: the mean
    noise at the periphery over that at the centre; None where the centre has none.
    """

    centre_hu: Figure
    periphery_hu: list[Figure]
    worst_difference_hu: Figure
    noise_centre_hu: Figure
    noise_periphery_hu: list[Figure]
    noise_ratio: Figure
    region_pixels: int
    region_mm: float
    slices: int


def tissue_bias(
    image_hu: NDArray, target_hu: NDArray, *, body: NDArray, valid: NDArray
) -> dict[str, TissueBias]:
    """Mean error in HU of each tissue class, air included, over all slices.

    All arrays are [slices, rows, columns]. Tissue is chosen on the target within `body` as
    metrics.tissue_masks does; air anywhere valid. bias_hu is None where a class has no voxel.
    """
    sums: dict[str, list[float]] = {}
    for image, target, inside, measured in zip(image_hu, target_hu, body, valid, strict=True):
        masks = {**tissue_masks(target, inside & measured), "air": air_mask(target, measured)}
        for name, mask in masks.items():
            error = (image[mask] - target[mask]).astype(np.float64)
            total = sums.setdefault(name, [0.0, 0.0])
            total[0] += float(error.sum())
            total[1] += error.size
    return {
        name: TissueBias(bias_hu=total / count if count else None, voxels=int(count))
        for name, (total, count) in sums.items()
    }


def air_mask(target_hu: ImageHU, valid: Mask) -> Mask:
    """Air of one slice [rows, columns], three pixels away from anything else."""
    smooth_hu = ndimage.uniform_filter(target_hu, TISSUE_SMOOTHING_PIXELS)
    air = valid & (smooth_hu < AIR_BELOW_HU)
    square = np.ones((3, 3), dtype=bool)
    return ndimage.binary_erosion(air, square, iterations=_AIR_MARGIN_PIXELS, border_value=1)


def contrast_to_noise(
    image_hu: NDArray,
    *,
    centre_mm: tuple[float, float],
    radius_mm: float,
    background_mm: Sequence[tuple[float, float]],
    pixel_mm: float,
    background_radius_mm: float = 8.0,
) -> ContrastToNoise:
    """Contrast of a rod over the noise about it: (mean inside - mean outside) / deviation.

    image_hu: [slices, rows, columns]; the mean of a disc of 0.8 `radius_mm` at `centre_mm`
    against discs of `background_radius_mm` at each of `background_mm`, (x, y) from the image's
    centre; the deviation is that of the background's pixels about their own disc's mean,
    pooled. In discs much smaller it would miss coarse noise. Noise of one pixel, whatever its
    texture: two images of equal figure may differ in what can be seen in them.
    """
    inside = _disc_values(image_hu, centre_mm, 0.8 * radius_mm, pixel_mm)
    outside = [
        _disc_values(image_hu, place, background_radius_mm, pixel_mm) for place in background_mm
    ]
    pooled = np.mean([np.var(values, axis=1, ddof=1).mean() for values in outside])
    contrast_hu = float(inside.mean() - np.mean([values.mean() for values in outside]))
    noise_hu = float(np.sqrt(pooled))
    return ContrastToNoise(
        contrast_hu=contrast_hu,
        noise_hu=noise_hu,
        cnr=contrast_hu / noise_hu if noise_hu > 0 else None,
        disc_radius_mm=0.8 * radius_mm,
        background_radius_mm=background_radius_mm,
        pixels_inside=inside.size,
        pixels_outside=sum(values.size for values in outside),
        slices=len(image_hu),
    )


def uniformity(
    image_hu: NDArray,
    *,
    periphery_mm: Sequence[tuple[float, float]],
    pixel_mm: float,
    region_mm: float = 20.0,
) -> Uniformity:
    """HU and noise of a water cylinder, centre against periphery (IEC 61223-3-5).

    image_hu: [slices, rows, columns]; squares of `region_mm` at the centre and at each of
    `periphery_mm`. Noise is the deviation from each square's own plane. noise_ratio is
    periphery over centre; above 1 only where a bowtie or a denoiser turns nature round.
    """
    size = round(region_mm / pixel_mm)
    places = [(0.0, 0.0), *periphery_mm]
    regions = cut_regions(image_hu, places, pixel_mm=pixel_mm, size_pixels=size)
    by_place = regions.reshape(len(image_hu), len(places), -1)
    means_hu = by_place.mean(axis=(0, 2))
    flat = detrend(regions, 1).reshape(by_place.shape)
    noise_hu = np.sqrt((flat**2).sum(axis=2).mean(axis=0) / (size**2 - 3))
    return Uniformity(
        centre_hu=float(means_hu[0]),
        periphery_hu=means_hu[1:].tolist(),
        worst_difference_hu=float(np.abs(means_hu[1:] - means_hu[0]).max()),
        noise_centre_hu=float(noise_hu[0]),
        noise_periphery_hu=noise_hu[1:].tolist(),
        noise_ratio=float(noise_hu[1:].mean() / noise_hu[0]) if noise_hu[0] > 0 else None,
        region_pixels=size,
        region_mm=size * pixel_mm,
        slices=len(image_hu),
    )


def _disc_values(
    image_hu: NDArray, centre_mm: tuple[float, float], radius_mm: float, pixel_mm: float
) -> NDArray[np.float64]:
    """Values [slices, pixels] of the pixels whose centre lies in a disc."""
    rows, columns = image_hu.shape[1:]
    x = (np.arange(columns) - (columns - 1) / 2) * pixel_mm - centre_mm[0]
    y = (np.arange(rows) - (rows - 1) / 2) * pixel_mm - centre_mm[1]
    inside = np.hypot(x[None, :], y[:, None]) <= radius_mm
    if inside.sum() < 2:
        raise LdctError(f"a disc of radius {radius_mm} mm holds fewer than 2 pixels")
    return image_hu[:, inside].astype(np.float64)
