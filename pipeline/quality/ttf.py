"""Sharpness: task transfer function at rods and edges, and the MTF of a wire.

The task transfer function is measured on the very object and contrast that matters, since a
network may keep bone sharp and blur the liver: Richard et al., Med Phys 39 (2012); AAPM TG-233
(2019). The circular edge: all pixels about a rod, sorted by their distance from its axis, are
one finely sampled edge.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import scipy  # scipy.signal, half a second, is loaded at its first use
from numpy.typing import NDArray
from scipy import special

from pipeline.core.errors import LdctError
from pipeline.core.json_numbers import Figure, JsonRecord

Curve = NDArray[np.float64]

#: Bins of the edge profile per pixel. Their width is corrected for.
BINS_PER_PIXEL = 8


class TransferFigures(JsonRecord):
    """A transfer curve, and the frequencies at which it falls to 50 and 10 %; None where never.

    contrast_hu: of the object it was measured at, from `samples` pixels within reach_mm of it.
    """

    unit: str
    frequency_per_mm: list[Figure]
    transfer: list[Figure]
    ttf50_per_mm: Figure
    ttf10_per_mm: Figure
    contrast_hu: Figure
    method: str
    reach_mm: float
    samples: int


@dataclass(frozen=True)
class Transfer:
    """transfer [frequencies], 1 at zero frequency, at frequency_per_mm, up to Nyquist."""

    frequency_per_mm: Curve
    transfer: Curve
    contrast_hu: float
    method: str
    reach_mm: float
    samples: int

    def frequency_at(self, level: float) -> float | None:
        """The lowest frequency per mm at which the curve falls to `level`; None where never."""
        below = np.flatnonzero(self.transfer < level)
        if not below.size or below[0] == 0:
            return None
        after = int(below[0])
        high, low = self.transfer[after - 1], self.transfer[after]
        share = (high - level) / (high - low)
        step = self.frequency_per_mm[after] - self.frequency_per_mm[after - 1]
        return float(self.frequency_per_mm[after - 1] + share * step)

    def figures(self) -> TransferFigures:
        """The curve, where it falls to 50 and 10 %, and how it was measured."""
        return TransferFigures(
            unit="1, against 1/mm",
            frequency_per_mm=self.frequency_per_mm.tolist(),
            transfer=self.transfer.tolist(),
            ttf50_per_mm=self.frequency_at(0.5),
            ttf10_per_mm=self.frequency_at(0.1),
            contrast_hu=self.contrast_hu,
            method=self.method,
            reach_mm=self.reach_mm,
            samples=self.samples,
        )


def rod_transfer(
    image_hu: NDArray,
    *,
    centre_mm: tuple[float, float],
    radius_mm: float,
    pixel_mm: float,
    reach_mm: float,
) -> Transfer:
    """Transfer at a rod of image_hu [slices, rows, columns], every slice an image of the same rod.

    centre_mm: (x, y) from the image's centre. The profile spans `reach_mm` to either side of
    the rim, which must hold nothing else. The curvature of the rim shifts the edge without
    changing its shape as long as the blur is small against the radius.
    """
    if reach_mm > radius_mm:
        raise LdctError(f"a reach of {reach_mm} mm passes the axis of a rod of {radius_mm} mm")
    x, y = _positions_mm(image_hu, pixel_mm)
    distance = np.hypot(x - centre_mm[0], y - centre_mm[1]) - radius_mm
    return _edge_transfer(image_hu, distance, pixel_mm, reach_mm, "circular edge")


def edge_transfer(
    image_hu: NDArray,
    *,
    point_mm: tuple[float, float],
    angle_rad: float,
    pixel_mm: float,
    reach_mm: float,
    length_mm: float,
) -> Transfer:
    """Transfer at a straight edge through `point_mm`, leaning `angle_rad` from upright.

    Uses what lies within `reach_mm` of the edge and `length_mm` / 2 of the point along it. An
    edge along the pixels (angle 0) samples itself too coarsely and is refused.
    """
    if abs(math.sin(2 * angle_rad)) < math.sin(math.radians(2)):
        raise LdctError("an edge must lean at least 1 degree from the pixel grid")
    x, y = _positions_mm(image_hu, pixel_mm)
    x, y = x - point_mm[0], y - point_mm[1]
    along = x * math.sin(angle_rad) + y * math.cos(angle_rad)
    distance = x * math.cos(angle_rad) - y * math.sin(angle_rad)
    distance = np.where(np.abs(along) <= length_mm / 2, distance, np.inf)
    return _edge_transfer(image_hu, distance, pixel_mm, reach_mm, "slanted edge")


def wire_transfer(
    image_hu: NDArray,
    *,
    centre_mm: tuple[float, float],
    pixel_mm: float,
    reach_mm: float,
    diameter_mm: float = 0.0,
) -> Transfer:
    """Modulation transfer at a wire or point in image_hu [slices, rows, columns].

    The Hankel transform, sum of I J0(2 pi f r), is the mean over all directions of the 2-D
    Fourier transform. The background is the mean of the outer third of the disc of radius
    `reach_mm`; a wire of `diameter_mm` (0: a point) is divided out.
    """
    x, y = _positions_mm(image_hu, pixel_mm)
    radius = np.hypot(x - centre_mm[0], y - centre_mm[1])
    inside = radius <= reach_mm
    values = image_hu.mean(axis=0, dtype=np.float64)
    values = values - values[inside & (radius > reach_mm * 2 / 3)].mean()
    values, radius = values[inside], radius[inside]
    frequency = _frequencies(pixel_mm, reach_mm)
    transfer = special.j0(2 * np.pi * frequency[:, None] * radius) @ values / values.sum()
    widths = np.pi * frequency * diameter_mm
    thick = 2 * special.j1(widths) / np.where(widths > 0, widths, 1)
    transfer = transfer / np.where(widths > 0, thick, 1)
    contrast_hu = float(values[np.argmax(np.abs(values))])
    samples = radius.size * len(image_hu)
    return Transfer(frequency, transfer, contrast_hu, "wire", reach_mm, samples)


def find_centre_mm(
    image_hu: NDArray, *, guess_mm: tuple[float, float], pixel_mm: float, reach_mm: float
) -> tuple[float, float]:
    """(x, y) of an object's centroid within `reach_mm` of a guess, over the rim's mean.

    The mean image of [slices, rows, columns]; five steps of weighing by the absolute contrast
    over half of its largest value.
    """
    x, y = _positions_mm(image_hu, pixel_mm)
    values = image_hu.mean(axis=0, dtype=np.float64)
    centre = guess_mm
    for _ in range(5):
        radius = np.hypot(x - centre[0], y - centre[1])
        rim = values[(radius > 0.85 * reach_mm) & (radius <= reach_mm)].mean()
        weight = np.where(radius <= 0.85 * reach_mm, np.abs(values - rim), 0)
        weight = np.maximum(weight - weight.max() / 2, 0)
        centre = (
            float((weight * x).sum() / weight.sum()),
            float((weight * y).sum() / weight.sum()),
        )
    return centre


def _positions_mm(image_hu: NDArray, pixel_mm: float) -> tuple[Curve, Curve]:
    """(x, y) of every pixel of a slice, from the image's centre."""
    rows, columns = image_hu.shape[1:]
    x = (np.arange(columns) - (columns - 1) / 2) * pixel_mm
    y = (np.arange(rows) - (rows - 1) / 2) * pixel_mm
    return np.broadcast_to(x, (rows, columns)), np.broadcast_to(y[:, None], (rows, columns))


def _frequencies(pixel_mm: float, reach_mm: float) -> Curve:
    """From 0 to Nyquist, four times finer than the reach resolves, for smooth read-off."""
    nyquist = 0.5 / pixel_mm
    return np.linspace(0, nyquist, max(16, math.ceil(8 * reach_mm * nyquist)))


def _edge_transfer(
    image_hu: NDArray, distance_mm: Curve, pixel_mm: float, reach_mm: float, method: str
) -> Transfer:
    near = np.abs(distance_mm) <= reach_mm
    values = image_hu.mean(axis=0, dtype=np.float64)[near]
    bin_mm = pixel_mm / BINS_PER_PIXEL
    profile = _binned(distance_mm[near], values, bin_mm, reach_mm)
    spread = np.diff(profile) / bin_mm
    place = (np.arange(spread.size) - (spread.size - 1) / 2) * bin_mm
    # Flat over the middle half, so that it takes noise off the tails and no width off the peak.
    spread = spread * scipy.signal.windows.tukey(spread.size, 0.5)
    frequency = _frequencies(pixel_mm, reach_mm)
    wave = np.exp(-2j * np.pi * frequency[:, None] * place) @ spread
    # The mean over a bin and the difference of two bins each cost one sinc.
    transfer = np.abs(wave / wave[0]) / np.sinc(frequency * bin_mm) ** 2
    contrast_hu = -float(spread.sum() * bin_mm)
    return Transfer(
        frequency, transfer, contrast_hu, method, reach_mm, int(near.sum()) * len(image_hu)
    )


def _binned(distance_mm: Curve, values: Curve, bin_mm: float, reach_mm: float) -> Curve:
    """The profile on even bins from -reach to reach; empty bins are interpolated."""
    count = 2 * int(reach_mm / bin_mm)
    index = np.floor(distance_mm / bin_mm + count / 2).astype(int)
    held = (index >= 0) & (index < count)
    hits = np.bincount(index[held], minlength=count)
    filled = hits > 0
    if filled.mean() < 0.5:
        raise LdctError("too few pixels to sample this edge: over half of its bins are empty")
    values_mean = np.bincount(index[held], values[held], count)[filled] / hits[filled]
    # Where in its bin a handful of pixels lies matters more than the bin's middle.
    places = np.bincount(index[held], distance_mm[held], count)[filled] / hits[filled]
    middles = (np.arange(count) + 0.5 - count / 2) * bin_mm
    return np.interp(middles, places, values_mean)
