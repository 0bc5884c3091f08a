"""From a volume's grid to the even grid that a segmenter works on, and exactly back.

Axes are permuted and mirrored to the patient's: slices towards the head, rows towards the
back, columns towards the left (LPS). Then each axis is resampled by itself: a small matrix of
interpolation weights an axis, so that any block of the result can be made from the block of
the source it rests on, in bounded memory. A tilted gantry's sheared axes stay sheared.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import permutations

import numpy as np
from numpy.typing import NDArray

from pipeline.core.volume import Volume

SpacingMm = tuple[float, float, float]
Shape = tuple[int, int, int]


@dataclass(frozen=True)
class WorkingGrid:
    """The mapping between a source grid and its working grid; both [slices, rows, columns].

    order[a] is the source axis that working axis a runs along, mirrored[a] whether against it.
    step[a] is how many source voxels one working voxel spans.
    """

    source_shape: Shape
    shape: Shape
    order: tuple[int, int, int]
    mirrored: tuple[bool, bool, bool]
    step: tuple[float, float, float]

    @classmethod
    def of(cls, volume: Volume, spacing_mm: SpacingMm) -> WorkingGrid:
        """The grid of `spacing_mm` (slice, row, column) that fills the volume, centred in it."""
        # The affine's columns run (column, row, slice); as rows, reversed: [slice, row, column].
        axes = volume.affine_lps[:3, 2::-1].T
        order, mirrored = _orientation(axes)
        source_mm = [float(np.linalg.norm(axes[axis])) for axis in order]
        step = tuple(want / have for want, have in zip(spacing_mm, source_mm, strict=True))
        lengths = [volume.image_hu.shape[axis] for axis in order]
        shape = tuple(max(1, round(n / s)) for n, s in zip(lengths, step, strict=True))
        return cls(volume.image_hu.shape, shape, order, mirrored, step)  # type: ignore[arg-type]

    def to_working(self, image: NDArray, block: slice = slice(None)) -> NDArray[np.float32]:
        """The working slices `block` of a source image (which may lie on disk), float32.

        Where the working grid is coarser, source voxels are averaged, so that no noise is
        aliased into it.
        """
        oriented = self._oriented(image)
        weights = [
            _weights(self._places(axis), oriented.shape[axis], self.step[axis]) for axis in range(3)
        ]
        return _resampled(oriented, weights, block)

    def labels_to_working(self, labels: NDArray) -> NDArray:
        """A source label map at the nearest places of the working grid."""
        oriented = self._oriented(labels)
        places = [
            np.rint(self._places(axis)).astype(int).clip(0, oriented.shape[axis] - 1)
            for axis in range(3)
        ]
        return oriented[np.ix_(*places)]

    def needed_for(self, block: slice) -> slice:
        """The working slices that `block` of the oriented source slices is made of."""
        return _used(self._weights_back(0)[block])

    def to_source(
        self, working: NDArray, block: slice = slice(None), *, first: int = 0
    ) -> NDArray[np.float32]:
        """Slices `block` of the oriented source grid, interpolated from the working grid.

        working: [..., slices, rows, columns], whose slices begin with number `first` and hold
        those that `needed_for` names. "Oriented" is the source with its axes permuted and
        mirrored; see from_oriented.
        """
        weights = [self._weights_back(axis) for axis in range(3)]
        weights[0] = weights[0][:, first : first + working.shape[-3]]
        return _resampled(working, weights, block)

    def from_oriented(self, oriented: NDArray) -> NDArray:
        """An array on the oriented source grid, as the source's own axes run."""
        flips = tuple(axis for axis in range(3) if self.mirrored[axis])
        return np.ascontiguousarray(np.flip(oriented, flips).transpose(np.argsort(self.order)))

    @property
    def oriented_shape(self) -> Shape:
        """The source's shape with its axes in the working grid's order."""
        slices, rows, columns = (self.source_shape[axis] for axis in self.order)
        return slices, rows, columns

    def _oriented(self, array: NDArray) -> NDArray:
        flips = tuple(axis for axis in range(3) if self.mirrored[axis])
        return np.flip(array.transpose(self.order), flips)

    def _places(self, axis: int) -> NDArray[np.float64]:
        """Where the working voxels lie on an oriented source axis, in its voxels."""
        count, step = self.shape[axis], self.step[axis]
        centre = (self.oriented_shape[axis] - 1) / 2
        return centre + (np.arange(count, dtype=np.float64) - (count - 1) / 2) * step

    def _weights_back(self, axis: int) -> NDArray[np.float32]:
        first = self._places(axis)[0]
        places = (np.arange(self.oriented_shape[axis]) - first) / self.step[axis]
        return _weights(places, self.shape[axis], 1 / self.step[axis])


def _orientation(
    axes: NDArray[np.float64],
) -> tuple[tuple[int, int, int], tuple[bool, bool, bool]]:
    """For (slice, row, column): the source axis nearest to head, back, left, and its sense."""
    units = axes / np.linalg.norm(axes, axis=1, keepdims=True)
    along = units[:, ::-1]  # LPS components as (superior, posterior, left)
    order = max(permutations(range(3)), key=lambda p: sum(abs(along[p[a], a]) for a in range(3)))
    first, second, third = (bool(along[order[a], a] < 0) for a in range(3))
    return (order[0], order[1], order[2]), (first, second, third)


def _weights(places: NDArray[np.float64], count: int, step: float) -> NDArray[np.float32]:
    """Weights [places, count] of source voxels in a grid of `step` source voxels a voxel.

    Linear interpolation, averaged over sqrt(step^2 - 1) voxels where the grid is coarser: for
    the variance, one coarse voxel is then as wide as `step` voxels (Cardoso et al., MICCAI
    2015), and at step 1 nothing is averaged. Beyond the ends the last voxel counts.
    """
    distances = places.clip(0, count - 1)[:, None] - np.arange(count)
    if step > 1:
        half = np.sqrt(step**2 - 1) / 2
        weights = _triangle_below(distances + half) - _triangle_below(distances - half)
    else:
        weights = np.maximum(0.0, 1.0 - np.abs(distances))
    return (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)


def _triangle_below(places: NDArray[np.float64]) -> NDArray[np.float64]:
    """The integral up to `places` of linear interpolation's triangle, which has area 1."""
    inside = places.clip(-1, 1)
    return 0.5 + inside - inside * np.abs(inside) / 2


def _used(weights: NDArray[np.float32]) -> slice:
    """From the first to the last column that is not all zero."""
    used = np.flatnonzero(weights.any(axis=0))
    return slice(int(used[0]), int(used[-1]) + 1)


def _resampled(
    image: NDArray, weights: list[NDArray[np.float32]], block: slice
) -> NDArray[np.float32]:
    """[..., slices, rows, columns] by one matrix an axis, for the result's slices `block`."""
    along_slices = weights[0][block]
    some = _used(along_slices)
    values = np.asarray(image[..., some, :, :], dtype=np.float32)
    values = np.matmul(values, weights[2].T)
    values = np.matmul(weights[1], values)
    shape = values.shape
    flat = np.matmul(along_slices[:, some], values.reshape(*shape[:-2], -1))
    return flat.reshape(*shape[:-3], len(along_slices), *shape[-2:])
