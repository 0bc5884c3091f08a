"""Metal and truncation: found where they were put, and nowhere else."""

from __future__ import annotations

import inspect

import numpy as np

from flows.cli.latent import fill
from pipeline.core.volume import Volume
from pipeline.generative import untrusted_regions as regions
from pipeline.generative.untrusted_regions import metal, truncation

ROWS, COLUMNS = np.indices((64, 64))
SPACING_MM = 0.5, 1.0


def volume(images: np.ndarray, valid: np.ndarray | None = None) -> Volume:
    affine = np.diag([SPACING_MM[1], SPACING_MM[0], 2.0, 1.0])
    origins = np.arange(len(images))[:, None] * np.array([0.0, 0.0, 2.0])
    there = np.ones(images.shape, dtype=bool) if valid is None else valid
    return Volume(images.astype(np.float32), there, affine, origins)


def body(columns: float = 32) -> np.ndarray:
    """Water in air, its middle in this column."""
    return np.where(np.hypot(ROWS - 32, COLUMNS - columns) < 20, 0.0, -1000.0)


def disc(radius: float) -> np.ndarray:
    return np.hypot(ROWS - 30, COLUMNS - 36) < radius


def test_metal_is_found_where_it_is_with_its_margin_in_mm() -> None:
    images = np.stack([body(), body(), body()])
    images[1][disc(4)] = 3000
    images[1][disc(2)] = 900  # a dark middle, as beam hardening makes it
    images[2][disc(4)] = 2000  # bone
    found = metal(volume(images), margin_mm=2.0)
    assert not found[[0, 2]].any()
    rows, columns = np.nonzero(found[1])
    # The disc reaches 3 pixels from its middle; 2 mm are 4 rows of 0.5 mm, and 2 columns.
    assert (rows.min(), rows.max()) == (30 - 3 - 4, 30 + 3 + 4)
    assert (columns.min(), columns.max()) == (36 - 3 - 2, 36 + 3 + 2)
    assert found[1][disc(4)].all()
    lower = metal(volume(images), threshold_hu=1500, margin_mm=0)
    np.testing.assert_array_equal(lower[2], disc(4))


def test_a_body_is_cut_where_it_runs_into_padding() -> None:
    images, valid = np.stack([body(20), body(34), body(34)]), np.ones((3, 64, 64), dtype=bool)
    valid[:2, :, :8] = False
    valid[:2, :, 60:] = False
    images[~valid] = -1000
    found = truncation(volume(images, valid))
    expected = np.zeros_like(valid)
    expected[0, :, :8] = True
    expected[0, [0, -1], 0] = False  # by the corners undeclared padding is found
    np.testing.assert_array_equal(found, expected)


def test_a_body_cut_by_the_edge_of_the_matrix_leaves_no_room() -> None:
    assert not truncation(volume(np.stack([body(4)]))).any()


def test_the_command_tells_the_same_limits() -> None:
    asked = inspect.signature(fill).parameters
    assert asked["threshold"].default == regions.METAL_HU
    assert asked["margin"].default == regions.METAL_MARGIN_MM
