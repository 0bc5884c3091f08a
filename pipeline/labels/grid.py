"""The grid of an image's voxels, and labels of another grid mapped onto it by geometry.

Labels on the same grid, in whatever order and direction of its axes, are mapped voxel by voxel.
Those on another grid are refused, with the distance in mm, or resampled by nearest neighbour if
the user chose that.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.core.refusals import Unreadable
from pipeline.core.volume import Volume, even_origins_mm
from pipeline.dicom.read.series import Series
from pipeline.dicom.read.volume import affine_lps

#: Grids whose corners are closer than this share of the smallest spacing are the same: voxels
#: then map one to one.
SAME_PLACE_SHARE = 0.1
#: Rounding to text or float32 moves a grid by less; labels further off get a warning.
EXACT_MM = 0.01
#: How far a voxel reaches from its centre, in voxels, with a margin for rounding.
HALF_VOXEL = 0.5 + 1e-6

Coordinates = NDArray[np.float64]


@dataclass(frozen=True)
class LabelGrid:
    """The grid of an image's voxels: shape (slices, rows, columns), the rest as in a Volume.

    series: the slices' headers, which DICOM labels refer to; None for an image file.
    """

    shape: tuple[int, int, int]
    affine_lps: Coordinates
    slice_origins_mm: Coordinates
    series: Series | None = None

    @classmethod
    def of_volume(cls, volume: Volume) -> LabelGrid:
        """The grid of a volume, without a series."""
        slices, rows, columns = volume.image_hu.shape
        return cls((slices, rows, columns), volume.affine_lps, volume.slice_origins_mm)

    @classmethod
    def of_series(cls, series: Series) -> LabelGrid:
        """The grid of the volume that read_volume makes of a series; no pixels are read."""
        origins = np.stack([instance.origin_mm for instance in series.instances])
        shape = (len(origins), int(series.header.Rows), int(series.header.Columns))
        return cls(shape, affine_lps(series), origins, series)

    @classmethod
    def even(cls, shape: tuple[int, int, int], affine: Coordinates) -> LabelGrid:
        """A grid with even slices, (column, row, slice) to LPS mm by `affine` [4, 4]."""
        return cls(shape, affine, even_origins_mm(affine, shape[0]))

    @property
    def normal(self) -> Coordinates:
        """Unit normal of the slices [3]."""
        normal = np.cross(self.affine_lps[:3, 0], self.affine_lps[:3, 1])
        return normal / np.linalg.norm(normal)

    @property
    def spacing_mm(self) -> Coordinates:
        """(slice, row, column) spacing; between slices along the normal, on average."""
        column, row, step = self.affine_lps[:3, :3].T
        return np.array([abs(step @ self.normal), np.linalg.norm(row), np.linalg.norm(column)])

    @property
    def tolerance_mm(self) -> float:
        """How far grids may lie apart, at a corner in mm, and still be the same."""
        return SAME_PLACE_SHARE * float(self.spacing_mm.min())

    @property
    def corners_mm(self) -> Coordinates:
        """[slices, 4, 3] in LPS mm: the centres of each slice's corner voxels."""
        _, rows, columns = self.shape
        column, row = self.affine_lps[:3, :2].T
        ends = [u * (columns - 1) * column + v * (rows - 1) * row for u in (0, 1) for v in (0, 1)]
        return self.slice_origins_mm[:, None] + np.array(ends)

    def describe(self) -> str:
        """Shape and spacing for a message: `52 x 512 x 512 voxels of 2.5 x 0.7 x 0.7 mm`."""
        sizes = " x ".join(map(str, self.shape))
        return f"{sizes} voxels of {' x '.join(f'{mm:.3g}' for mm in self.spacing_mm)} mm"

    def in_slices(
        self, points_mm: Coordinates
    ) -> tuple[NDArray[np.int64], Coordinates, Coordinates]:
        """For points [points, 3] in LPS mm: each one's nearest slice, its distance from the plane
        in mm, and its (column, row) there."""
        heights, along = self.slice_origins_mm @ self.normal, points_mm @ self.normal
        order = heights.argsort()
        middles = (heights[order][1:] + heights[order][:-1]) / 2
        number = order[np.searchsorted(middles, along)]
        within = np.linalg.pinv(self.affine_lps[:3, :2])
        places = (points_mm - self.slice_origins_mm[number]) @ within.T
        return number, along - heights[number], places


@dataclass(frozen=True)
class PlacedLabels:
    """Labels on an image's grid, and a warning of what that changed, "" for an exact map."""

    values: NDArray
    warning: str = ""


def place_on(
    values: NDArray, own: LabelGrid, image: LabelGrid, *, resample: bool = False
) -> PlacedLabels:
    """Labels [slices, rows, columns] of an even grid `own`, on the image's grid.

    Raises Unreadable, with the distance in mm, where the grids are not the same, or with
    `resample` where they do not overlap or no label lies within the image.
    """
    turned, grid = reoriented_like(values, own, image)
    if grid.shape == image.shape:
        off_mm = max_distance_mm(grid.corners_mm, image.corners_mm)
        if off_mm <= image.tolerance_mm:
            inexact = off_mm > EXACT_MM
            warning = f"taken for the image's grid, {off_mm:.3f} mm off" if inexact else ""
            return PlacedLabels(turned, warning)
    if not resample:
        raise Unreadable(mismatch(grid, image), "affine")
    placed = resampled(values, own, image)
    if not placed.values.any():
        raise Unreadable("no label lies within the image", "affine")
    return placed


def max_distance_mm(first: Coordinates, second: Coordinates) -> float:
    """The largest distance between points [..., 3] that belong together."""
    return float(np.linalg.norm(first - second, axis=-1).max())


def mismatch(own: LabelGrid, image: LabelGrid) -> str:
    """How the labels' grid differs from the image's, in words."""
    distance_mm = gap_mm(own, image)
    if distance_mm > 0:
        return f"the labels do not overlap the image: they lie {distance_mm:.1f} mm beside it"
    if own.shape == image.shape:
        off_mm = max_distance_mm(own.corners_mm, image.corners_mm)
        return f"labels {off_mm:.1f} mm off the image's grid; resample them if that is right"
    return (
        f"labels on another grid, of {own.describe()}, where the image has {image.describe()}; "
        "resample them if that is right"
    )


def gap_mm(own: LabelGrid, image: LabelGrid) -> float:
    """The distance between the volumes that two grids' voxels fill; 0 where they touch."""
    low, high = _extent(image, image)
    own_low, own_high = _extent(own, image)
    gaps = np.maximum(own_low - high, low - own_high)
    return float(np.linalg.norm(gaps.clip(0)))


def _extent(grid: LabelGrid, along: LabelGrid) -> tuple[Coordinates, Coordinates]:
    """A grid's (lowest, highest) coordinates in mm along another one's rows, columns, normal."""
    column, row = along.affine_lps[:3, :2].T
    axes = np.stack([column / np.linalg.norm(column), row / np.linalg.norm(row), along.normal])
    half = 0.5 * np.abs(axes @ grid.affine_lps[:3, :3]).sum(axis=1)
    places = grid.corners_mm.reshape(-1, 3) @ axes.T
    return places.min(axis=0) - half, places.max(axis=0) + half


def reoriented_like(values: NDArray, own: LabelGrid, image: LabelGrid) -> tuple[NDArray, LabelGrid]:
    """The same labels, with their axes in the order and direction nearest to the image's.

    values: [slices, rows, columns] on `own`; its slices may lie along any axis of the image.
    """
    unit = own.affine_lps[:3, :3] / np.linalg.norm(own.affine_lps[:3, :3], axis=0)
    like = image.affine_lps[:3, :3] / np.linalg.norm(image.affine_lps[:3, :3], axis=0)
    closeness = np.linalg.solve(like, unit)  # solved, since the axes of a tilted series slant
    order = np.abs(closeness).argmax(axis=1)
    if sorted(order) != [0, 1, 2]:
        return values, own
    affine = own.affine_lps.copy()
    affine[:3, :3] = own.affine_lps[:3, order]
    turned = values.transpose([2 - axis for axis in order[::-1]])
    for axis, source in enumerate(order):
        if closeness[axis, source] < 0:
            dimension = 2 - axis
            affine[:3, 3] += affine[:3, axis] * (turned.shape[dimension] - 1)
            affine[:3, axis] *= -1
            turned = np.flip(turned, dimension)
    slices, rows, columns = turned.shape
    return turned, LabelGrid.even((slices, rows, columns), affine)


def resampled(
    values: NDArray, own: LabelGrid, image: LabelGrid, *, reach_mm: float | None = None
) -> PlacedLabels:
    """Labels by nearest neighbour: each voxel of the image has the label whose voxel it lies in.

    reach_mm: how far a slice's labels reach to both sides; half of the mean step by default.
    Raises Unreadable where the grids do not overlap.
    """
    if gap_mm(own, image) > 0:
        raise Unreadable(mismatch(own, image), "affine")
    reach_mm = own.spacing_mm[0] / 2 if reach_mm is None else reach_mm
    placed = np.zeros(image.shape, values.dtype)
    for number in range(image.shape[0]):
        placed[number] = _nearest_labels(values, own, image, number=number, reach_mm=reach_mm)
    lost = np.setdiff1d(np.unique(values), np.unique(placed))
    rest = f"; nothing is left of values {', '.join(map(str, lost))}" if len(lost) else ""
    return PlacedLabels(placed, f"resampled from {own.describe()}, nearest neighbour{rest}")


def _nearest_labels(
    values: NDArray, own: LabelGrid, image: LabelGrid, *, number: int, reach_mm: float
) -> NDArray:
    """The labels at the pixels of one slice of the image [rows, columns]."""
    _, rows, columns = image.shape
    column, row = image.affine_lps[:3, :2].T
    v, u = np.mgrid[:rows, :columns].reshape(2, -1, 1)
    points_mm = image.slice_origins_mm[number] + u * column + v * row
    slices, distance, places = own.in_slices(points_mm)
    whole = np.floor(places + HALF_VOXEL).astype(int)
    inside = np.abs(distance) <= reach_mm + 1e-6
    inside &= (
        (places > -HALF_VOXEL)
        & (places < [own.shape[2] - 1 + HALF_VOXEL, own.shape[1] - 1 + HALF_VOXEL])
    ).all(1)
    whole = whole.clip(0, [own.shape[2] - 1, own.shape[1] - 1])
    taken = values[slices, whole[:, 1], whole[:, 0]]
    return np.where(inside, taken, 0).reshape(rows, columns)
