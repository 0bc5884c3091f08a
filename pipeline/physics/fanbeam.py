"""Equiangular fan-beam CT: line integrals of a slice and filtered backprojection.

The curved detector and the full-scan reconstruction of Kak & Slaney, "Principles of
Computerized Tomographic Imaging" (1988), section 3.4.1. Written here because no permissive
CPU fan-beam FBP can be installed; compiled with numba and spread over the cores.

Coordinates: the isocentre is the centre of the image, x grows with the column, y with the
row, the source circles at `source_to_isocentre_mm`, and beta is its angle.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numba import njit, prange
from numpy.typing import NDArray
from scipy import fft

from pipeline.errors import ConfigError

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
        return self.fan_angle_rad / self.detectors

    @property
    def detector_angles_rad(self) -> NDArray[np.floating]:
        """Angle of each detector cell against the central ray."""
        cells = np.arange(self.detectors) - (self.detectors - 1) / 2
        return cells * self.detector_pitch_rad

    @property
    def view_angles_rad(self) -> NDArray[np.floating]:
        return np.arange(self.views) * (2 * math.pi / self.views)

    @property
    def field_of_view_radius_mm(self) -> float:
        return self.source_to_isocentre_mm * math.sin(self.fan_angle_rad / 2)


def forward_project(
    mu_per_mm: FloatArray, *, spacing_mm: tuple[float, float], geometry: FanBeam
) -> FloatArray:
    """Line integrals by Joseph's method (IEEE TMI 1982).

    mu_per_mm: [slices, rows, columns], per mm; spacing_mm: (row, column) in mm.
    Returns the sinograms [slices, views, detectors], without unit.

    All slices of a block share every ray's path, which costs more than the sums themselves:
    a block of 16 takes little longer than one slice.
    """
    return _by_block(
        mu_per_mm,
        (geometry.views, geometry.detectors),
        lambda block: _forward_block(block, spacing_mm, geometry),
    )


def filtered_backprojection(
    sinogram: FloatArray,
    *,
    shape: tuple[int, int],
    spacing_mm: tuple[float, float],
    geometry: FanBeam,
    cutoff: float = 1.0,
) -> FloatArray:
    """Attenuation per mm, [slices, rows, columns], from full-scan sinograms.

    sinogram: [slices, views, detectors]. `cutoff` is 1.0 for the bare ramp (Ram-Lak); below
    1.0 a Hann window ends the filter at that fraction of the detector's Nyquist frequency, as
    softer clinical kernels do. Pixels outside the field of view are 0.
    """
    response = _ramp_response(geometry, cutoff)
    return _by_block(
        sinogram,
        shape,
        lambda block: _backproject_block(
            _ramp_filter(block, response, geometry), shape, spacing_mm, geometry
        ),
    )


def _by_block(
    stack: FloatArray, shape: tuple[int, int], transform: Callable[[FloatArray], FloatArray]
) -> FloatArray:
    """Apply `transform` to blocks of slices; inside, slices are the last (vector) axis."""
    if stack.ndim != 3:
        raise ValueError(f"expected a stack of slices, 3 axes, got shape {stack.shape}")
    result = np.empty((stack.shape[0], *shape), dtype=np.float32)
    for start in range(0, stack.shape[0], SLICES_PER_BLOCK):
        block = stack[start : start + SLICES_PER_BLOCK].astype(np.float32, copy=False)
        result[start : start + SLICES_PER_BLOCK] = np.moveaxis(transform(block), -1, 0)
    return result


def _forward_block(
    block: FloatArray, spacing_mm: tuple[float, float], geometry: FanBeam
) -> FloatArray:
    # A border of zeros lets the interpolation read one cell past the edge unchecked.
    padded = np.pad(np.moveaxis(block, 0, -1), ((2, 2), (2, 2), (0, 0)))
    sinogram = np.empty((geometry.views, geometry.detectors, block.shape[0]), dtype=np.float32)
    _joseph(
        padded,
        np.ascontiguousarray(padded.transpose(1, 0, 2)),
        float(spacing_mm[0]),
        float(spacing_mm[1]),
        geometry.source_to_isocentre_mm,
        geometry.view_angles_rad,
        geometry.detector_angles_rad,
        sinogram,
    )
    return sinogram


def _backproject_block(
    filtered: FloatArray,
    shape: tuple[int, int],
    spacing_mm: tuple[float, float],
    geometry: FanBeam,
) -> FloatArray:
    image = np.zeros((*shape, filtered.shape[2]), dtype=np.float32)
    _backproject(
        filtered,
        np.float32(spacing_mm[0]),
        np.float32(spacing_mm[1]),
        np.float32(geometry.source_to_isocentre_mm),
        np.cos(geometry.view_angles_rad).astype(np.float32),
        np.sin(geometry.view_angles_rad).astype(np.float32),
        np.float32(geometry.detector_pitch_rad),
        np.float32(geometry.field_of_view_radius_mm),
        _atan_coefficients(math.tan(geometry.fan_angle_rad / 2)),
        image,
    )
    return image * np.float32(2 * math.pi / geometry.views)


def _ramp_response(geometry: FanBeam, cutoff: float) -> FloatArray:
    """Transfer function of g (Kak & Slaney eq. 3.4.1, 97) times the optional Hann window."""
    if not 0 < cutoff <= 1:
        raise ConfigError(f"the reconstruction cutoff must lie in (0, 1], got {cutoff}")
    pitch = geometry.detector_pitch_rad
    length = fft.next_fast_len(2 * geometry.detectors, real=True)
    lag = np.minimum(np.arange(length), length - np.arange(length))
    impulse = np.zeros(length)
    impulse[0] = 1 / (8 * pitch**2)
    odd = lag % 2 == 1
    impulse[odd] = -1 / (2 * math.pi**2 * np.sin(lag[odd] * pitch) ** 2)
    response = fft.rfft(impulse).real * pitch
    if cutoff < 1:
        frequency = np.arange(response.size) / (response.size - 1)
        response = response * (0.5 + 0.5 * np.cos(math.pi * np.minimum(frequency / cutoff, 1)))
    return response.astype(np.float32)


def _ramp_filter(block: FloatArray, response: FloatArray, geometry: FanBeam) -> FloatArray:
    """Weight [slices, views, detectors] by D cos(gamma), filter, slices last."""
    length = fft.next_fast_len(2 * geometry.detectors, real=True)
    weight = geometry.source_to_isocentre_mm * np.cos(geometry.detector_angles_rad)
    filtered = np.empty((geometry.views, geometry.detectors + 3, block.shape[0]), np.float32)
    # Zero cells at the ends, so that interpolation at the fan's edge needs no branch.
    filtered[:, 0], filtered[:, -2:] = 0, 0
    for index, sinogram in enumerate(block):
        spectrum = fft.rfft(sinogram * weight.astype(np.float32), length, axis=1, workers=-1)
        rows = fft.irfft(spectrum * response, length, axis=1, workers=-1)
        filtered[:, 1:-2, index] = rows[:, : geometry.detectors]
    return filtered


@lru_cache(maxsize=8)
def _atan_coefficients(limit: float) -> FloatArray:
    """Odd polynomial for atan on [-limit, limit], to float32's accuracy.

    A call of math.atan would keep LLVM from vectorising the backprojector's geometry.
    """
    t = np.cos(np.linspace(0, math.pi / 2, 400)) * limit * 1.1
    basis = t[:, None] ** np.arange(1, 12, 2)
    return np.linalg.lstsq(basis, np.arctan(t), rcond=None)[0].astype(np.float32)


@njit(parallel=True, fastmath=True, cache=True)
def _joseph(
    image, transposed, row_mm, column_mm, source_mm, view_angles, detector_angles, sinogram
):  # pragma: no cover - compiled
    rows, columns = image.shape[0] - 4, image.shape[1] - 4
    for view in prange(view_angles.size):
        source_x = source_mm * math.cos(view_angles[view])
        source_y = source_mm * math.sin(view_angles[view])
        for cell in range(detector_angles.size):
            direction = view_angles[view] + math.pi + detector_angles[cell]
            step_x, step_y = math.cos(direction), math.sin(direction)
            sums = sinogram[view, cell]
            if abs(step_y) * column_mm > abs(step_x) * row_mm:
                # Steep ray: one sample a row, interpolated between two columns.
                slope = step_x / step_y
                first = (source_x + (-(rows - 1) / 2 * row_mm - source_y) * slope) / column_mm
                first += (columns - 1) / 2
                _march(image, first, slope * row_mm / column_mm, row_mm / abs(step_y), sums)
            else:
                slope = step_y / step_x
                first = (source_y + (-(columns - 1) / 2 * column_mm - source_x) * slope) / row_mm
                first += (rows - 1) / 2
                _march(transposed, first, slope * column_mm / row_mm, column_mm / abs(step_x), sums)


@njit(fastmath=True, cache=True)
def _march(image, first, slope, step_mm, sums):  # pragma: no cover - compiled
    """Sum linear interpolations along one ray; `first` is its position in line 0."""
    lines, length = image.shape[0] - 4, image.shape[1] - 4
    begin, end = 0, lines
    if abs(slope) > 1e-9:
        enter, leave = (-1.0 - first) / slope, (length - first) / slope
        begin = max(0, math.ceil(min(enter, leave)))
        end = min(lines, math.floor(max(enter, leave)) + 1)
    elif first <= -1.0 or first >= length:
        end = 0
    sums[:] = np.float32(0.0)
    for line in range(begin, end):
        position = first + 2.0 + slope * line
        left = np.uint64(position)
        right_part = np.float32((position - np.int64(left)) * step_mm)
        left_part = np.float32(step_mm) - right_part
        for index in range(sums.size):
            sums[index] += (
                left_part * image[line + 2, left, index]
                + right_part * image[line + 2, left + 1, index]
            )


@njit(parallel=True, fastmath=True, cache=True)
def _backproject(
    filtered, row_mm, column_mm, source_mm, cosines, sines, pitch, radius_mm, atan, image
):  # pragma: no cover - compiled
    rows, columns, slices = image.shape
    centre_cell = np.float32((filtered.shape[1] - 3 - 1) / 2 + 1)
    per_pitch = np.float32(1.0) / pitch
    a1, a3, a5, a7, a9, a11 = atan[0], atan[1], atan[2], atan[3], atan[4], atan[5]
    for row in prange(rows):
        y = (np.float32(row) - np.float32((rows - 1) / 2)) * row_mm
        chord = radius_mm * radius_mm - y * y
        if chord <= 0:
            continue
        reach = math.sqrt(chord) / column_mm
        begin = max(0, math.ceil((columns - 1) / 2 - reach))
        end = min(columns, math.floor((columns - 1) / 2 + reach) + 1)
        position = np.empty(columns, dtype=np.float32)
        weight = np.empty(columns, dtype=np.float32)
        for view in range(cosines.size):
            # Two loops: this one has no look-ups, so it runs on the vector units.
            for column in range(begin, end):
                x = (np.float32(column) - np.float32((columns - 1) / 2)) * column_mm
                depth = source_mm - x * cosines[view] - y * sines[view]
                inverse = np.float32(1.0) / depth
                t = (y * cosines[view] - x * sines[view]) * inverse
                s = t * t
                gamma = t * (a1 + s * (a3 + s * (a5 + s * (a7 + s * (a9 + s * a11)))))
                position[column] = centre_cell - gamma * per_pitch
                weight[column] = inverse * inverse / (np.float32(1.0) + s)
            for column in range(begin, end):
                left = np.uint32(position[column])
                right_part = (position[column] - np.float32(left)) * weight[column]
                left_part = weight[column] - right_part
                for index in range(slices):
                    image[row, column, index] += (
                        left_part * filtered[view, left, index]
                        + right_part * filtered[view, left + 1, index]
                    )
