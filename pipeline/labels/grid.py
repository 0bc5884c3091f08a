"""Where an image's voxels lie, and labels of another grid put there by geometry alone.

The same grid, whatever the order and direction of its axes, is mapped voxel by voxel. Another
one is refused in millimetres, or resampled by nearest neighbour where that is asked for.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.core.refusals import Unreadable
from pipeline.core.volume import Volume
from pipeline.dicom.read.series import Series
from pipeline.dicom.read.volume import affine_lps

#: Corners this close, in the smallest spacing, are the same: voxels then map one to one.
SAME_PLACE = 0.1
#: What is written as text or float32 is rounded by less; more is told.
EXACT_MM = 0.01
#: A position this far beyond the rim's middle, in voxels, still is within.
RIM = 0.5 + 1e-6

Array = NDArray[np.float64]


@dataclass(frozen=True)
class LabelGrid:
    """Places of an image's voxels: shape (slices, rows, columns), the rest as in a Volume.

    series: the slices' headers, by which DICOM labels say what they belong to, if there are any.
    """

    shape: tuple[int, int, int]
    affine_lps: Array
    slice_origins_mm: Array
    series: Series | None = None

    @classmethod
    def of(cls, volume: Volume) -> LabelGrid:
        slices, rows, columns = volume.image_hu.shape
        return cls((slices, rows, columns), volume.affine_lps, volume.slice_origins_mm)

    @classmethod
    def of_series(cls, series: Series) -> LabelGrid:
        """The grid of the volume that read_volume makes of a series; no pixels are read."""
        origins = np.stack([instance.origin_mm for instance in series.instances])
        shape = (len(origins), int(series.header.Rows), int(series.header.Columns))
        return cls(shape, affine_lps(series), origins, series)

    @classmethod
    def even(cls, shape: tuple[int, int, int], affine: Array) -> LabelGrid:
        """A grid that an affine tells all of, as in a NIfTI file."""
        return cls(shape, affine, affine[:3, 3] + np.arange(shape[0])[:, None] * affine[:3, 2])

    @property
    def normal(self) -> Array:
        """Unit normal of the slices."""
        normal = np.cross(self.affine_lps[:3, 0], self.affine_lps[:3, 1])
        return normal / np.linalg.norm(normal)

    @property
    def spacing_mm(self) -> Array:
        """(slice, row, column) spacing; between slices along the normal, on average."""
        column, row, step = self.affine_lps[:3, :3].T
        return np.array([abs(step @ self.normal), np.linalg.norm(row), np.linalg.norm(column)])

    @property
    def tolerance_mm(self) -> float:
        """How far apart voxels of one and the same place may be told to be."""
        return SAME_PLACE * float(self.spacing_mm.min())

    @property
    def corners_mm(self) -> Array:
        """[slices, 4, 3]: the middles of each slice's corner voxels."""
        _, rows, columns = self.shape
        column, row = self.affine_lps[:3, :2].T
        ends = [u * (columns - 1) * column + v * (rows - 1) * row for u in (0, 1) for v in (0, 1)]
        return self.slice_origins_mm[:, None] + np.array(ends)

    def told(self) -> str:
        sizes = " x ".join(map(str, self.shape))
        return f"{sizes} voxels of {' x '.join(f'{mm:.3g}' for mm in self.spacing_mm)} mm"

    def in_slices(self, points_mm: Array) -> tuple[NDArray[np.int64], Array, Array]:
        """Of each point [points, 3]: the nearest slice, the distance from its plane in mm, and
        (column, row) in it."""
        heights, along = self.slice_origins_mm @ self.normal, points_mm @ self.normal
        order = heights.argsort()
        middles = (heights[order][1:] + heights[order][:-1]) / 2
        number = order[np.searchsorted(middles, along)]
        within = np.linalg.pinv(self.affine_lps[:3, :2])
        places = (points_mm - self.slice_origins_mm[number]) @ within.T
        return number, along - heights[number], places


@dataclass(frozen=True)
class Placed:
    """Labels on an image's grid, and what was done to them ("" for an exact map)."""

    values: NDArray
    done: str = ""


def place(values: NDArray, own: LabelGrid, image: LabelGrid, *, resample: bool = False) -> Placed:
    """Labels [slices, rows, columns] of an even grid, on the image's grid.

    Raises Unreadable where the grids are not the same, or, if resampling is asked for, where
    they do not overlap: it says how far off they are.
    """
    turned, grid = turned_like(values, own, image)
    if grid.shape == image.shape:
        off_mm = farthest_mm(grid.corners_mm, image.corners_mm)
        if off_mm <= image.tolerance_mm:
            told = f"taken for the image's grid, {off_mm:.3f} mm off" if off_mm > EXACT_MM else ""
            return Placed(turned, told)
    if not resample:
        raise Unreadable(mismatch(grid, image), "affine")
    placed = resampled(values, own, image)
    if not placed.values.any():
        raise Unreadable("no label lies within the image", "affine")
    return placed


def farthest_mm(first: Array, second: Array) -> float:
    return float(np.linalg.norm(first - second, axis=-1).max())


def mismatch(own: LabelGrid, image: LabelGrid) -> str:
    """Why two grids are not the same, in mm."""
    apart_mm = gap_mm(own, image)
    if apart_mm > 0:
        return f"the labels do not overlap the image: they lie {apart_mm:.1f} mm beside it"
    if own.shape == image.shape:
        off_mm = farthest_mm(own.corners_mm, image.corners_mm)
        return f"labels {off_mm:.1f} mm off the image's grid; resample them if that is right"
    return (
        f"labels on another grid, of {own.told()}, where the image has {image.told()}; "
        "resample them if that is right"
    )


def gap_mm(own: LabelGrid, image: LabelGrid) -> float:
    """How far the space that one grid's voxels take is from the other's; 0 where they meet."""
    low, high = _extent(image, image)
    own_low, own_high = _extent(own, image)
    gaps = np.maximum(own_low - high, low - own_high)
    return float(np.linalg.norm(gaps.clip(0)))


def _extent(grid: LabelGrid, along: LabelGrid) -> tuple[Array, Array]:
    """From where to where a grid reaches in mm along another one's rows, columns and normal."""
    column, row = along.affine_lps[:3, :2].T
    axes = np.stack([column / np.linalg.norm(column), row / np.linalg.norm(row), along.normal])
    half = 0.5 * np.abs(axes @ grid.affine_lps[:3, :3]).sum(axis=1)
    places = grid.corners_mm.reshape(-1, 3) @ axes.T
    return places.min(axis=0) - half, places.max(axis=0) + half


def turned_like(values: NDArray, own: LabelGrid, image: LabelGrid) -> tuple[NDArray, LabelGrid]:
    """The same labels with their axes in the order and direction that is nearest the image's.

    An uneven grid keeps its slices; any other may have them along whichever axis.
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
            place = 2 - axis
            affine[:3, 3] += affine[:3, axis] * (turned.shape[place] - 1)
            affine[:3, axis] *= -1
            turned = np.flip(turned, place)
    slices, rows, columns = turned.shape
    return turned, LabelGrid.even((slices, rows, columns), affine)


def resampled(
    values: NDArray, own: LabelGrid, image: LabelGrid, *, reach_mm: float | None = None
) -> Placed:
    """Each voxel of the image takes the label whose voxel it lies in.

    reach_mm: how far a slice's labels reach to both sides; half of the mean step by default.
    Raises Unreadable where the grids do not overlap.
    """
    if gap_mm(own, image) > 0:
        raise Unreadable(mismatch(own, image), "affine")
    reach_mm = own.spacing_mm[0] / 2 if reach_mm is None else reach_mm
    placed = np.zeros(image.shape, values.dtype)
    for number in range(image.shape[0]):
        placed[number] = _taken(values, own, image, number=number, reach_mm=reach_mm)
    lost = np.setdiff1d(np.unique(values), np.unique(placed))
    rest = f"; nothing is left of values {', '.join(map(str, lost))}" if len(lost) else ""
    return Placed(placed, f"resampled from {own.told()}, nearest neighbour{rest}")


def _taken(
    values: NDArray, own: LabelGrid, image: LabelGrid, *, number: int, reach_mm: float
) -> NDArray:
    """One slice of the image, its rows at once: the labels at the places of its pixels."""
    _, rows, columns = image.shape
    column, row = image.affine_lps[:3, :2].T
    v, u = np.mgrid[:rows, :columns].reshape(2, -1, 1)
    points_mm = image.slice_origins_mm[number] + u * column + v * row
    slices, distance, places = own.in_slices(points_mm)
    whole = np.floor(places + RIM).astype(int)
    inside = np.abs(distance) <= reach_mm + 1e-6
    inside &= ((places > -RIM) & (places < [own.shape[2] - 1 + RIM, own.shape[1] - 1 + RIM])).all(1)
    whole = whole.clip(0, [own.shape[2] - 1, own.shape[1] - 1])
    taken = values[slices, whole[:, 1], whole[:, 0]]
    return np.where(inside, taken, 0).reshape(rows, columns)
