"""From a volume's grid to the working grid and exactly back."""

from __future__ import annotations

from itertools import permutations, product

import numpy as np
import pytest
from numpy.typing import NDArray

from pipeline.core.volume import Volume
from pipeline.data.working_grid import WorkingGrid

LPS = np.eye(3)


def volume(
    image_hu: NDArray, *, axes: NDArray | None = None, spacing_mm: tuple[float, ...] = (1, 1, 1)
) -> Volume:
    """axes: unit vectors of [column, row, slice] in LPS; spacing of (slice, row, column)."""
    affine = np.eye(4)
    affine[:3, :3] = (LPS if axes is None else axes).T * np.array(spacing_mm[::-1])
    return Volume(
        image_hu=image_hu.astype(np.float32),
        valid=np.ones(image_hu.shape, dtype=bool),
        affine_lps=affine,
        slice_origins_mm=np.arange(len(image_hu))[:, None] * affine[:3, 2],
    )


def ramp(shape: tuple[int, int, int]) -> NDArray[np.float64]:
    slices, rows, columns = np.indices(shape)
    return 100.0 * slices + 10.0 * rows + columns


def test_the_same_spacing_changes_nothing() -> None:
    image = volume(ramp((4, 5, 6)))
    grid = WorkingGrid.of(image, (1, 1, 1))
    assert np.array_equal(grid.to_working(image.image_hu), image.image_hu)
    assert np.array_equal(grid.to_source(image.image_hu), image.image_hu)


@pytest.mark.parametrize("order", list(permutations(range(3))))
def test_any_axes_become_the_patient_s(order: tuple[int, int, int]) -> None:
    """Voxels of one patient, stored along permuted and mirrored axes, are one working image."""
    patient = ramp((4, 5, 6))
    for mirrored in product((False, True), repeat=3):
        flips = tuple(axis for axis in range(3) if mirrored[axis])
        stored = np.flip(patient.transpose(order), flips)
        signs = np.where(mirrored, -1.0, 1.0)
        along = np.array([[0, 0, 1.0], [0, 1.0, 0], [1.0, 0, 0]])  # slice, row, column in LPS
        axes = np.array([along[order[axis]] * signs[axis] for axis in range(3)])[::-1]
        image = volume(stored, axes=axes)
        grid = WorkingGrid.of(image, (1, 1, 1))
        assert np.array_equal(grid.to_working(image.image_hu), patient)
        assert np.array_equal(grid.labels_to_working(stored), patient)
        assert np.array_equal(grid.from_oriented(patient), stored)


@pytest.mark.parametrize("spacing_mm", [(2.0, 2.0, 2.0), (0.5, 0.7, 1.3), (3.0, 0.8, 1.0)])
def test_there_and_back_nothing_moves(spacing_mm: tuple[float, float, float]) -> None:
    """Along each axis a ramp of 1 a voxel comes back; away from the rim, within 1/1000 voxel."""
    for axis in range(3):
        image = volume(np.indices((24, 30, 28))[axis], spacing_mm=(1.0, 0.9, 1.1))
        grid = WorkingGrid.of(image, spacing_mm)
        back = grid.from_oriented(grid.to_source(grid.to_working(image.image_hu)))
        assert back.shape == image.image_hu.shape
        inside = (slice(7, -7),) * 3
        assert np.abs(back - image.image_hu)[inside].max() < 0.001


def test_a_constant_stays_constant_up_to_the_rim() -> None:
    image = volume(np.full((7, 9, 11), -1000.0))
    for spacing_mm in ((2.3, 0.4, 5.0), (40.0, 40.0, 40.0)):
        grid = WorkingGrid.of(image, spacing_mm)
        working = grid.to_working(image.image_hu)
        assert np.allclose(working, -1000)
        assert np.allclose(grid.to_source(working), -1000)


def test_the_working_grid_fills_the_volume() -> None:
    grid = WorkingGrid.of(volume(np.zeros((20, 512, 400)), spacing_mm=(2, 0.9765625, 1)), (3, 3, 3))
    assert grid.shape == (13, 167, 133)
    assert WorkingGrid.of(volume(np.zeros((1, 2, 2))), (3, 3, 3)).shape == (1, 1, 1)


def test_coarsening_averages_noise_away() -> None:
    """White noise of 100 HU over 3 x 3 x 3 voxels: sampled it would stay 100."""
    noise = 100 * np.random.default_rng(0).standard_normal((30, 60, 60))
    image = volume(noise)
    working = WorkingGrid.of(image, (3, 3, 3)).to_working(image.image_hu)
    # A mean of 3 voxels an axis would leave 100 / 27^0.5 = 19 HU; the smoother one less.
    assert 12 < working[1:-1, 1:-1, 1:-1].std() < 19


def test_blocks_are_the_whole() -> None:
    image = volume(np.random.default_rng(0).standard_normal((23, 20, 18)))
    grid = WorkingGrid.of(image, (2.2, 1.7, 1.1))
    whole = grid.to_working(image.image_hu)
    parts = [grid.to_working(image.image_hu, slice(n, n + 3)) for n in range(0, grid.shape[0], 3)]
    assert np.allclose(np.concatenate(parts), whole, atol=1e-6)
    back = grid.to_source(whole)
    for start in range(0, 23, 4):
        block = slice(start, min(start + 4, 23))
        needed = grid.needed_for(block)
        part = grid.to_source(whole[needed], block, first=needed.start)
        assert np.allclose(part, back[block], atol=1e-6)


def test_labels_are_never_mixed() -> None:
    labels = np.random.default_rng(0).choice([0, 7, 250], size=(12, 12, 12)).astype(np.uint8)
    image = volume(np.zeros(labels.shape))
    working = WorkingGrid.of(image, (1.7, 2.3, 0.6)).labels_to_working(labels)
    assert working.dtype == np.uint8
    assert set(np.unique(working)) == {0, 7, 250}
