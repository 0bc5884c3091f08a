"""Channels of model observers: what of an image the eye takes in, in a handful of numbers."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import special

Channels = NDArray[np.float64]  # [channels, rows, columns]

#: Passbands of the Gabor channels, octaves in cycles per pixel, and their orientations, as in
#: Yu et al., Med Phys 40 (2013), who found them to follow human readers of CT.
GABOR_OCTAVES = ((1 / 64, 1 / 32), (1 / 32, 1 / 16), (1 / 16, 1 / 8), (1 / 8, 1 / 4))
GABOR_ORIENTATIONS = 5
GABOR_PHASES_RAD = (0.0, math.pi / 2)


def laguerre_gauss(*, count: int, width_mm: float, size_pixels: int, pixel_mm: float) -> Channels:
    """The first `count` Laguerre-Gauss channels, of unit length, about the middle pixel.

    u_j(r) = sqrt(2)/a exp(-pi r^2/a^2) L_j(2 pi r^2/a^2), a = `width_mm` (Gallas & Barrett,
    JOSA A 20 (2003), eq. 9). For round signals in noise alike in all directions; orthonormal as
    long as the region holds them.
    """
    radius_mm = np.hypot(*_offsets(size_pixels)) * pixel_mm
    scaled = 2 * np.pi * (radius_mm / width_mm) ** 2
    channels = [special.eval_laguerre(j, scaled) * np.exp(-scaled / 2) for j in range(count)]
    return _unit(np.stack(channels))


def gabor(
    *,
    size_pixels: int,
    octaves: Sequence[tuple[float, float]] = GABOR_OCTAVES,
    orientations: int = GABOR_ORIENTATIONS,
    phases_rad: Sequence[float] = GABOR_PHASES_RAD,
) -> Channels:
    """Gabor channels of unit length about the middle pixel, one per octave, direction and phase.

    exp(-4 ln2 r^2/w^2) cos(2 pi f (x cos t + y sin t) + b), f in the middle of the octave; w =
    4 ln2 / (pi df) makes the octave df the full width at half maximum of the passband. Octaves
    in cycles per pixel. For signals of any shape, at the price of many more numbers.
    """
    y, x = _offsets(size_pixels)
    channels = []
    for low, high in octaves:
        width = 4 * math.log(2) / (math.pi * (high - low))
        envelope = np.exp(-4 * math.log(2) * (x**2 + y**2) / width**2)
        for turn in np.arange(orientations) * math.pi / orientations:
            wave = math.pi * (low + high) * (x * math.cos(turn) + y * math.sin(turn))
            channels += [envelope * np.cos(wave + phase) for phase in phases_rad]
    return _unit(np.stack(channels))


def channel_outputs(regions: NDArray, channels: Channels) -> NDArray[np.float64]:
    """What each channel sees, [regions, channels], of regions [regions, rows, columns] in HU."""
    return regions.reshape(len(regions), -1) @ channels.reshape(len(channels), -1).T


def _offsets(size_pixels: int) -> NDArray[np.float64]:
    """(row, column) of every pixel from the middle pixel, [2, rows, columns]."""
    axis = np.arange(size_pixels) - size_pixels // 2
    return np.stack(np.meshgrid(axis, axis, indexing="ij")).astype(np.float64)


def _unit(channels: Channels) -> Channels:
    return channels / np.sqrt((channels**2).sum(axis=(1, 2), keepdims=True))
