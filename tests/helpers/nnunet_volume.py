"""Synthetic CT that nnU-Net is trained on and asked for, the same in both environments."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

SOFT_TISSUE_HU, BRIGHT_HU, DARK_HU, NOISE_HU = 40.0, 180.0, -60.0, 25.0


def reference_volume(
    shape: tuple[int, int, int], *, seed: int
) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    """HU of soft tissue in air with a bright ball (1) and a dark one (2), and their labels."""
    rng = np.random.default_rng(seed)
    places = np.stack(np.meshgrid(*(np.linspace(-1, 1, n) for n in shape), indexing="ij"))
    body = (places[1:] ** 2).sum(axis=0) < 0.85
    image_hu = np.where(body, SOFT_TISSUE_HU, -1000.0)
    labels = np.zeros(shape, dtype=np.uint8)
    for number, value_hu in ((1, BRIGHT_HU), (2, DARK_HU)):
        middle = rng.uniform(-0.4, 0.4, 3)
        radius = rng.uniform(0.3, 0.45)
        ball = ((places - middle[:, None, None, None]) ** 2).sum(axis=0) < radius**2
        image_hu[ball & body] = value_hu
        labels[ball & body] = number
    image_hu += rng.normal(0, NOISE_HU, shape)
    return image_hu.astype(np.float32), labels
