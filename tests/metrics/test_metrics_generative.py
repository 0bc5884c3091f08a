"""Distances between distributions whose distance is known."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from pipeline.core.errors import LdctError
from pipeline.metrics.generative import (
    frechet_distance,
    memorised,
    mmd,
    ms_ssim_diversity,
    precision_recall,
)


def normal(
    count: int, mean: float = 0.0, scale: float = 1.0, *, seed: int = 0, features: int = 2
) -> NDArray[np.float64]:
    return mean + scale * np.random.default_rng(seed).standard_normal((count, features))


def mmd_of_normals(shift: float, bandwidth: float, features: int) -> float:
    """The squared MMD of N(0, I) and N(shift, I), by Gaussian integrals."""
    variance = bandwidth**2 + 2
    within = (bandwidth**2 / variance) ** (features / 2)
    return 2 * within * (1 - np.exp(-features * shift**2 / (2 * variance)))


@pytest.mark.parametrize("shift", [0.5, 1.0, 2.0])
@pytest.mark.parametrize("bandwidth", [0.5, 2.0])
def test_mmd_of_two_gaussians(shift: float, bandwidth: float) -> None:
    found = mmd(normal(1500, shift, seed=1), normal(1500), bandwidth=bandwidth)
    assert found == pytest.approx(mmd_of_normals(shift, bandwidth, 2), abs=0.01, rel=0.1)


def test_mmd_is_unbiased() -> None:
    """Of equal distributions its mean over draws is 0: half of the draws lie below. The biased
    estimate, which counts each sample against itself, is never negative."""
    found = [
        mmd(normal(20, seed=2 * n), normal(20, seed=2 * n + 1), bandwidth=1.0) for n in range(300)
    ]
    error = np.std(found) / np.sqrt(len(found))
    assert abs(np.mean(found)) < 3 * error
    assert 0.3 < np.mean(np.array(found) < 0) < 0.8


def test_mmd_sees_a_spread_that_means_do_not_tell() -> None:
    wide = mmd(normal(500, scale=2.0, seed=1), normal(500))
    assert wide > 10 * abs(mmd(normal(500, seed=1), normal(500)))
    assert wide > 0.05


def test_mmd_takes_samples_of_different_size_and_its_bandwidth_from_the_real() -> None:
    real = normal(300)
    assert mmd(normal(100, 1.0, seed=1), real) == pytest.approx(
        mmd(10 * normal(100, 1.0, seed=1), 10 * real)
    )


def exactly(mean: NDArray, covariance: NDArray, *, seed: int = 0) -> NDArray[np.float64]:
    """Samples with just these moments."""
    draws = normal(200, seed=seed, features=len(mean))
    draws -= draws.mean(axis=0)
    white = np.linalg.solve(np.linalg.cholesky(np.cov(draws.T)), draws.T).T
    return mean + white @ np.linalg.cholesky(covariance + 1e-15 * np.eye(len(mean))).T


def test_frechet_distance_of_gaussians_that_share_their_axes() -> None:
    """|m - m'|^2 + sum (s - s')^2."""
    one = exactly(np.array([1.0, 0.0, 0.0]), np.diag([4.0, 1.0, 9.0]))
    other = exactly(np.array([0.0, 2.0, 0.0]), np.diag([1.0, 1.0, 4.0]), seed=1)
    assert frechet_distance(one, other) == pytest.approx(5 + 1 + 0 + 1)
    assert frechet_distance(one, one) == pytest.approx(0, abs=1e-9)


def test_frechet_distance_of_gaussians_that_do_not_commute() -> None:
    """In two dimensions tr (C C')^(1/2) = sqrt(tr C C' + 2 sqrt(det C C'))."""
    first, second = np.array([[2.0, 1.0], [1.0, 2.0]]), np.diag([5.0, 0.5])
    product = first @ second
    root = np.sqrt(np.trace(product) + 2 * np.sqrt(np.linalg.det(product)))
    expected = np.trace(first) + np.trace(second) - 2 * root
    found = frechet_distance(exactly(np.zeros(2), first), exactly(np.zeros(2), second, seed=1))
    assert found == pytest.approx(expected)


def test_frechet_distance_with_fewer_samples_than_features() -> None:
    """Singular covariances: the distance of a set to itself, moved, is the move alone."""
    few = normal(10, features=40)
    assert frechet_distance(few + 0.5, few) == pytest.approx(40 * 0.25)


def test_precision_falls_with_bad_images_and_recall_with_missing_kinds() -> None:
    left, right, nowhere = normal(200), normal(200, 100.0, seed=1), normal(200, -100.0, seed=2)
    more_left, more_right = normal(200, seed=3), normal(200, 100.0, seed=4)
    real = np.concatenate([left, right])
    precision, recall = precision_recall(np.concatenate([more_left, more_right]), real)
    assert min(precision, recall) > 0.85
    precision, recall = precision_recall(np.concatenate([more_left, nowhere]), real)
    assert precision == pytest.approx(0.5, abs=0.07)
    assert recall == pytest.approx(0.5, abs=0.07)
    precision, recall = precision_recall(more_left, real)
    assert precision > 0.85
    assert recall == pytest.approx(0.5, abs=0.07)


def test_a_generator_that_gives_its_training_images_back_is_found() -> None:
    training, held_back = normal(400, features=8), normal(400, seed=1, features=8)
    thief = training[:100] + 1e-3 * normal(100, seed=2, features=8)
    assert memorised(thief, training, held_back) == {"copies": 1.0, "nearer_to_training": 1.0}
    honest = memorised(normal(400, seed=3, features=8), training, held_back)
    assert honest["copies"] < 0.02
    assert honest["nearer_to_training"] == pytest.approx(0.5, abs=0.08)


def test_a_generator_that_gives_a_tenth_back_is_found_too() -> None:
    training, held_back = normal(400, features=8), normal(400, seed=1, features=8)
    some = np.concatenate([training[:20], normal(180, seed=2, features=8)])
    assert memorised(some, training, held_back)["copies"] == pytest.approx(0.1, abs=0.02)


def smooth_images(count: int, side: int) -> NDArray[np.float64]:
    coarse = np.random.default_rng(0).random((count, side // 8, side // 8))
    return np.kron(coarse, np.ones((8, 8)))


def test_images_that_are_all_alike_have_no_diversity() -> None:
    images = smooth_images(8, 48)
    settings = {"data_range": 1.0, "pairs": 40}
    alike = np.repeat(images[:1], 8, axis=0)
    rng = np.random.default_rng
    assert ms_ssim_diversity(alike, **settings, generator=rng(1)) == pytest.approx(0, abs=1e-4)
    varied = ms_ssim_diversity(images, **settings, generator=rng(1))
    halved = np.where(np.arange(8)[:, None, None] % 2 == 0, images[0], images[1])
    two = ms_ssim_diversity(halved, **settings, generator=rng(1))
    # Of eight images of two kinds, a random pair shows both in 4 of 7 cases.
    assert varied > 0.5
    assert 0.35 * varied < two < 0.8 * varied


@pytest.mark.parametrize("side", [11, 16, 21, 24, 48, 80, 98, 99, 160, 176])
def test_ms_ssim_takes_every_side_from_eleven_pixels(side: int) -> None:
    images = np.random.default_rng(0).random((2, side, side))
    found = ms_ssim_diversity(images, data_range=1.0, pairs=2, generator=np.random.default_rng(0))
    assert 0.5 < found <= 1


def test_what_cannot_be_compared_is_refused() -> None:
    with pytest.raises(LdctError, match="equal features"):
        mmd(normal(5), normal(5, features=3))
    with pytest.raises(LdctError, match="4 samples"):
        precision_recall(normal(3), normal(10))
    with pytest.raises(LdctError, match="not numbers"):
        frechet_distance(np.full((5, 2), np.nan), normal(5))
    with pytest.raises(LdctError, match="bandwidth"):
        mmd(normal(5), np.zeros((5, 2)))
    with pytest.raises(LdctError, match="11 pixels"):
        ms_ssim_diversity(
            np.zeros((2, 8, 8)), data_range=1.0, pairs=1, generator=np.random.default_rng(0)
        )
