"""Where the planes of a series lie, in all three directions, tilt and uneven steps included.

Slices are shown as they were acquired. Planes across them are cut on an upright grid: along the
slices' own columns (u), rows (v) and normal (n), in DICOM's LPS millimetres (PS3.3 C.7.6.2.1.1).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from pipeline.core.types import Json
from pipeline.core.volume import Volume

#: Planes are cut in these directions: the slices themselves, along their rows, along their columns.
SLICES, ROWS, COLUMNS = "slices", "rows", "columns"
DIRECTIONS = (SLICES, ROWS, COLUMNS)
#: The name of a plane by the patient axis (x, y, z) that its normal is nearest to.
NAMES = ("sagittal", "coronal", "axial")
TOLERANCE_MM = 0.01
#: The shortest step of an uneven series may be tiny: a plane across it has so many lines at most.
MAX_LINES = 2048


@dataclass(frozen=True)
class PlaneStack:
    """The planes of one direction: how many, their size and their place.

    row_axis, column_axis: unit vectors along a row and down a column. origins_mm: [count, 3],
    the first pixel of each. spacing_mm: (between rows, between columns).
    """

    name: str
    rows: int
    columns: int
    row_axis: NDArray[np.float64]
    column_axis: NDArray[np.float64]
    spacing_mm: tuple[float, float]
    origins_mm: NDArray[np.float64]

    def to_dict(self) -> Json:
        """As the page reads it; lengths in mm."""
        return {
            "name": self.name,
            "count": len(self.origins_mm),
            "rows": self.rows,
            "columns": self.columns,
            "row_axis": self.row_axis.tolist(),
            "column_axis": self.column_axis.tolist(),
            "spacing_mm": list(self.spacing_mm),
            "origins_mm": np.round(self.origins_mm, 4).tolist(),
        }


@dataclass(frozen=True)
class Geometry:
    """A series' place in the patient.

    shape: (slices, rows, columns). affine_lps: [4, 4], of (column, row, slice) indices to LPS mm.
    slice_origins_mm: [slices, 3], the first pixel of each slice.
    """

    shape: tuple[int, int, int]
    affine_lps: NDArray[np.float64]
    slice_origins_mm: NDArray[np.float64]

    @classmethod
    def of(cls, volume: Volume) -> Geometry:
        """Of a volume, whose pixels are not read."""
        slices, rows, columns = volume.image_hu.shape
        return cls((slices, rows, columns), volume.affine_lps, volume.slice_origins_mm)

    @cached_property
    def spacing_mm(self) -> tuple[float, float]:
        """Between rows, and between columns, of a slice."""
        column, row = self.affine_lps[:3, 0], self.affine_lps[:3, 1]
        return float(np.linalg.norm(row)), float(np.linalg.norm(column))

    @cached_property
    def axes(self) -> NDArray[np.float64]:
        """Unit vectors (u, v, n) as rows; slices run along n."""
        u, v = (self.affine_lps[:3, k] / np.linalg.norm(self.affine_lps[:3, k]) for k in (0, 1))
        n = np.cross(u, v)
        n /= np.linalg.norm(n)
        along = (self.slice_origins_mm[-1] - self.slice_origins_mm[0]) @ n
        return np.stack([u, v, -n if along < 0 else n])

    @cached_property
    def offsets_mm(self) -> NDArray[np.float64]:
        """[slices, 3]: each slice's first pixel along (u, v, n), from the lowest of each."""
        offsets = (self.slice_origins_mm - self.slice_origins_mm[0]) @ self.axes.T
        return offsets - offsets.min(axis=0)

    @cached_property
    def even(self) -> bool:
        """Whether all slices are the same step apart, within TOLERANCE_MM."""
        steps = np.diff(self.offsets_mm[:, 2])
        return len(steps) == 0 or float(np.ptp(steps)) <= TOLERANCE_MM

    @cached_property
    def tilt_degrees(self) -> float:
        """The angle between the direction from slice to slice and their normal."""
        across = np.ptp(self.offsets_mm[:, :2], axis=0)
        along = np.ptp(self.offsets_mm[:, 2])
        return float(np.degrees(np.arctan2(np.hypot(*across), along))) if along else 0.0

    @cached_property
    def step_mm(self) -> float:
        """Between the lines of a plane across the slices."""
        steps = np.diff(self.offsets_mm[:, 2])
        if len(steps) == 0:
            return self.spacing_mm[0]
        if self.even:
            return float(steps.mean())
        return max(float(steps[steps > TOLERANCE_MM].min()), float(steps.sum()) / MAX_LINES)

    @cached_property
    def lines_mm(self) -> NDArray[np.float64]:
        """Places along n of the lines of a plane across the slices."""
        along = self.offsets_mm[:, 2]
        if self.even:
            return along
        return np.arange(along[0], along[-1] + TOLERANCE_MM, self.step_mm)

    @cached_property
    def upright(self) -> tuple[int, int]:
        """(rows, columns) of the smallest upright grid that holds every slice."""
        row_mm, column_mm = self.spacing_mm
        across, down, _ = self.offsets_mm.max(axis=0)
        return (
            self.shape[1] + int(np.ceil(down / row_mm - 1e-6)),
            self.shape[2] + int(np.ceil(across / column_mm - 1e-6)),
        )

    @cached_property
    def corner_mm(self) -> NDArray[np.float64]:
        """The upright grid's first voxel."""
        return self.axes.T @ (self.slice_origins_mm[0] @ self.axes.T - self.offsets_mm[0])

    def count(self, direction: str) -> int:
        """How many planes there are in a direction."""
        rows, columns = self.upright
        return {SLICES: self.shape[0], ROWS: rows, COLUMNS: columns}[direction]

    def planes(self, direction: str) -> PlaneStack:
        """The planes of a direction."""
        if direction == SLICES:
            u, v, n = self.axes
            _, rows, columns = self.shape
            return PlaneStack(_name(n), rows, columns, u, v, self.spacing_mm, self.slice_origins_mm)
        return self._across(direction)

    def _across(self, direction: str) -> PlaneStack:
        """Head or front up, the patient's right or front on the left."""
        u, v, n = self.axes
        row_mm, column_mm = self.spacing_mm
        rows, columns = self.upright
        normal, normal_mm, count = (
            (v, row_mm, rows) if direction == ROWS else (u, column_mm, columns)
        )
        along, along_mm, width = (u, column_mm, columns) if direction == ROWS else (v, row_mm, rows)
        lines = len(self.lines_mm)
        origins = self.corner_mm + np.arange(count)[:, None] * normal_mm * normal
        turned, reversed_ = self.turned(direction)
        if turned:
            origins = origins + n * self.step_mm * (lines - 1)
        if reversed_:
            origins = origins + along * along_mm * (width - 1)
        return PlaneStack(
            _name(normal),
            lines,
            width,
            -along if reversed_ else along,
            -n if turned else n,
            (self.step_mm, along_mm),
            origins,
        )

    def turned(self, direction: str) -> tuple[bool, bool]:
        """Whether a plane across is shown with its lines, and its columns, in reverse."""
        u, v, n = self.axes
        return _runs_up(n), not _runs_right(u if direction == ROWS else v)

    def to_dict(self) -> Json:
        """As the page reads it: the planes of every direction, steps in mm, and the gantry tilt."""
        return {
            "planes": {direction: self.planes(direction).to_dict() for direction in DIRECTIONS},
            "evenly_spaced": self.even,
            "tilt_degrees": round(self.tilt_degrees, 2),
            "slice_step_mm": round(self.step_mm, 4),
        }


def _name(normal: NDArray[np.float64]) -> str:
    return NAMES[int(np.argmax(np.abs(normal)))]


def _runs_up(axis: NDArray[np.float64]) -> bool:
    """Lines that run to the head, or to the front, are shown from the top down."""
    strongest = int(np.argmax(np.abs(axis)))
    return bool(axis[strongest] > 0) if strongest == 2 else bool(axis[strongest] < 0)


def _runs_right(axis: NDArray[np.float64]) -> bool:
    """From the patient's right to left, and from front to back, is left to right on the screen."""
    strongest = int(np.argmax(np.abs(axis)))
    return bool(axis[strongest] < 0) if strongest == 2 else bool(axis[strongest] > 0)
