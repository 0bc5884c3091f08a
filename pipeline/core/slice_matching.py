"""Which slice of one series lies where a slice of another does: by position, not file name."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.distance import cdist

from pipeline.core.errors import LdctError
from pipeline.core.volume import Volume

#: Slices whose first voxels differ by at most this are at the same position.
SAME_PLACE_MM = 0.05


@dataclass(frozen=True)
class Match:
    """Slices of the same places: input[i] belongs to target[i], both indices of slices.

    unmatched_*_mm: the first voxel [x, y, z] of each slice that only one series has.
    """

    input: NDArray[np.int64]
    target: NDArray[np.int64]
    unmatched_input_mm: list[list[float]]
    unmatched_target_mm: list[list[float]]


def match_slices(input_: Volume, target: Volume) -> Match:
    """Pair the slices of two series of one scan, in whatever order; one may have more of them.

    Raises LdctError, with the distance in mm, where pixels differ in number, size or direction,
    and where each series has a slice that the other lacks.
    """
    _require_same_pixels(input_, target)
    distance_mm = cdist(input_.slice_origins_mm, target.slice_origins_mm)
    near = distance_mm <= SAME_PLACE_MM
    # A series has one slice at each place, so the nearest is the only one that can be near.
    rows = np.flatnonzero(near.any(axis=1))
    columns = distance_mm[rows].argmin(axis=1)
    unmatched = [
        np.setdiff1d(np.arange(count), found)
        for count, found in zip(distance_mm.shape, (rows, columns), strict=True)
    ]
    if all(len(numbers) for numbers in unmatched) or not len(rows):
        place = unmatched[0][0]
        raise LdctError(
            "the two series do not show the same places: "
            f"{len(unmatched[0])} of {len(near)} input slices have no partner; that at "
            f"{_text(input_.slice_origins_mm[place])} mm is "
            f"{distance_mm[place].min():.2f} mm from the nearest of the target"
        )
    return Match(
        rows,
        columns,
        input_.slice_origins_mm[unmatched[0]].tolist(),
        target.slice_origins_mm[unmatched[1]].tolist(),
    )


def _require_same_pixels(input_: Volume, target: Volume) -> None:
    sizes = [volume.image_hu.shape[1:] for volume in (input_, target)]
    if sizes[0] != sizes[1]:
        raise LdctError(
            f"the two series do not show the same places: slices of {sizes[0][0]} x {sizes[0][1]} "
            f"against {sizes[1][0]} x {sizes[1][1]} pixels"
        )
    rows, columns = sizes[0]
    far = np.array([columns - 1, rows - 1])
    # Distance between the ends of a row and of a column if the first voxels coincided.
    difference_mm = np.abs((input_.affine_lps - target.affine_lps)[:3, :2] * far).max()
    if difference_mm > SAME_PLACE_MM:
        raise LdctError(
            "the two series do not show the same places: their pixels differ in size or "
            f"direction, at the far corner by {difference_mm:.2f} mm (spacing "
            f"{_text(input_.spacing_mm[1:])} against {_text(target.spacing_mm[1:])} mm)"
        )


def _text(numbers_mm: NDArray | tuple[float, ...]) -> str:
    return ", ".join(f"{number:.4g}" for number in numbers_mm)
