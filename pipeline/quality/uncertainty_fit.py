"""The calibration of a model's predicted spread, and how many voxels its intervals then hold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.core.types import ImageHU
from pipeline.quality.uncertainty import (
    GROUPS,
    LEVELS,
    Calibration,
    GroupSpread,
    VoxelTraits,
    design,
    spread,
)

#: Voxels drawn of each group in each series at each ratio, so that all series weigh the same.
VOXELS = 3000
#: A group with fewer voxels than this in a series says too little there.
_LEAST_VOXELS = 300
#: Added to squared errors over the base before their logarithm.
_FLOOR = 1e-3
#: The features' limits leave out so much of each end, in which single voxels lie.
_RIM = 0.001


@dataclass(frozen=True)
class Drawn:
    """Voxels of one group in one series at one dose ratio: their features [voxels, features], and
    |result - target| over the base [voxels]."""

    group: str
    dose_ratio: float
    features: NDArray[np.float32]
    error: NDArray[np.float32]


def draw(
    traits: Sequence[VoxelTraits],
    errors_hu: Sequence[ImageHU],
    inside: Sequence[NDArray[np.bool_]],
    dose_ratio: float,
    rng: np.random.Generator,
) -> list[Drawn]:
    """Voxels of a series' slices that lie `inside` the body, by group.

    errors_hu: result minus target [rows, columns] of each slice.
    """
    found = []
    for number, name in enumerate(GROUPS):
        here = [within & (one.group == number) for one, within in zip(traits, inside, strict=True)]
        features = np.concatenate([t.features[m] for t, m in zip(traits, here, strict=True)])
        base_hu = np.concatenate([t.base_hu[m] for t, m in zip(traits, here, strict=True)])
        error_hu = np.concatenate([np.abs(e[m]) for e, m in zip(errors_hu, here, strict=True)])
        if len(error_hu) >= _LEAST_VOXELS:
            chosen = rng.integers(0, len(error_hu), VOXELS)
            scaled = error_hu[chosen] / base_hu[chosen]
            found.append(Drawn(name, dose_ratio, features[chosen], scaled))
    return found


def calibrate(series: Mapping[str, Sequence[Drawn]], weights_sha256: str) -> Calibration:
    """The calibration by voxels of several series, whose names are the mapping's keys.

    Raises ValueError for a group that is in no series at one of the ratios.
    """
    drawn = [one for of_series in series.values() for one in of_series]
    ratios = tuple(sorted({one.dose_ratio for one in drawn}))
    groups = {
        name: _group_spread([one for one in drawn if one.group == name], ratios, name)
        for name in GROUPS
    }
    return Calibration(
        weights_sha256=weights_sha256, dose_ratios=ratios, series=len(series), groups=groups
    )


def _group_spread(drawn: list[Drawn], ratios: Sequence[float], name: str) -> GroupSpread:
    """The coefficients are a least-squares fit of the logarithm of the squared error."""
    if {one.dose_ratio for one in drawn} != set(ratios):
        raise ValueError(f"{name}: in no series at one of the dose ratios {ratios}")
    features = np.concatenate([one.features for one in drawn]).astype(np.float64)
    logs = np.log(np.concatenate([one.error for one in drawn]).astype(np.float64) ** 2 + _FLOOR)
    lowest, highest = np.quantile(features, (_RIM, 1 - _RIM), axis=0)
    matrix = design(np.clip(features, lowest, highest))
    fitted = GroupSpread(
        coefficients=tuple(np.linalg.lstsq(matrix, logs, rcond=None)[0].tolist()),
        lowest=tuple(lowest.tolist()),
        highest=tuple(highest.tolist()),
        half_widths=(),
    )
    widths = []
    for ratio in ratios:
        at = [one for one in drawn if one.dose_ratio == ratio]
        scores = np.concatenate([one.error / spread(one.features, fitted) for one in at])
        narrow, wide = (float(width) for width in np.quantile(scores, LEVELS))
        widths.append((narrow, wide))
    return fitted.model_copy(update={"half_widths": tuple(widths)})


def held(
    error_hu: ImageHU, half_widths: tuple[ImageHU, ImageHU], tissue: NDArray[np.bool_]
) -> tuple[float, float]:
    """Fractions of a tissue's voxels that the two intervals hold; not a number for no voxel."""
    if not tissue.any():
        return float("nan"), float("nan")
    narrow, wide = (np.mean(np.abs(error_hu[tissue]) <= w[tissue]) for w in half_widths)
    return float(narrow), float(wide)
