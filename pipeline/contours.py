"""Outlines of structures in a slice: filled to masks, and traced around them.

A point is (column, row) in pixels, whole numbers being the middles of pixels. Outlines combine
by exclusive or, so that one within another is a hole, and a keyhole, which runs to a hole and
back along one line, needs no care (PS3.3 C.8.8.6.3).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from skimage.draw import polygon
from skimage.measure import find_contours

Outline = NDArray[np.float64]


def filled(outlines: list[Outline], shape: tuple[int, int]) -> NDArray[np.bool_]:
    """The pixels of [rows, columns] whose middles lie in the outlines, [points, 2] each."""
    mask = np.zeros(shape, bool)
    for outline in outlines:
        rows, columns = polygon(outline[:, 1], outline[:, 0], shape)
        mask[rows, columns] ^= True
    return mask


def cross(outlines: list[Outline], shape: tuple[int, int]) -> bool:
    """Whether two outlines overlap in part, of which exclusive or makes a doubtful hole."""
    masks = [filled([outline], shape) for outline in outlines] if len(outlines) > 1 else []
    for place, first in enumerate(masks):
        for second in masks[:place]:
            both = int((first & second).sum())
            if both not in (0, int(first.sum()), int(second.sum())):
                return True
    return False


def traced(mask: NDArray[np.bool_]) -> list[Outline]:
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
    apart = np.linalg.norm(ring[:, None] - hole, axis=2)
    at, into = np.unravel_index(apart.argmin(), apart.shape)
    around = np.roll(hole, -into, axis=0)
    return np.concatenate([ring[: at + 1], around, around[:1], ring[at:]])
