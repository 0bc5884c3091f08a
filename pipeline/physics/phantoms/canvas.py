"""One transverse slice to paint on: labels, tissues, texture, distance functions, vessel trees.

Coordinates are millimetres in the patient: x towards the left hand (to the right of the image),
y towards the back (down the image), level towards the feet, zero at the tracheal bifurcation.
A shape is a signed distance (negative inside); painting turns it into the share of each pixel it
covers, so edges carry the partial volume of the pixel without supersampling.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from enum import IntEnum
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

Image = npt.NDArray[np.floating[Any]]  # [rows, columns] unless said otherwise
Labels = npt.NDArray[np.uint8]
Window = tuple[slice, slice]
Line = tuple[tuple[float, float, float], ...]  # points (x, y, level) in mm

WARP_MM = 12.0  # no displacement field moves a point farther than this


class Label(IntEnum):
    """What a voxel mostly holds."""

    AIR = 0
    COUCH = 1
    SKIN = 2
    FAT = 3
    MUSCLE = 4
    CORTICAL_BONE = 5
    TRABECULAR_BONE = 6
    CARTILAGE = 7
    SPINAL_CANAL = 8
    LUNG = 9
    LUNG_VESSEL = 10
    AIRWAY = 11
    NODULE = 12
    MYOCARDIUM = 13
    BLOOD = 14
    OESOPHAGUS = 15
    LIVER = 16
    LIVER_LESION = 17
    LIVER_VESSEL = 18
    GALLBLADDER = 19
    SPLEEN = 20
    PANCREAS = 21
    KIDNEY_CORTEX = 22
    KIDNEY_MEDULLA = 23
    STOMACH = 24
    BOWEL = 25
    GUT_GAS = 26
    GLAND = 27


@dataclass(frozen=True)
class Tissue:
    """A material: mean HU, standard deviation and size of its grain, depth of fat streaks in it."""

    label: Label
    hu: float
    grain_hu: float = 0.0
    grain_mm: float = 4.0
    streak_hu: float = 0.0


class Texture:
    """A periodic block of smooth noise (mean 0, standard deviation 1) to be sampled anywhere."""

    cells = 64

    def __init__(self, generator: np.random.Generator) -> None:
        white = generator.standard_normal((self.cells,) * 3, dtype=np.float32)
        smooth = ndimage.gaussian_filter(white, 1.2, mode="wrap")
        self._block = (smooth - smooth.mean()) / smooth.std()

    def sample(self, points_mm: Image, *, scale_mm: float, shift: float = 0.0) -> Image:
        """Values at ``points_mm`` [3, ...] (x, y, level); ``scale_mm`` is the size of one cell."""
        cells = points_mm / np.float32(scale_mm) + np.float32(7.3 * shift)
        return ndimage.map_coordinates(self._block, cells, order=1, mode="grid-wrap")


@dataclass(frozen=True)
class Ellipsoid:
    """Centre and half axes in mm (x, y, level), turned by ``tilt_rad`` about the level axis."""

    centre_mm: tuple[float, float, float]
    half_axes_mm: tuple[float, float, float]
    tilt_rad: float = 0.0


@dataclass
class Canvas:
    """A slice, or a window of one, being painted; arrays are [rows, columns] and share memory."""

    x_mm: Image
    y_mm: Image
    level_mm: float
    pixel_mm: float
    image_hu: Image
    labels: Labels
    texture: Texture
    axis_x_mm: Image
    axis_y_mm: Image

    def window(self, *, x_mm: float, y_mm: float, reach_mm: float) -> Window:
        """The part of the slice that can hold points within ``reach_mm`` of (x, y)."""
        reach = reach_mm + WARP_MM + self.pixel_mm
        rows = np.searchsorted(self.axis_y_mm, (y_mm - reach, y_mm + reach))
        columns = np.searchsorted(self.axis_x_mm, (x_mm - reach, x_mm + reach))
        return slice(int(rows[0]), int(rows[1])), slice(int(columns[0]), int(columns[1]))

    def view(self, window: Window) -> Canvas:
        """The same canvas narrowed to ``window``; painting on it paints on this one."""
        rows, columns = window
        return replace(
            self,
            x_mm=self.x_mm[window],
            y_mm=self.y_mm[window],
            image_hu=self.image_hu[window],
            labels=self.labels[window],
            axis_x_mm=self.axis_x_mm[columns],
            axis_y_mm=self.axis_y_mm[rows],
        )

    def around(self, shape: Ellipsoid) -> Window:
        """The window about an ellipsoid; empty where the slice passes above or below it."""
        x, y, level = shape.centre_mm
        if abs(self.level_mm - level) > shape.half_axes_mm[2] + self.pixel_mm:
            return slice(0, 0), slice(0, 0)
        return self.window(x_mm=x, y_mm=y, reach_mm=max(shape.half_axes_mm[:2]) + 4)

    def paint(self, distance_mm: Image, tissue: Tissue) -> None:
        """Cover what is painted so far with ``tissue`` wherever the signed distance is negative."""
        cover = 0.5 - distance_mm / np.float32(self.pixel_mm)
        inside = np.nonzero(cover > 0)
        if not inside[0].size:
            return
        weight = np.minimum(cover[inside], 1)
        before = self.image_hu[inside]
        self.image_hu[inside] = before + weight * (self._hu(tissue, inside) - before)
        self.labels[inside] = np.where(weight > 0.5, np.uint8(tissue.label), self.labels[inside])

    def _hu(self, tissue: Tissue, inside: tuple[npt.NDArray[np.intp], ...]) -> Image | float:
        if not tissue.grain_hu:
            return tissue.hu
        level = np.full(inside[0].shape, self.level_mm, np.float32)
        points = np.stack([self.x_mm[inside], self.y_mm[inside], level])
        grain = self.texture.sample(points, scale_mm=tissue.grain_mm, shift=float(tissue.label))
        streaks = np.maximum(grain - 1, 0)
        return tissue.hu + tissue.grain_hu * grain - tissue.streak_hu * streaks


def ellipsoid_mm(canvas: Canvas, shape: Ellipsoid) -> Image:
    """Signed distance to an ellipsoid, first order in the distance from its surface."""
    x, y, level = shape.centre_mm
    a, b, c = shape.half_axes_mm
    cos, sin = math.cos(shape.tilt_rad), math.sin(shape.tilt_rad)
    u = ((canvas.x_mm - x) * cos + (canvas.y_mm - y) * sin) / a
    v = ((canvas.y_mm - y) * cos - (canvas.x_mm - x) * sin) / b
    w = (canvas.level_mm - level) / c
    norm = np.sqrt(u * u + v * v + w * w)
    slope = np.sqrt((u / a) ** 2 + (v / b) ** 2 + (w / c) ** 2)
    return norm * (norm - 1) / np.maximum(slope, 1e-6)


def disc_mm(canvas: Canvas, *, x_mm: float, y_mm: float, radius_mm: float) -> Image:
    """Signed distance to an upright cylinder."""
    return np.hypot(canvas.x_mm - x_mm, canvas.y_mm - y_mm) - np.float32(radius_mm)


def capsule_mm(canvas: Canvas, ends_mm: npt.ArrayLike, radii_mm: tuple[float, float]) -> Image:
    """Signed distance to a tapering rod between two points [2, 3] (x, y, level)."""
    start, end = np.asarray(ends_mm, np.float32)
    along = end - start
    offset = (canvas.x_mm - start[0], canvas.y_mm - start[1], canvas.level_mm - start[2])
    length2 = max(float(along @ along), 1e-6)
    t = np.clip(
        (offset[0] * along[0] + offset[1] * along[1] + offset[2] * along[2]) / length2, 0, 1
    )
    gap2 = sum((o - t * a) ** 2 for o, a in zip(offset, along, strict=True))
    return np.sqrt(gap2) - (radii_mm[0] + t * np.float32(radii_mm[1] - radii_mm[0]))


def tube_mm(canvas: Canvas, line_mm: Line, radii_mm: tuple[float, ...]) -> Image:
    """Signed distance to a tube along a line of points; infinite far above and below it.

    radii_mm: one for every point, or a single one for the whole line.
    """
    radii = radii_mm if len(radii_mm) > 1 else radii_mm * len(line_mm)
    nearest = np.full_like(canvas.x_mm, np.inf)
    for i in range(len(line_mm) - 1):
        ends, reach = line_mm[i : i + 2], max(radii[i : i + 2])
        levels = (ends[0][2], ends[1][2])
        if min(levels) - reach < canvas.level_mm < max(levels) + reach:
            nearest = np.minimum(nearest, capsule_mm(canvas, ends, (radii[i], radii[i + 1])))
    return nearest


def grow_tree(root_mm: npt.ArrayLike, leaves_mm: Image, *, leaf_radius_mm: float) -> Image:
    """A vessel tree from ``root_mm`` [3] to every one of ``leaves_mm`` [n, 3].

    Each branch heads for the centroid of the leaves it feeds and halves them along the direction
    of the farthest one; radii follow Murray's law (PNAS 12, 1926).
    Returns segments [m, 8]: start (3), end (3), radius at start and end, all in mm.
    """
    segments = []
    stack = [
        (np.asarray(root_mm, np.float32), leaves_mm, leaf_radius_mm * len(leaves_mm) ** (1 / 3))
    ]
    while stack:
        start, leaves, radius = stack.pop()
        own_radius = leaf_radius_mm * len(leaves) ** (1 / 3)
        spread = leaves - (centroid := leaves.mean(axis=0))
        end = centroid if len(leaves) == 1 else start + 0.45 * (centroid - start)
        segments.append(np.concatenate([start, end, [radius, own_radius]]))
        if len(leaves) == 1:
            continue
        order = np.argsort(spread @ spread[np.argmax((spread * spread).sum(axis=1))])
        half = len(order) // 2
        stack += [(end, leaves[order[:half]], own_radius), (end, leaves[order[half:]], own_radius)]
    return np.stack(segments).astype(np.float32)


def paint_tree(
    canvas: Canvas, tree: Image, *, tissue: Tissue, within_mm: Image, wall_mm: float = 0.0
) -> None:
    """Paint the branches of ``tree`` that reach this slice, clipped to ``within_mm`` < 0."""
    low = np.minimum(tree[:, 2], tree[:, 5]) - tree[:, 6] - wall_mm
    high = np.maximum(tree[:, 2], tree[:, 5]) + tree[:, 6] + wall_mm
    for segment in tree[(low < canvas.level_mm) & (canvas.level_mm < high)]:
        middle = (segment[:3] + segment[3:6]) / 2
        reach = float(np.hypot(*(segment[:2] - middle[:2]))) + segment[6] + wall_mm
        window = canvas.window(x_mm=middle[0], y_mm=middle[1], reach_mm=reach)
        view = canvas.view(window)
        radii = (float(segment[6]) + wall_mm, float(segment[7]) + wall_mm)
        distance = capsule_mm(view, segment[:6].reshape(2, 3), radii)
        view.paint(np.maximum(distance, within_mm[window]), tissue)
