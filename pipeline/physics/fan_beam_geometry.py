"""The geometry of an equiangular fan beam, its rays and its reconstruction filter.

The numba (fan_beam.py) and the torch (fan_beam_torch.py) implementations both take their rays and
their filter from here, so that they stay equal.

Coordinates: the isocentre is the centre of the image, x grows with the column, y with the
row, the source circles at `source_to_isocentre_mm`, and beta is its angle.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.core.errors import ConfigError

FloatArray = NDArray[np.float32]

#: Slices whose rays are followed together: wide enough for the vector units, small enough
#: that one row of every slice stays in the cache.
SLICES_PER_BLOCK = 32


@dataclass(frozen=True)
class FanBeam:
    """A third-generation scanner's geometry (default: a clinical 736 x 1152 full scan).

    `fan_angle_rad` is the whole fan; the field of view is a circle of radius
    `source_to_isocentre_mm * sin(fan_angle_rad / 2)`, 251 mm by default.
    """

    detectors: int = 736
    views: int = 1152
    source_to_isocentre_mm: float = 595.0
    fan_angle_rad: float = math.radians(49.95)

    def __post_init__(self) -> None:
        if self.detectors < 2 or self.views < 2:
            raise ConfigError(
                f"a fan beam needs at least 2 detectors and 2 views, "
                f"got {self.detectors} and {self.views}"
            )
        if not 0 < self.fan_angle_rad < math.pi / 2:
            raise ConfigError(f"fan_angle_rad must lie in (0, pi/2), got {self.fan_angle_rad}")

    @property
    def detector_pitch_rad(self) -> float:
        """The angle that one detector cell covers, seen from the source."""
        return self.fan_angle_rad / self.detectors

    @property
    def detector_angles_rad(self) -> NDArray[np.floating]:
        """Angle of each detector cell against the central ray."""
        cells = np.arange(self.detectors) - (self.detectors - 1) / 2
        return cells * self.detector_pitch_rad

    @property
    def view_angles_rad(self) -> NDArray[np.floating]:
        """Angle of the source in each view [views], from 0 to just below 2 pi."""
        return np.arange(self.views) * (2 * math.pi / self.views)

    @property
    def field_of_view_radius_mm(self) -> float:
        """Radius of the circle that every view covers, around the isocentre."""
        return self.source_to_isocentre_mm * math.sin(self.fan_angle_rad / 2)

    @property
    def nyquist_per_mm(self) -> float:
        """The highest frequency that the detector samples, at the isocentre, in cycles per mm."""
        return 1 / (2 * self.detector_pitch_rad * self.source_to_isocentre_mm)


class Rays(NamedTuple):
    """Every ray as Joseph's method (IEEE TMI 1982) walks it; each array [views, detectors].

    A steep ray takes one sample a row, interpolated between two columns; the others one a
    column, between two rows. On line n of these it lies at `first + slope * n`, in pixels, and
    a sample represents `step_mm` of its length.
    """

    steep: NDArray[np.bool_]
    first: NDArray[np.float64]
    slope: NDArray[np.float64]
    step_mm: FloatArray


def rays(geometry: FanBeam, *, shape: tuple[int, int], spacing_mm: tuple[float, float]) -> Rays:
    """All rays of a scan through an image of `shape` (rows, columns) pixels of `spacing_mm`."""
    beta = geometry.view_angles_rad[:, None]
    direction = beta + math.pi + geometry.detector_angles_rad
    step_x, step_y = np.cos(direction), np.sin(direction)
    source_x = geometry.source_to_isocentre_mm * np.cos(beta)
    source_y = geometry.source_to_isocentre_mm * np.sin(beta)
    row_mm, column_mm = spacing_mm
    last_row, last_column = shape[0] - 1, shape[1] - 1
    steep = np.abs(step_y) * column_mm > np.abs(step_x) * row_mm
    with np.errstate(divide="ignore", invalid="ignore"):  # of the branch that is not taken
        per_row, per_column = step_x / step_y, step_y / step_x
        column = (source_x + (-last_row / 2 * row_mm - source_y) * per_row) / column_mm
        row = (source_y + (-last_column / 2 * column_mm - source_x) * per_column) / row_mm
        return Rays(
            steep,
            np.where(steep, column + last_column / 2, row + last_row / 2),
            np.where(steep, per_row * row_mm / column_mm, per_column * column_mm / row_mm),
            np.where(steep, row_mm / np.abs(step_y), column_mm / np.abs(step_x)).astype(np.float32),
        )


def padded_length(geometry: FanBeam) -> int:
    """Cells to which a view is padded before it is filtered: at least twice its own, so that the
    convolution does not wrap around; even, and a product of small primes for a fast FFT."""
    min_length = 2 * geometry.detectors
    return min(
        factor << max(1, math.ceil(math.log2(min_length / factor)))
        for factor in (1, 3, 5, 9, 15, 25)
    )


def filter_response(geometry: FanBeam, cutoff: float = math.inf) -> FloatArray:
    """Transfer function of g (Kak & Slaney 1988, eq. 3.4.1, 97) times kernel_window.

    Over the rfft frequencies of padded_length.
    """
    pitch = geometry.detector_pitch_rad
    length = padded_length(geometry)
    lag = np.minimum(np.arange(length), length - np.arange(length))
    impulse = np.zeros(length)
    impulse[0] = 1 / (8 * pitch**2)
    odd = lag % 2 == 1
    impulse[odd] = -1 / (2 * math.pi**2 * np.sin(lag[odd] * pitch) ** 2)
    ramp = np.fft.rfft(impulse).real * pitch
    return (ramp * kernel_window(geometry, cutoff)).astype(np.float32)


def kernel_window(geometry: FanBeam, cutoff: float) -> FloatArray:
    """A Hann window over the rfft frequencies of padded_length: the reconstruction kernel.

    `cutoff` is where it ends, in units of the detector's Nyquist frequency; beyond 1 it only
    damps, and infinity is the bare ramp's window of ones.
    """
    if not cutoff > 0:
        raise ConfigError(f"the reconstruction cutoff must be positive, got {cutoff}")
    count = padded_length(geometry) // 2 + 1
    frequency = np.arange(count) / (count - 1)
    hann = 0.5 + 0.5 * np.cos(math.pi * np.minimum(frequency / cutoff, 1))
    return hann.astype(np.float32)
