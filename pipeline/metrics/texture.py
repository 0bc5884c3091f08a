"""What the texture of pieces of pictures is like, by filters that learn nothing.

A piece becomes a vector: the mean of each channel, and of the channel's response to wavelets of
several sizes and directions the mean modulus and the spread of it (a scattering transform of the
first order, Bruna & Mallat, IEEE TPAMI 2013, with the spread in place of the second order). Of
responses the logarithm, as textures differ by factors. Nothing is drawn or trained, so that the
vectors of any two pictures compare, on every machine.
"""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import minimum_filter
from skimage.filters import gabor_kernel  # loaded at its first use

from pipeline.core.types import Picture
from pipeline.metrics.generative import frechet_distance

#: Of the wavelets, in cycles a pixel, and how many directions each has.
FREQUENCIES, DIRECTIONS = (0.35, 0.175, 0.0875), 4
#: Brightness and two differences of colours, orthonormal.
OPPONENT = np.array([[1, 1, 1], [1, 0, -1], [1, -2, 1]]) / np.sqrt([[3], [2], [6]])
#: By so many grey levels a mean is divided, to count beside logarithms.
LEVELS = 10.0
#: Responses fainter than this, in grey levels, hardly differ.
FAINT = 0.5
#: A feature that differs less from real piece to real piece counts as if it differed so much.
LEAST_SPREAD = 0.1

#: [pieces, features]
Features = NDArray[np.float64]
#: The first row and column of a piece.
Corner = tuple[int, int]


def corners(
    size: tuple[int, int], side: int, *, within: NDArray[np.bool_] | None = None
) -> list[Corner]:
    """Of pieces of `side` pixels of a picture [rows, columns], side by side; with `within`, of
    such as lie where it is True, which overlap by half."""
    if within is None:
        rows, columns = (range(0, whole - side + 1, side) for whole in size)
        return [(row, column) for row in rows for column in columns]
    fits = minimum_filter(within, side, origin=-(side // 2), mode="constant")
    found: dict[Corner, Corner] = {}
    for row, column in np.argwhere(fits).tolist():
        found.setdefault((row // (side // 2), column // (side // 2)), (row, column))
    return list(found.values())


def texture_features(levels: Picture, places: list[Corner], side: int) -> Features:
    """The vectors of pieces of a picture [1 or 3, rows, columns] in grey levels: 25 features of a
    grey picture, 75 in colour, of brightness and two differences of colours."""
    channels = levels.astype(np.float64)
    if len(channels) == 3:
        channels = np.tensordot(OPPONENT, channels, axes=1)
    return np.concatenate([_of_channel(one, places, side) for one in channels], axis=1)


def _of_channel(channel: NDArray[np.float64], places: list[Corner], side: int) -> Features:
    from scipy.signal import fftconvolve  # it loads scipy.stats, which `ldct apply` does without

    reach = max(len(wavelet) for wavelet in _wavelets()) // 2
    padded = np.pad(channel, reach, mode="symmetric")
    inside = (slice(reach, reach + channel.shape[0]), slice(reach, reach + channel.shape[1]))
    columns = [_pieces(channel, places, side).mean(axis=(1, 2)) / LEVELS]
    for wavelet in _wavelets():
        response = np.log1p(np.abs(fftconvolve(padded, wavelet, "same"))[inside] / FAINT)
        pieces = _pieces(response, places, side)
        columns += [pieces.mean(axis=(1, 2)), pieces.std(axis=(1, 2))]
    return np.stack(columns, axis=1)


def _pieces(plane: NDArray[np.float64], places: list[Corner], side: int) -> NDArray[np.float64]:
    return np.stack([plane[row : row + side, column : column + side] for row, column in places])


@cache
def _wavelets() -> tuple[NDArray[np.complex128], ...]:
    """Gabor's, one octave wide, that do not respond to a constant; square, of odd sides."""
    found = []
    for frequency in FREQUENCIES:
        for direction in range(DIRECTIONS):
            wave = gabor_kernel(frequency, direction * np.pi / DIRECTIONS)
            size = 2 * (max(wave.shape) // 2) + 1
            wave = np.pad(wave, [((size - n) // 2, (size - n) // 2) for n in wave.shape])
            envelope = np.abs(wave) / np.abs(wave).sum()
            found.append(wave - wave.sum() * envelope)
    return tuple(found)


def texture_distance(of: Features, real: Features) -> float:
    """Squared Frechet distance, a mean over features, each in its spread from real piece to real
    piece: 0 for equal textures, 1 where a mean is one spread away. Biased upwards by few pieces:
    compare at equal numbers."""
    spread = np.maximum(real.std(axis=0), LEAST_SPREAD)
    return frechet_distance(of / spread, real / spread) / real.shape[1]
