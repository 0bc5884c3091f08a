"""Equiangular fan-beam CT: line integrals of a slice, filtered backprojection, the adjoint.

The curved detector and the full-scan reconstruction of Kak & Slaney, "Principles of
Computerized Tomographic Imaging" (1988), section 3.4.1. Written here because no permissive
CPU fan-beam FBP can be installed; compiled with numba and spread over the cores.

Two pairs: `forward_project` and `filtered_backprojection` are inverse to each other;
`forward_project` and `adjoint_project` are transposes, as iterative methods need.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache

import numpy as np
from numba import njit, prange
from scipy import fft

from pipeline.physics.fan_beam_geometry import (
    SLICES_PER_BLOCK,
    FanBeam,
    FloatArray,
    filter_response,
    padded_length,
    rays,
)


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


def adjoint_project(
    sinogram: FloatArray,
    *,
    shape: tuple[int, int],
    spacing_mm: tuple[float, float],
    geometry: FanBeam,
) -> FloatArray:
    """The transpose of forward_project: <forward x, y> = <x, adjoint y>, unfiltered.

    sinogram: [slices, views, detectors]. Returns [slices, rows, columns], in mm.
    """
    return _by_block(
        sinogram, shape, lambda block: _adjoint_block(block, shape, spacing_mm, geometry)
    )


def filtered_backprojection(
    sinogram: FloatArray,
    *,
    shape: tuple[int, int],
    spacing_mm: tuple[float, float],
    geometry: FanBeam,
    cutoff: float = math.inf,
) -> FloatArray:
    """Attenuation per mm, [slices, rows, columns], from full-scan sinograms.

    sinogram: [slices, views, detectors]. `cutoff` sets the kernel: the ramp falls off under a
    Hann window that ends at this multiple of the detector's Nyquist frequency (0.71 cycles per
    mm by default). Infinity is the bare ramp (Ram-Lak); 1.2 to 1.6 comes near the standard
    kernels of clinical scanners, less is softer. Pixels outside the field of view are 0.
    """
    response = filter_response(geometry, cutoff)
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
    paths = rays(geometry, shape=(block.shape[1], block.shape[2]), spacing_mm=spacing_mm)
    image = np.moveaxis(block, 0, -1)
    # A border of zeros lets the interpolation read one cell past the edge unchecked.
    border = ((0, 0), (2, 2), (0, 0))
    padded = np.ascontiguousarray(np.pad(image, border))
    turned = np.ascontiguousarray(np.pad(image.transpose(1, 0, 2), border))
    sinogram = np.empty((geometry.views, geometry.detectors, block.shape[0]), dtype=np.float32)
    _joseph(padded, turned, *paths, sinogram)
    return sinogram


def _adjoint_block(
    block: FloatArray, shape: tuple[int, int], spacing_mm: tuple[float, float], geometry: FanBeam
) -> FloatArray:
    paths = rays(geometry, shape=shape, spacing_mm=spacing_mm)
    sinogram = np.ascontiguousarray(np.moveaxis(block, 0, -1))
    by_row = np.zeros((shape[0], shape[1] + 4, block.shape[0]), np.float32)
    by_column = np.zeros((shape[1], shape[0] + 4, block.shape[0]), np.float32)
    _joseph_transposed(sinogram, *paths, True, by_row)
    _joseph_transposed(sinogram, *paths, False, by_column)
    return by_row[:, 2:-2] + by_column[:, 2:-2].transpose(1, 0, 2)


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


def _ramp_filter(block: FloatArray, response: FloatArray, geometry: FanBeam) -> FloatArray:
    """Weight [slices, views, detectors] by D cos(gamma), filter, slices last."""
    length = padded_length(geometry)
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
def _joseph(image, turned, steep, first, slope, step_mm, sinogram):  # pragma: no cover - compiled
    views, cells = steep.shape
    for view in prange(views):
        for cell in range(cells):
            lines = image if steep[view, cell] else turned
            _march(
                lines,
                first[view, cell],
                slope[view, cell],
                step_mm[view, cell],
                sinogram[view, cell],
            )


@njit(fastmath=True, cache=True)
def _march(image, first, slope, step_mm, sums):  # pragma: no cover - compiled
    """Sum linear interpolations along one ray; `first` is its position in line 0."""
    lines, length = image.shape[0], image.shape[1] - 4
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
        left_part = step_mm - right_part
        for index in range(sums.size):
            sums[index] += (
                left_part * image[line, left, index] + right_part * image[line, left + 1, index]
            )


@njit(parallel=True, fastmath=True, cache=True)
def _joseph_transposed(
    sinogram, steep, first, slope, step_mm, selected, image
):  # pragma: no cover - compiled
    """The transpose of _joseph; each thread owns a line of the image, so no two write to one."""
    views, cells = steep.shape
    lines, length = image.shape[0], image.shape[1] - 4
    for line in prange(lines):
        for view in range(views):
            for cell in range(cells):
                position = first[view, cell] + slope[view, cell] * line
                if steep[view, cell] != selected or position <= -1.0 or position >= length:
                    continue
                left = np.uint64(position + 2.0)
                right_part = np.float32((position + 2.0 - np.int64(left)) * step_mm[view, cell])
                left_part = step_mm[view, cell] - right_part
                for index in range(image.shape[2]):
                    image[line, left, index] += left_part * sinogram[view, cell, index]
                    image[line, left + 1, index] += right_part * sinogram[view, cell, index]


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
