"""Image-quality phantoms: water, low-contrast rods, a straight edge, a wire, with their truth.

A water cylinder of 200 mm holds the inserts, as the body of the MITA low-contrast phantom does
(CCT189, The Phantom Laboratory), whose four rods are the default. Coordinates are millimetres
from the centre of the image, x growing with the column and y with the row, as in fan_beam.py.
Pixels hold the mean over their area, so that an edge between two pixels is not rounded to one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.core.errors import ConfigError
from pipeline.core.units import AIR_HU, WATER_HU
from pipeline.core.volume import Volume

Image = NDArray[np.float64]  # [rows, columns]

#: Lines across a pixel on which coverage is computed exactly; error under 1e-3 of a contrast.
_LINES_PER_PIXEL = 32


class RodKind(NamedTuple):
    """A low-contrast rod; contrast is its HU above the water around it."""

    diameter_mm: float
    contrast_hu: float

    @property
    def name(self) -> str:
        """`3 mm / 14 HU`: the key of its figures in reports."""
        return f"{self.diameter_mm:g} mm / {self.contrast_hu:g} HU"


LOW_CONTRAST_RODS = (RodKind(3, 14), RodKind(5, 7), RodKind(7, 5), RodKind(10, 3))


@dataclass(frozen=True)
class Rod:
    """An upright cylinder: centre and radius in mm, contrast in HU above the water."""

    x_mm: float
    y_mm: float
    radius_mm: float
    contrast_hu: float


@dataclass(frozen=True)
class Edge:
    """Matter of `contrast_hu` left of a line through (x, y), which leans `angle_rad` from upright.

    The line runs along (sin(angle), cos(angle)) in (x, y).
    """

    x_mm: float
    y_mm: float
    angle_rad: float
    contrast_hu: float


@dataclass(frozen=True)
class Wire:
    """A thin upright wire, thinner than a pixel."""

    x_mm: float
    y_mm: float
    diameter_mm: float
    contrast_hu: float


#: Slanted as ISO 12233 asks, so that the pixels sample it finely.
SLANTED_EDGE = Edge(0.0, 0.0, math.radians(4.0), 100.0)
THIN_WIRE = Wire(0.0, 0.0, 0.2, 20000.0)


@dataclass(frozen=True)
class PhantomGrid:
    """Slices, pixels a side and their size. 0.7 mm is a body scan's usual pixel."""

    slices: int = 1
    matrix: int = 320
    pixel_mm: float = 0.7
    slice_mm: float = 5.0

    def __post_init__(self) -> None:
        if min(self.slices, self.matrix, self.pixel_mm, self.slice_mm) <= 0:
            raise ConfigError(f"every size of a phantom's grid must be positive, got {self}")

    @property
    def axis_mm(self) -> NDArray[np.floating]:
        """Pixel centres [matrix] in mm, the same for rows and columns."""
        return (np.arange(self.matrix) - (self.matrix - 1) / 2) * self.pixel_mm


@dataclass(frozen=True)
class Truth:
    """What a phantom holds. places_mm: (x, y) of the regions to evaluate."""

    body_radius_mm: float
    rods: tuple[Rod, ...] = ()
    places_mm: tuple[tuple[float, float], ...] = ()
    edge: Edge | None = None
    wire: Wire | None = None


@dataclass(frozen=True)
class QualityPhantom:
    """A noiseless phantom, every slice the same, and the truth about it."""

    volume: Volume
    truth: Truth
    grid: PhantomGrid


def water_phantom(
    grid: PhantomGrid | None = None, *, body_radius_mm: float = 100.0
) -> QualityPhantom:
    """A cylinder of water in air."""
    return _phantom(grid or PhantomGrid(), Truth(body_radius_mm))


def rod_phantom(
    rods: Sequence[Rod], grid: PhantomGrid | None = None, *, body_radius_mm: float = 100.0
) -> QualityPhantom:
    """Water with `rods`, which neither overlap nor leave the water (ConfigError)."""
    for index, rod in enumerate(rods):
        if math.hypot(rod.x_mm, rod.y_mm) + rod.radius_mm > body_radius_mm:
            raise ConfigError(f"{rod} leaves a water cylinder of radius {body_radius_mm} mm")
        for other in rods[:index]:
            gap_mm = math.hypot(rod.x_mm - other.x_mm, rod.y_mm - other.y_mm)
            if gap_mm < rod.radius_mm + other.radius_mm:
                raise ConfigError(f"{rod} and {other} overlap")
    places = tuple((rod.x_mm, rod.y_mm) for rod in rods)
    return _phantom(grid or PhantomGrid(), Truth(body_radius_mm, tuple(rods), places))


def edge_phantom(
    edge: Edge = SLANTED_EDGE, grid: PhantomGrid | None = None, *, body_radius_mm: float = 100.0
) -> QualityPhantom:
    """The part of the cylinder left of the edge is denser."""
    return _phantom(grid or PhantomGrid(), Truth(body_radius_mm, edge=edge))


def wire_phantom(
    wire: Wire = THIN_WIRE, grid: PhantomGrid | None = None, *, body_radius_mm: float = 100.0
) -> QualityPhantom:
    """A wire in water. Raises ConfigError where it is not thinner than a pixel."""
    grid = grid or PhantomGrid()
    if not 0 < wire.diameter_mm < grid.pixel_mm:
        raise ConfigError(f"a wire must be thinner than a pixel of {grid.pixel_mm} mm")
    return _phantom(grid, Truth(body_radius_mm, wire=wire))


def ring_mm(
    places: int, radius_mm: float, *, turn_rad: float = 0.0
) -> tuple[tuple[float, float], ...]:
    """(x, y) of `places` evenly spread on a circle: all of them see the same noise."""
    angles = turn_rad + 2 * math.pi * np.arange(places) / places
    return tuple((float(radius_mm * np.cos(a)), float(radius_mm * np.sin(a))) for a in angles)


def ring_of_rods(
    kinds: Sequence[RodKind] = LOW_CONTRAST_RODS, *, places: int = 4, radius_mm: float = 60.0
) -> tuple[Rod, ...]:
    """Rods on a circle, their kinds in turn."""
    return tuple(
        Rod(x, y, kinds[i % len(kinds)].diameter_mm / 2, kinds[i % len(kinds)].contrast_hu)
        for i, (x, y) in enumerate(ring_mm(places, radius_mm))
    )


def disc_cover(grid: PhantomGrid, *, x_mm: float, y_mm: float, radius_mm: float) -> Image:
    """The share of each pixel [rows, columns] that a disc covers."""
    lines_mm = _lines_mm(grid)
    half = np.sqrt(np.maximum(radius_mm**2 - (lines_mm - y_mm) ** 2, 0))
    return _interval_cover(grid, x_mm - half, x_mm + half)


def _phantom(grid: PhantomGrid, truth: Truth) -> QualityPhantom:
    if truth.body_radius_mm > grid.matrix * grid.pixel_mm / 2:
        raise ConfigError(f"a radius of {truth.body_radius_mm} mm does not fit into {grid}")
    body = disc_cover(grid, x_mm=0, y_mm=0, radius_mm=truth.body_radius_mm)
    image_hu = AIR_HU + (WATER_HU - AIR_HU) * body
    for rod in truth.rods:
        cover = disc_cover(grid, x_mm=rod.x_mm, y_mm=rod.y_mm, radius_mm=rod.radius_mm)
        image_hu += rod.contrast_hu * cover
    if truth.edge is not None:
        image_hu += truth.edge.contrast_hu * _edge_cover(grid, truth.edge, truth.body_radius_mm)
    if truth.wire is not None:
        image_hu += truth.wire.contrast_hu * _wire_cover(grid, truth.wire)
    return QualityPhantom(_volume(image_hu, grid), truth, grid)


def _lines_mm(grid: PhantomGrid) -> NDArray[np.float64]:
    """y [rows * lines] of the lines on which coverage is computed."""
    count = grid.matrix * _LINES_PER_PIXEL
    return ((np.arange(count) + 0.5) / _LINES_PER_PIXEL - grid.matrix / 2) * grid.pixel_mm


def _interval_cover(grid: PhantomGrid, left_mm: NDArray, right_mm: NDArray) -> Image:
    """Coverage by a shape that fills [left, right] on each line: exact along the rows."""
    border_mm = (np.arange(grid.matrix + 1) - grid.matrix / 2) * grid.pixel_mm
    held = np.clip(border_mm, left_mm[:, None], np.maximum(left_mm, right_mm)[:, None])
    share = np.diff(held, axis=1) / grid.pixel_mm
    return share.reshape(grid.matrix, _LINES_PER_PIXEL, grid.matrix).mean(axis=1)


def _edge_cover(grid: PhantomGrid, edge: Edge, body_radius_mm: float) -> Image:
    lines_mm = _lines_mm(grid)
    half = np.sqrt(np.maximum(body_radius_mm**2 - lines_mm**2, 0))
    line = edge.x_mm + (lines_mm - edge.y_mm) * math.tan(edge.angle_rad)
    return _interval_cover(grid, -half, np.minimum(half, line))


def _wire_cover(grid: PhantomGrid, wire: Wire) -> Image:
    """The wire's area, shared between the nearest pixels so that its centroid stays in place.

    Mere coverage would give it all to one pixel, and lose where in the pixel it lies.
    """
    across = [
        np.maximum(1 - np.abs(grid.axis_mm - centre) / grid.pixel_mm, 0)
        for centre in (wire.y_mm, wire.x_mm)
    ]
    share = math.pi / 4 * (wire.diameter_mm / grid.pixel_mm) ** 2
    return share * across[0][:, None] * across[1][None, :]


def _volume(image_hu: Image, grid: PhantomGrid) -> Volume:
    stack = np.repeat(image_hu[None].astype(np.float32), grid.slices, axis=0)
    corner_mm = grid.axis_mm[0]
    affine = np.diag([grid.pixel_mm, grid.pixel_mm, grid.slice_mm, 1.0])
    affine[:2, 3] = corner_mm
    origins_mm = np.full((grid.slices, 3), corner_mm)
    origins_mm[:, 2] = np.arange(grid.slices) * grid.slice_mm
    return Volume(stack, np.ones(stack.shape, dtype=bool), affine, origins_mm)
