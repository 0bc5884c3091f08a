"""How far a denoised voxel may lie from the image that the dose asked for would have given.

The spread of that difference is predicted for each voxel from the noise that was taken away around
it, by a log-linear model of the variance (Harvey, Econometrica 44, 461, 1976) in how strong, fine
and blotchy that noise is and how much edge and texture the result has there. The half widths of
the intervals are then quantiles of the error over that spread, on patients that training did not
see, within each group of tissue and at each dose ratio (conformal prediction by groups: Vovk, ACML
2012; Angelopoulos and Bates, arXiv:2107.07511).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from pipeline.core.json_numbers import JsonRecord
from pipeline.core.types import ImageHU

#: The fractions of voxels that the two intervals are to hold; the half width of the first is what
#: a normal variable's standard deviation would be.
LEVELS = (0.68, 0.95)
#: Tissues and what lies between them, by HU of the smoothed result with these borders: each voxel
#: belongs to one. What lies between two is mostly edges, with larger errors than either.
GROUPS = ("lung", "lung_to_fat", "fat", "soft_tissue", "soft_tissue_to_bone", "bone")
BORDERS_HU = (-650.0, -140.0, -40.0, 130.0, 250.0)
#: Standard deviations in pixels of the neighbourhoods, since the network's reach is in pixels too.
_NEAR, _WIDE, _GROUP = 4.0, 12.0, 1.5
#: The part of the noise's variance, of k times the dose, by which the estimate of the noise itself
#: is wrong, before the model corrects it: our choice.
_ESTIMATE = 0.1
_TINY_HU = 1e-3
#: Added to ratios before their logarithm: where there is no edge it says no more.
_FLOOR = 0.02


class GroupSpread(JsonRecord):
    """Of one group: the variance's coefficients, and the half widths of the intervals of LEVELS
    over the spread, one pair for each dose ratio of the calibration. lowest, highest: of the
    features that calibration saw; beyond, those at the limit hold."""

    coefficients: tuple[float, ...]
    lowest: tuple[float, ...]
    highest: tuple[float, ...]
    half_widths: tuple[tuple[float, float], ...]


class Calibration(JsonRecord):
    """The predicted spread of one model's errors.

    weights_sha256: of the model. dose_ratios: ascending; between two of them half widths are
    interpolated over the ratio's logarithm, beyond them those of the nearest hold. series: how many
    it rests on. groups: by the names of GROUPS.
    """

    weights_sha256: str
    dose_ratios: tuple[float, ...]
    series: int
    groups: dict[str, GroupSpread]


class VoxelTraits(NamedTuple):
    """What the spread of each voxel is predicted from: features [rows, columns, features], the
    spread in HU that noise theory alone gives [rows, columns], and the number of its group."""

    features: NDArray[np.float32]
    base_hu: ImageHU
    group: NDArray[np.int64]


def voxel_traits(input_hu: ImageHU, output_hu: ImageHU, dose_ratio: float) -> VoxelTraits:
    """Of one slice [rows, columns] before and after; dose_ratio above 1.

    Of noise N of the input, k times the dose has N / k and a part that cannot be known from the
    input: its variance is that of N times (1/k)(1 - 1/k). What the network takes for N is wrong by
    some of N as well, of which 1 - 1/k counts.
    """
    removable = 1 - 1 / dose_ratio
    noise_hu = (input_hu - output_hu) / np.float32(removable)
    near_hu = np.sqrt(_near(noise_hu**2)) + _TINY_HU
    steps = np.gradient(noise_hu)
    features = (
        _log(ndimage.gaussian_gradient_magnitude(output_hu, 1.0) / near_hu + _FLOOR),
        _log(np.sqrt(_near((output_hu - _smooth(output_hu, 1.0)) ** 2, 2.0)) / near_hu + _FLOOR),
        _log(np.sqrt(_near(steps[0] ** 2 + steps[1] ** 2)) / near_hu),
        _log(np.sqrt(_near(noise_hu**2, _WIDE)) / near_hu),
        _log(np.sqrt(_near(_smooth(noise_hu, 3.0) ** 2, 6.0)) / near_hu),
    )
    share = removable * (1 - removable) + _ESTIMATE * removable**2
    group = np.digitize(_smooth(output_hu, _GROUP), BORDERS_HU)
    base_hu = (near_hu * np.sqrt(share)).astype(np.float32)
    return VoxelTraits(np.stack(features, axis=-1), base_hu, group)


def half_widths_hu(
    input_hu: ImageHU, output_hu: ImageHU, dose_ratio: float, calibration: Calibration
) -> tuple[ImageHU, ImageHU]:
    """Half widths in HU of the 68 and 95 % intervals about each voxel of a result [rows, columns].

    The interval holds the value that the same voxel of an image at `dose_ratio` times the input's
    dose would have, its own noise included. 0 everywhere at a ratio of 1, where nothing changes.
    """
    if dose_ratio <= 1:
        return np.zeros_like(output_hu), np.zeros_like(output_hu)
    return of_traits(voxel_traits(input_hu, output_hu, dose_ratio), dose_ratio, calibration)


def of_traits(
    found: VoxelTraits, dose_ratio: float, calibration: Calibration
) -> tuple[ImageHU, ImageHU]:
    """half_widths_hu of a slice whose traits are known."""
    result = np.zeros((2, *found.base_hu.shape), np.float32)
    for number, name in enumerate(GROUPS):
        here = found.group == number
        spread_hu = found.base_hu[here] * spread(found.features[here], calibration.groups[name])
        for level, factor in enumerate(_factors(name, dose_ratio, calibration)):
            result[level][here] = factor * spread_hu
    return result[0], result[1]


def spread(features: NDArray[np.float32], group: GroupSpread) -> NDArray[np.float32]:
    """The spread over its base [voxels], of features [voxels, features]."""
    low, high = (np.asarray(limit, np.float32) for limit in (group.lowest, group.highest))
    within = np.clip(features, low, high)
    return np.exp(0.5 * (design(within) @ np.asarray(group.coefficients, np.float32)))


def design(features: NDArray) -> NDArray:
    """What the coefficients multiply [voxels, 1 + 2 features]: 1, the features, their squares."""
    return np.concatenate([np.ones_like(features[:, :1]), features, features**2], axis=1)


def factor_95(dose_ratio: float, calibration: Calibration) -> dict[str, float]:
    """How many times the 68 % interval the 95 % one is, by group."""
    pairs = {name: _factors(name, dose_ratio, calibration) for name in calibration.groups}
    return {name: wide / narrow for name, (narrow, wide) in pairs.items()}


def _factors(group: str, dose_ratio: float, calibration: Calibration) -> tuple[float, float]:
    known = np.log(calibration.dose_ratios)
    widths = np.array(calibration.groups[group].half_widths)
    at = np.log(dose_ratio)
    return float(np.interp(at, known, widths[:, 0])), float(np.interp(at, known, widths[:, 1]))


def _near(squares: NDArray, sigma: float = _NEAR) -> NDArray[np.float32]:
    """Local mean of what is not negative; rounding must not make it so."""
    return np.maximum(_smooth(squares, sigma), 0)


def _smooth(image: NDArray, sigma: float) -> NDArray[np.float32]:
    return ndimage.gaussian_filter(image.astype(np.float32), sigma)


def _log(ratio: NDArray) -> NDArray[np.float32]:
    return np.log(np.maximum(ratio, _TINY_HU)).astype(np.float32)
