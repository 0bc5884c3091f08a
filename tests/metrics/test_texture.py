"""Texture of pieces: real, blurred and noise in their order, colours, and where pieces lie."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from pipeline.ingest.bundled_pictures import bundled_picture
from pipeline.metrics.texture import corners, texture_distance, texture_features

SIDE = 32


def pieces_of(levels: np.ndarray) -> np.ndarray:
    return texture_features(levels, corners(levels.shape[1:], SIDE), SIDE)


@pytest.fixture(scope="module")
def photograph() -> np.ndarray:
    return np.asarray(bundled_picture("coffee"), dtype=np.float32)[:, :256, :384]


def test_real_is_nearer_than_blurred_and_blurred_nearer_than_noise(photograph: np.ndarray) -> None:
    grey = photograph.mean(axis=0, keepdims=True)
    real = pieces_of(grey)
    noise = np.random.default_rng(0).normal(grey.mean(), grey.std(), grey.shape)
    answers = {
        "other pieces": np.roll(grey, (SIDE // 2, SIDE // 2), axis=(1, 2)),
        "blurred": gaussian_filter(grey, (0, 0.7, 0.7)),
        "blurred more": gaussian_filter(grey, (0, 1.5, 1.5)),
        "noise": noise.astype(np.float32),
    }
    found = {name: texture_distance(pieces_of(one), real) for name, one in answers.items()}
    assert list(found) == sorted(found, key=lambda name: found[name])
    assert found["other pieces"] < found["blurred"] / 2
    assert texture_distance(real, real) == pytest.approx(0, abs=1e-6)


def test_a_grid_on_a_real_texture_counts(photograph: np.ndarray) -> None:
    """What a network draws that knows no finer place than its coarse pixels."""
    grey = photograph.mean(axis=0, keepdims=True)
    grid = grey.copy()
    grid[:, ::4] += 12
    grid[:, :, ::4] += 12
    real, moved = pieces_of(grey), np.roll(grey, (SIDE // 2, SIDE // 2), axis=(1, 2))
    assert texture_distance(pieces_of(grid), real) > 2 * texture_distance(pieces_of(moved), real)


def test_lost_colours_count(photograph: np.ndarray) -> None:
    grey = np.repeat(photograph.mean(axis=0, keepdims=True), 3, axis=0)
    assert texture_distance(pieces_of(grey), pieces_of(photograph)) > 0.5


def test_a_constant_has_its_level_and_no_response() -> None:
    (features,) = pieces_of(np.full((1, SIDE, SIDE), 120, dtype=np.float32))
    assert features.tolist() == pytest.approx([12.0] + [0.0] * 24, abs=1e-6)


def test_a_wave_is_found_by_its_size_and_direction() -> None:
    columns = np.arange(64)
    wave = np.broadcast_to(127 + 40 * np.cos(2 * np.pi * 0.175 * columns), (1, 64, 64))
    features = texture_features(wave.astype(np.float32), [(16, 16)], SIDE)[0]
    means = features[1::2].reshape(3, 4)  # [frequencies, directions]
    assert np.unravel_index(means.argmax(), means.shape) == (1, 0)


def test_pieces_lie_side_by_side_or_within_a_mask() -> None:
    assert corners((64, 70), SIDE) == [(0, 0), (0, 32), (32, 0), (32, 32)]
    hole = np.zeros((100, 100), dtype=bool)
    hole[21:85, 7:71] = True
    found = corners((100, 100), SIDE, within=hole)
    assert len(found) >= 9
    assert all(hole[row : row + SIDE, column : column + SIDE].all() for row, column in found)
    assert corners((100, 100), 65, within=hole) == []
