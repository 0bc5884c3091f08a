"""Square regions of interest, cut out and freed of slow trends."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from pipeline.core.errors import LdctError

Regions = NDArray[np.float64]  # [regions, rows, columns], HU


def cut_regions(
    image_hu: NDArray,
    places_mm: Sequence[tuple[float, float]],
    *,
    pixel_mm: float,
    size_pixels: int,
) -> Regions:
    """Squares of an image_hu [slices, rows, columns], all places of a slice in turn.

    places_mm: (x, y) from the centre of the image. The centre pixel of each region is the one
    nearest to the place. Raises LdctError where a region leaves the image.
    """
    rows, columns = image_hu.shape[1:]
    regions = []
    for x_mm, y_mm in places_mm:
        first_row = _nearest(y_mm, rows, pixel_mm) - size_pixels // 2
        first_column = _nearest(x_mm, columns, pixel_mm) - size_pixels // 2
        if min(first_row, first_column) < 0 or (
            first_row + size_pixels > rows or first_column + size_pixels > columns
        ):
            raise LdctError(
                f"a region of {size_pixels} pixels at ({x_mm:.1f}, {y_mm:.1f}) mm leaves the image"
            )
        row_range = slice(first_row, first_row + size_pixels)
        regions.append(image_hu[:, row_range, first_column : first_column + size_pixels])
    return np.stack(regions, axis=1).reshape(-1, size_pixels, size_pixels).astype(np.float64)


def tile_places_mm(*, half_width_mm: float, step_mm: float) -> tuple[tuple[float, float], ...]:
    """(x, y) of a square lattice about the centre, at most `half_width_mm` from either axis."""
    count = int(half_width_mm / step_mm)
    steps = np.arange(-count, count + 1) * step_mm
    return tuple((float(x), float(y)) for y in steps for x in steps)


def detrend(regions: Regions, order: int) -> Regions:
    """Regions less their own least-squares polynomial of `order` (0: mean, 1: plane, 2: bowl).

    AAPM TG-233 (2019): cupping and other slow structure is no noise.
    """
    size_rows, size_columns = regions.shape[1:]
    y, x = np.meshgrid(
        np.linspace(-1, 1, size_rows), np.linspace(-1, 1, size_columns), indexing="ij"
    )
    terms = [x**i * y**j for i in range(order + 1) for j in range(order + 1 - i)]
    basis, _ = np.linalg.qr(np.stack([term.ravel() for term in terms], axis=1))
    flat = regions.reshape(len(regions), -1)
    return (flat - flat @ basis @ basis.T).reshape(regions.shape)


def _nearest(position_mm: float, count: int, pixel_mm: float) -> int:
    return round(position_mm / pixel_mm + (count - 1) / 2)
