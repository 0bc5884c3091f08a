"""The observer on tasks whose answer is known: white noise, correlated noise, no signal at all."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from pipeline.core.errors import LdctError
from pipeline.metrics.bootstrap import times_drawn
from pipeline.quality.model_observer import (
    auc_leave_pair_out,
    auc_of,
    bootstrap_d_prime,
    detectability,
    known_d_prime,
    with_internal_noise,
)
from pipeline.quality.observer_channels import channel_outputs, gabor, laguerre_gauss

SIZE, PIXEL_MM = 33, 0.7


def bump(height_hu: float, sigma_pixels: float) -> NDArray[np.float64]:
    axis = np.arange(SIZE) - SIZE // 2
    return height_hu * np.exp(-(axis[:, None] ** 2 + axis**2) / (2 * sigma_pixels**2))


def laguerre(count: int = 6, width_mm: float = 9.0) -> NDArray[np.float64]:
    return laguerre_gauss(count=count, width_mm=width_mm, size_pixels=SIZE, pixel_mm=PIXEL_MM)


def classes(
    d_prime: float, *, regions: int, channels: int, generator: np.random.Generator
) -> tuple[NDArray, NDArray]:
    """Channel outputs with and without a signal, correlated, whose d' is known."""
    mix = np.tri(channels) + np.eye(channels)
    direction = mix @ np.full(channels, d_prime / math.sqrt(channels))
    present, absent = (
        generator.standard_normal((regions, channels)) @ mix.T * 7 + 100 for _ in range(2)
    )
    return present + 7 * direction, absent


def test_laguerre_gauss_channels_are_orthonormal() -> None:
    """Gallas & Barrett 2003: so they are in the plane; here on pixels, within the region."""
    channels = laguerre(count=5, width_mm=6.5).reshape(5, -1)
    np.testing.assert_allclose(channels @ channels.T, np.eye(5), atol=0.02)


def test_gabor_channels_pass_their_octave() -> None:
    channels = gabor(size_pixels=129, orientations=2, phases_rad=(0.0,))
    assert channels.shape == (8, 129, 129)
    np.testing.assert_allclose((channels**2).sum(axis=(1, 2)), 1)
    for index, (low, high) in ((2, (1 / 32, 1 / 16)), (4, (1 / 16, 1 / 8)), (6, (1 / 8, 1 / 4))):
        spectrum = np.abs(np.fft.fft(channels[index].sum(axis=0), 4096))
        frequency = np.fft.fftfreq(4096)
        positive = frequency > 0
        passed = frequency[positive][spectrum[positive] > spectrum[positive].max() / 2]
        assert passed.min() == pytest.approx(low, rel=0.12)
        assert passed.max() == pytest.approx(high, rel=0.12)
    assert gabor(size_pixels=SIZE).shape == (40, SIZE, SIZE)


@pytest.mark.parametrize("height_hu", [3.0, 6.0])
def test_white_noise_gives_the_signal_s_length_over_sigma(height_hu: float) -> None:
    """A signal in the channels' span: d' = |s| / sigma, as if prewhitened by hand."""
    sigma_hu, signal = 15.0, bump(height_hu, 3.0)
    width_mm = 2 * math.pi**0.5 * 3.0 * PIXEL_MM / 2**0.5  # then the first channel is the bump
    channels = laguerre(count=4, width_mm=width_mm)
    ideal = math.sqrt((signal**2).sum()) / sigma_hu
    known = known_d_prime(
        channel_outputs(signal[None], channels)[0],
        sigma_hu**2 * channels.reshape(4, -1) @ channels.reshape(4, -1).T,
    )
    assert known == pytest.approx(ideal, rel=1e-3)
    generator = np.random.default_rng(0)
    present, absent = (
        channel_outputs(generator.standard_normal((400, SIZE, SIZE)) * sigma_hu + s, channels)
        for s in (signal, 0)
    )
    found = detectability(present, absent)
    low, high = found.d_prime_interval
    assert low < ideal < high
    assert high - low < 0.5
    assert found.auc_interval[0] < auc_of(ideal) < found.auc_interval[1]
    assert found.auc_leave_pair_out == pytest.approx(auc_of(ideal), abs=0.04)


@pytest.mark.parametrize(("family", "share"), [("laguerre", 0.98), ("gabor", 0.85)])
def test_correlated_noise_comes_up_to_the_ideal_prewhitener(family: str, share: float) -> None:
    """Ramp-like noise on a periodic region: ideal d'^2 = sum |S|^2 / (pixels * power).

    Channels can reach it, never pass it; the two families lose 2 and 15 % at most.
    """
    frequency = np.hypot(*np.meshgrid(np.fft.fftfreq(SIZE), np.fft.fftfreq(SIZE)))
    power = 900 * (frequency + 0.003) * np.exp(-((frequency / 0.3) ** 2)) + 5
    signal = bump(2.5, 2.5)
    ideal = math.sqrt((np.abs(np.fft.fft2(signal)) ** 2 / power).sum() / SIZE**2)
    channels = (
        laguerre(count=10, width_mm=11.0) if family == "laguerre" else gabor(size_pixels=SIZE)
    )
    generator = np.random.default_rng(5)

    def noise(regions: int) -> NDArray:
        white = generator.standard_normal((regions, SIZE, SIZE))
        return np.fft.ifft2(np.fft.fft2(white) * np.sqrt(power)).real

    present = channel_outputs(noise(800) + signal, channels)
    found = detectability(present, channel_outputs(noise(800), channels))
    spectra = np.fft.fft2(channels).reshape(len(channels), -1) / SIZE
    covariance = (spectra * power.ravel() @ spectra.conj().T).real
    known = known_d_prime(channel_outputs(signal[None], channels)[0], covariance)
    assert share * ideal < known <= ideal
    assert found.d_prime_interval[0] < known < found.d_prime_interval[1]
    if share > 0.97:
        assert found.d_prime_interval[0] < ideal < found.d_prime_interval[1]
    assert found.channels == len(channels)
    # What ignores the correlations sees less than the ideal.
    matched = (signal**2).sum() / math.sqrt(
        (np.abs(np.fft.fft2(signal)) ** 2 * power).sum() / SIZE**2
    )
    assert matched < 0.95 * ideal


def test_the_estimate_is_unbiased_and_its_interval_covers() -> None:
    """2 x 30 regions and 8 channels, where the plug-in d' is half as large again."""
    generator = np.random.default_rng(2)
    found = [
        detectability(*classes(1.5, regions=30, channels=8, generator=generator))
        for _ in range(250)
    ]
    squares = np.array([result.d_prime**2 for result in found])
    assert squares.mean() == pytest.approx(1.5**2, rel=0.08)
    covered = np.mean([r.d_prime_interval[0] <= 1.5 <= r.d_prime_interval[1] for r in found])
    assert 0.91 <= covered <= 0.99
    pairs = np.mean([result.auc_leave_pair_out for result in found])
    assert 0.78 < pairs < auc_of(1.5)  # honest: 60 regions do not train an ideal observer


def test_noise_alone_is_chance() -> None:
    """A figure on the regions it was trained on would say d' = 1 here."""
    generator = np.random.default_rng(3)
    found = [
        detectability(*classes(0.0, regions=30, channels=8, generator=generator))
        for _ in range(100)
    ]
    assert np.mean([r.d_prime_interval[0] == 0 for r in found]) > 0.9
    assert np.mean([r.auc_leave_pair_out for r in found]) == pytest.approx(0.5, abs=0.03)
    assert np.median([r.d_prime for r in found]) < 0.3


def test_leave_pair_out_is_what_it_says() -> None:
    present, absent = classes(1.0, regions=7, channels=2, generator=np.random.default_rng(4))
    right = 0
    for i in range(7):
        for j in range(7):
            signal, noise = np.delete(present, i, 0), np.delete(absent, j, 0)
            pooled = np.cov(signal.T) + np.cov(noise.T)
            template = np.linalg.solve(pooled, signal.mean(0) - noise.mean(0))
            right += (present[i] - absent[j]) @ template > 0
    assert auc_leave_pair_out(present, absent) == pytest.approx(right / 49)


def test_the_bootstrap_is_centred_on_the_truth_not_on_the_flattery() -> None:
    generator = np.random.default_rng(6)
    estimates, supports_ddp = [], []
    for _ in range(60):
        present, absent = classes(2.0, regions=60, channels=6, generator=generator)
        weights = [times_drawn(generator.integers(60, size=(200, 60))) for _ in range(2)]
        replicates = bootstrap_d_prime(present, absent, *weights)
        estimates.append(replicates.mean())
        supports_ddp.append(replicates.std())
    assert np.mean(estimates) == pytest.approx(2.0, abs=0.1)
    assert np.mean(supports_ddp) == pytest.approx(np.std(estimates), rel=0.3)


def test_internal_noise_costs_what_it_should() -> None:
    generator = np.random.default_rng(7)
    present, absent = generator.standard_normal((2, 20000, 3)) * [1.0, 5.0, 20.0]
    present = present + np.array([1.0, 5.0, 20.0])
    noisy = with_internal_noise(np.stack([present, absent]), absent, 1.0, generator)
    without, with_noise = detectability_plain(present, absent), detectability_plain(*noisy)
    assert without == pytest.approx(math.sqrt(3), rel=0.03)
    assert with_noise == pytest.approx(math.sqrt(3 / 2), rel=0.03)


def detectability_plain(present: NDArray, absent: NDArray) -> float:
    pooled = (np.cov(present.T) + np.cov(absent.T)) / 2
    return known_d_prime(present.mean(axis=0) - absent.mean(axis=0), pooled)


def test_auc_and_d_prime_belong_together() -> None:
    assert auc_of(0.0) == 0.5
    assert auc_of(1.5) == pytest.approx(stats.norm.cdf(1.5 / math.sqrt(2)))


def test_too_few_regions_are_refused_and_the_record_is_plain() -> None:
    present, absent = classes(1.0, regions=20, channels=3, generator=np.random.default_rng(8))
    record = json.loads(json.dumps(detectability(present, absent).to_dict()))
    assert (record["present"], record["absent"], record["channels"]) == (20, 20, 3)
    assert record["confidence"] == 0.95
    with pytest.raises(LdctError, match="too few"):
        detectability(present[:2], absent)
    with pytest.raises(LdctError, match="3 channels"):
        detectability(present[:3], absent[:3])
