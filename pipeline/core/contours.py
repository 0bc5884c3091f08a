"""Outlines of structures in a slice: filled to masks, and traced around them.

A point is (column, row) in pixels, whole numbers being the middles of pixels. Outlines combine
by exclusive or, so that one within another is a hole, and a keyhole, which runs to a hole and
back along one line, needs no care (PS3.3 C.8.8.6.3).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from skimage.measure import find_contours

Outline = NDArray[np.float64]


def fill_outlines(outlines: list[Outline], shape: tuple[int, int]) -> NDArray[np.bool_]:
    """The pixels of [rows, columns] whose middles lie in the outlines, [points, 2] each.

    Of middles on a line itself, those on its left and upper side do, so that areas with a
    common side share no pixel. Each row is crossed by its outlines, which takes far less time
    than to ask of each pixel where it lies.
    """
    rows, columns = shape
    crossings = np.zeros((rows, columns + 1), np.int64)
    for outline in outlines:
        row, place = _crossings(outline, rows)
        np.add.at(crossings, (row, np.ceil(place).clip(0, columns).astype(int)), 1)
    return crossings[:, :columns].cumsum(axis=1) % 2 == 1


def _crossings(outline: Outline, rows: int) -> tuple[NDArray[np.int64], Outline]:
    """Where an outline's sides cross the middles of rows: (row, column) of each crossing."""
    (u, v), (to_u, to_v) = outline.T, np.roll(outline, -1, axis=0).T
    first = np.ceil(np.minimum(v, to_v)).clip(0, rows).astype(int)
    count = np.ceil(np.maximum(v, to_v)).clip(0, rows).astype(int) - first
    side = np.repeat(np.arange(len(outline)), count)
    row = first[side] + np.arange(len(side)) - np.repeat(count.cumsum() - count, count)
    part = (row - v[side]) / (to_v - v)[side]
    return row, u[side] + part * (to_u - u)[side]


def partly_overlap(outlines: list[Outline], shape: tuple[int, int]) -> bool:
    """Whether two outlines overlap in part, of which exclusive or makes a doubtful hole."""
    if len(outlines) < 2:
        return False
    areas = [_Area.of(outline, shape) for outline in outlines]
    corners = np.array([[*area.low, *area.high] for area in areas])
    for place, area in enumerate(areas[1:], start=1):
        # Noise has a thousand outlines a slice; few of them are near each other.
        before = corners[:place]
        near = (before[:, :2] < area.high).all(axis=1) & (before[:, 2:] > area.low).all(axis=1)
        if any(area.crosses(areas[other]) for other in np.flatnonzero(near)):
            return True
    return False


@dataclass(frozen=True)
class _Area:
    """The pixels within one outline, in the rectangle (row, column) from low to below high."""

    low: NDArray[np.int64]
    high: NDArray[np.int64]
    mask: NDArray[np.bool_]

    @classmethod
    def of(cls, outline: Outline, shape: tuple[int, int]) -> _Area:
        """The filled area of an outline [points, 2], cut off at `shape` (rows, columns)."""
        places = outline[:, ::-1]
        low = np.floor(places.min(axis=0)).astype(int).clip(0, shape)
        high = (np.ceil(places.max(axis=0)).astype(int) + 1).clip(low, shape)
        rows, columns = high - low
        return cls(low, high, fill_outlines([outline - low[::-1]], (int(rows), int(columns))))

    def crosses(self, other: _Area) -> bool:
        """Whether the two share pixels and neither contains the other."""
        low, high = np.maximum(self.low, other.low), np.minimum(self.high, other.high)
        ours, theirs = (
            area.mask[
                tuple(slice(*ends) for ends in zip(low - area.low, high - area.low, strict=True))
            ]
            for area in (self, other)
        )
        both = int((ours & theirs).sum())
        return both not in (0, int(self.mask.sum()), int(other.mask.sum()))


def trace_outlines(mask: NDArray[np.bool_]) -> list[Outline]:
    """Closed outlines around the pixels of a mask, halfway to the pixels beside; holes by keyhole.

    Filling them gives the mask again. The first point is not repeated at the end.
    """
    rings = [
        _without_straights(ring[:-1, ::-1] - 1) for ring in find_contours(np.pad(mask, 1), 0.5)
    ]
    outer = [ring for ring in rings if _area(ring) > 0]
    holes = [ring for ring in rings if _area(ring) < 0]
    # Of islands within holes: a hole belongs to the smallest ring around it.
    outer.sort(key=_area)
    for hole in sorted(holes, key=lambda ring: ring[:, 0].max(), reverse=True):
        around = next(i for i, ring in enumerate(outer) if _is_within(hole[0], ring))
        outer[around] = _keyhole(outer[around], hole)
    return outer


def _area(ring: Outline) -> float:
    """Signed: positive around pixels of the mask, as find_contours turns around them."""
    u, v = ring.T
    return float(u @ np.roll(v, -1) - v @ np.roll(u, -1)) / 2


def _without_straights(ring: Outline) -> Outline:
    """The ring without points in the middle of a straight line."""
    before, after = ring - np.roll(ring, 1, axis=0), np.roll(ring, -1, axis=0) - ring
    turn = before[:, 0] * after[:, 1] - before[:, 1] * after[:, 0]
    return ring[np.abs(turn) > 1e-9]


def _is_within(point: Outline, ring: Outline) -> bool:
    """Crossings of a ray along the row; points of rings are halves, so that none is on one."""
    (u, v), after = point, np.roll(ring, -1, axis=0)
    spans = (ring[:, 1] > v) != (after[:, 1] > v)
    start, end = ring[spans], after[spans]
    at = start[:, 0] + (v - start[:, 1]) / (end[:, 1] - start[:, 1]) * (end[:, 0] - start[:, 0])
    return bool((at > u).sum() % 2)


def _keyhole(ring: Outline, hole: Outline) -> Outline:
    """One outline: around the ring, from its nearest point to the hole, around it, and back."""
    distance = np.linalg.norm(ring[:, None] - hole, axis=2)
    at, into = np.unravel_index(distance.argmin(), distance.shape)
    around = np.roll(hole, -into, axis=0)
    return np.concatenate([ring[: at + 1], around, around[:1], ring[at:]])
