"""A body in air as HU, at the size of a small CT slice, and what makes it no HU."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

PADDING_HU = -2000.0


def body_hu(*, slices: int = 2, side: int = 64, noise_hu: float = 12.0) -> NDArray[np.float32]:
    """[slices, side, side]: soft tissue with lungs, fat and bone, in air, with noise."""
    rows, columns = np.indices((side, side)) / (side - 1) * 2 - 1
    plane = np.full((side, side), -1000.0)
    for value, row, column, radius in (
        (-100, 0, 0, 0.75),
        (50, 0, 0, 0.68),
        (-820, -0.1, -0.3, 0.22),
        (-820, -0.1, 0.3, 0.22),
        (700, 0.45, 0, 0.1),
    ):
        plane[np.hypot(rows - row, columns - column) < radius] = value
    noise = np.random.default_rng(0).normal(0, noise_hu, (slices, side, side))
    return np.rint(plane + noise).clip(-1024, None).astype(np.float32)


def inside_hu(*, slices: int = 2, side: int = 64) -> NDArray[np.float32]:
    """[slices, side, side]: the inside of a head: brain and bone, no air anywhere."""
    image_hu = np.random.default_rng(1).normal(35, 8, (slices, side, side))
    image_hu[:, : side // 6] = np.linspace(150, 1700, side // 6)[:, None]
    return np.rint(image_hu).astype(np.float32)


def outside_circle(side: int = 64) -> NDArray[np.bool_]:
    """[side, side]: what a scanner pads."""
    rows, columns = np.indices((side, side)) - (side - 1) / 2
    return np.hypot(rows, columns) > side / 2


def wrapped(image_hu: NDArray[np.float32]) -> NDArray[np.float32]:
    """Signed values of 12 bits read as unsigned: what is negative is 4096 too high."""
    return np.where(image_hu < 0, image_hu + 4096, image_hu)
