"""Which structure each voxel of an image belongs to, and how several claims on one are kept."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

MAX_VALUE = 65535


@dataclass(frozen=True)
class LabelMap:
    """The structures of an image, on its grid.

    labels: uint8 or uint16 [slices, rows, columns], 0 where there is none. names: of each
    value. overlaps: values of voxels that several structures claim, each with the values of
    those structures; such a value has no name of its own. source: where the labels are from
    and what was done to them, free of identity.
    """

    labels: NDArray[np.unsignedinteger]
    names: dict[int, str]
    source: dict[str, Any] = field(default_factory=dict)
    overlaps: dict[int, tuple[int, ...]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.labels.ndim != 3 or self.labels.dtype not in (np.uint8, np.uint16):
            raise ValueError(
                "labels must be uint8 or uint16 [slices, rows, columns], "
                f"got {self.labels.dtype} {self.labels.shape}"
            )
        if 0 in self.names or not self.names.keys().isdisjoint(self.overlaps):
            raise ValueError("0 is no structure, and a value is a structure or an overlap")

    def values_with(self, value: int) -> list[int]:
        """All values of voxels that a structure claims, alone or with others."""
        return [value, *(v for v, members in self.overlaps.items() if value in members)]

    def mask(self, value: int, number: int | None = None) -> NDArray[np.bool_]:
        """Where a structure is: in the whole volume, or in slice `number` of it."""
        labels = self.labels if number is None else self.labels[number]
        first, *others = self.values_with(value)
        found = labels == first
        for other in others:
            found |= labels == other
        return found

    def present(self) -> list[str]:
        """Names of the structures that the image shows, in the order of their values."""
        there = values_in(self.labels)
        named = sorted(self.names.items())
        return [name for value, name in named if not there.isdisjoint(self.values_with(value))]

    @property
    def digest(self) -> str:
        """SHA-256 over the labels and what they mean."""
        summary = hashlib.sha256(np.ascontiguousarray(self.labels, "<u2").data)
        summary.update(repr((sorted(self.names.items()), sorted(self.overlaps.items()))).encode())
        return summary.hexdigest()


class Canvas:
    """Structures put onto one grid one after the other; voxels remember every claim.

    names: of the structures, by the value that each is to have, from 1 to 65535.
    """

    def __init__(self, shape: tuple[int, int, int], names: Mapping[int, str]) -> None:
        self._labels = np.zeros(shape, np.uint16)
        self._names = dict(names)
        self._members = {value: frozenset((value,)) for value in names}
        self._values = {members: value for value, members in self._members.items()}

    def paint(self, number: int, mask: NDArray[np.bool_], value: int) -> None:
        """Let a structure claim the pixels of `mask` [rows, columns] in slice `number`.

        Raises OverflowError for more combinations of structures than values.
        """
        plane = self._labels[number]
        before = plane[mask]
        after = np.full(before.shape, value, np.uint16)
        for old in np.unique(before[before > 0]):
            after[before == old] = self._together(self._members[int(old)] | {value})
        plane[mask] = after

    def _together(self, members: frozenset[int]) -> int:
        if members not in self._values:
            new = max(self._members) + 1
            if new > MAX_VALUE:
                raise OverflowError("the structures overlap in too many ways for one label map")
            self._values[members], self._members[new] = new, members
        return self._values[members]

    def labelmap(self, source: dict[str, Any]) -> LabelMap:
        """What was painted; combinations that nothing is left of are not listed."""
        left = values_in(self._labels)
        overlaps = {
            value: tuple(sorted(members))
            for value, members in self._members.items()
            if len(members) > 1 and value in left
        }
        return LabelMap(compact(self._labels), self._names, source, overlaps)


def compact(labels: NDArray) -> NDArray[np.unsignedinteger]:
    """Whole numbers from 0 to 65535 as uint8 where that holds them, else as uint16."""
    return labels.astype(np.uint8 if labels.max(initial=0) < 256 else np.uint16)


def values_in(labels: NDArray[np.unsignedinteger]) -> set[int]:
    """The different values of labels, 0 included: counted slice by slice, which takes no memory
    and no sorting."""
    return {int(v) for plane in labels for v in np.flatnonzero(np.bincount(plane.ravel()))}
