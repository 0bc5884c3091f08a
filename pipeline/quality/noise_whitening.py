"""The spectrum of noise in part of a slice, little moved by structure in it, and its inverse."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from scipy import fft, ndimage

from pipeline.quality.audit_templates import Spacing, frequencies
from pipeline.quality.local_level import Field

#: Edges of the tiles in which the spectrum is measured, tried in this order; how many are needed.
TILES, MIN_TILES = (64, 32), 12
#: Slower changes than this are shading and bias, which other figures show.
MIN_FREQUENCY_PER_MM = 0.03

#: Of a tile's pixels, those that have to be in the patient.
_TILE_FILLED = 0.8
#: Least power, as a share of its mean, at any frequency: what a difference lacks is not divided by.
MIN_POWER = 0.1


def noise_power(levelled: Field, mask: Field) -> Field | None:
    """The spectrum of the noise, per pixel, for each frequency of the slice; None where the body
    is too small.

    The median over overlapping tiles, which structure in some of them hardly moves; the power of
    noise is exponentially distributed, with the median at ln 2 of its mean.
    """
    for edge in TILES:
        tiles = _tiles(levelled, mask, edge)
        if len(tiles) >= MIN_TILES:
            break
    else:
        return None
    window = np.outer(np.hanning(edge + 2)[1:-1], np.hanning(edge + 2)[1:-1]).astype(np.float32)
    tiles = (tiles - tiles.mean(axis=(1, 2), keepdims=True)) * window
    powers = np.abs(fft.rfft2(tiles)) ** 2 / np.sum(window**2)
    power = _whole_plane(np.median(powers, axis=0) / math.log(2))
    power[0, 0] = (power[0, 1] + power[1, 0]) / 2
    smooth = ndimage.gaussian_filter(power, 1.0, mode="wrap")
    return _interpolated(smooth, levelled.shape)


def _whole_plane(half: Field) -> Field:
    """A real field's power at all frequencies [edge, edge], of that at those of rfft2: it is the
    same at a frequency and at its negative."""
    edge = len(half)
    negative = np.roll(half[::-1], 1, axis=0)
    return np.concatenate([half, negative[:, edge // 2 - 1 : 0 : -1]], axis=1)


def _tiles(field: Field, mask: Field, edge: int) -> Field:
    """Squares of a field, half over each other, where enough of the mask is."""
    step = edge // 2
    if min(field.shape) < edge:
        return np.empty((0, edge, edge), np.float32)
    cut = np.lib.stride_tricks.sliding_window_view
    filled = cut(mask, (edge, edge))[::step, ::step].mean(axis=(2, 3)) >= _TILE_FILLED
    return cut(field, (edge, edge))[::step, ::step][filled]


def _interpolated(power: Field, shape: tuple[int, int]) -> Field:
    """A periodic spectrum at the frequencies of rfft2 for `shape`."""
    edge = len(power)
    rows = np.arange(shape[0]) * (edge / shape[0])
    columns = np.arange(shape[1] // 2 + 1) * (edge / shape[1])
    return _between(_between(power, rows).T, columns).T


def _between(rows: Field, places: NDArray[np.floating]) -> Field:
    """Rows of an array at fractional places, the last before the first again."""
    low = places.astype(int)
    share = (places - low).astype(np.float32)[:, None]
    return rows[low % len(rows)] * (1 - share) + rows[(low + 1) % len(rows)] * share


def whitening_of(power: Field, shape: tuple[int, int], spacing_mm: Spacing) -> Field:
    """One over the noise's power, less where changes are slow."""
    rows, columns = frequencies(shape, spacing_mm)
    squared = (rows**2 + columns**2) / MIN_FREQUENCY_PER_MM**2
    fast = -np.expm1(-squared / 2)
    return (fast / np.maximum(power, MIN_POWER * max(1.0, float(power.mean())))).astype(np.float32)


def both_halves(half: Field) -> Field:
    """A real spectrum [rows, columns // 2 + 1] with each column counted as often as the whole
    plane of frequencies has it."""
    times = np.full(half.shape[1], 2.0, np.float32)
    times[0] = 1.0
    return half * times
