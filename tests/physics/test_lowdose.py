"""The noise of a lower dose: its size, its place, and what it leaves alone."""

from __future__ import annotations

import math
from functools import cache

import numpy as np
import pytest
from helpers.images import body_slice, disc, volume_of
from numpy.typing import NDArray

from pipeline.core.errors import ConfigError
from pipeline.core.units import MU_WATER_PER_MM, hu_to_mu_per_mm, mu_per_mm_to_hu_difference
from pipeline.core.volume import Volume
from pipeline.physics import fan_beam, lowdose
from pipeline.physics.calibration import Calibration
from pipeline.physics.detector import Exposure, log_counts_moments
from pipeline.physics.fan_beam import filtered_backprojection, forward_project
from pipeline.physics.fan_beam_geometry import FanBeam
from pipeline.physics.lowdose import LowDoseCT
from pipeline.physics.noise_insertion import (
    STARVED_COUNTS,
    added_noise,
    starved_noise,
    yu_deviation,
)

SIZE, SLICES = 128, 8
PIXEL_MM = (2.0, 2.0)
RADIUS = 60  # pixels: a water cylinder of 240 mm


def simulator(dose_fraction: float, **options: float) -> LowDoseCT:
    settings = {"detectors": 368, "views": 288, **options}
    return LowDoseCT(dose_fraction=dose_fraction, **settings)  # type: ignore[arg-type]


@cache
def water() -> Volume:
    image_hu = np.where(disc((SIZE, SIZE), RADIUS), 0, -1000).astype(np.float32)
    return volume_of(np.stack([image_hu] * SLICES), pixel_mm=PIXEL_MM)


@cache
def noise_hu(dose_fraction: float, seed: int) -> NDArray[np.float32]:
    generator = np.random.default_rng(seed)
    return simulator(dose_fraction)(water(), generator) - water().image_hu


def small_body() -> Volume:
    return volume_of(np.stack([body_slice()] * 3), pixel_mm=(4.0, 4.0))


def test_full_dose_is_the_image_bit_for_bit() -> None:
    volume = small_body()
    image_hu = volume.image_hu.copy()
    result = simulator(1.0)(volume, np.random.default_rng(0))
    assert result.tobytes() == image_hu.tobytes()
    assert result is not volume.image_hu


def test_the_image_s_noise_is_that_of_counted_photons() -> None:
    """The whole chain against Poisson counts through the same scanner."""
    model = simulator(0.25)
    mu = hu_to_mu_per_mm(water().image_hu)
    p = forward_project(mu, spacing_mm=PIXEL_MM, geometry=model.geometry).astype(np.float64)
    rng = np.random.default_rng(5)
    variances = {}
    for dose in (0.25, 1.0):
        photons = dose * model.photons_per_ray
        counts = rng.poisson(photons * np.exp(-p))
        counts = counts + rng.normal(0, np.sqrt(model.electronic_noise), p.shape)
        error = filtered_backprojection(
            (-np.log(counts / photons) - p).astype(np.float32),
            shape=(SIZE, SIZE),
            spacing_mm=PIXEL_MM,
            geometry=model.geometry,
        )
        variances[dose] = mu_per_mm_to_hu_difference(error)[:, disc((SIZE, SIZE), 50)].var()
    inserted = noise_hu(0.25, 0)[:, disc((SIZE, SIZE), 50)].var()
    assert inserted == pytest.approx(variances[0.25] - variances[1.0], rel=0.05)


def test_a_quarter_of_the_dose_has_three_times_the_variance_of_a_half() -> None:
    inside = disc((SIZE, SIZE), 50)
    quarter, half = noise_hu(0.25, 0)[:, inside].var(), noise_hu(0.5, 1)[:, inside].var()
    # (1 - a) / a is 3 and 1; the electronics add less than 1 % here.
    assert quarter / half == pytest.approx(3, rel=0.05)


def test_more_photons_make_less_noise() -> None:
    inside = disc((SIZE, SIZE), 50)
    more = simulator(0.25, photons_per_ray=6e5, electronic_noise=0)
    less = simulator(0.25, photons_per_ray=1.5e5, electronic_noise=0)
    deviation = [
        (model(water(), np.random.default_rng(0)) - water().image_hu)[:, inside].std()
        for model in (more, less)
    ]
    assert deviation[1] / deviation[0] == pytest.approx(2, rel=0.01)


def test_the_thick_centre_is_louder_than_the_periphery() -> None:
    centre = disc((SIZE, SIZE), 15)
    rim = disc((SIZE, SIZE), 58) & ~disc((SIZE, SIZE), 48)
    noise = noise_hu(0.25, 0)
    assert noise[:, centre].std() > 1.2 * noise[:, rim].std()


def test_noise_falls_towards_the_rim_as_theory_says() -> None:
    """FBP sums over the views, for each pixel, the variance exp(p) of the ray through it, times
    the square of its weights D cos(gamma) / L^2: Kak & Slaney, section 5.3, for a fan."""
    geometry = simulator(0.25).geometry
    distance_mm = np.array([0.0, 30, 60, 80, 100])
    beta = geometry.view_angles_rad[:, None]
    source_mm = geometry.source_to_isocentre_mm
    depth, aside = source_mm - distance_mm * np.cos(beta), -distance_mm * np.sin(beta)
    gamma = np.arctan2(aside, depth)
    chord_mm = 2 * np.sqrt((RADIUS * PIXEL_MM[0]) ** 2 - (source_mm * np.sin(gamma)) ** 2)
    weight = np.cos(gamma) / (depth**2 + aside**2)
    theory = np.sqrt((weight**2 * np.exp(MU_WATER_PER_MM * chord_mm)).mean(axis=0))
    noise = noise_hu(0.25, 0)
    found = []
    for place in distance_mm / PIXEL_MM[0]:
        ring = disc((SIZE, SIZE), place + 5) & ~disc((SIZE, SIZE), place - 5)
        found.append(noise[:, ring].std())
    assert theory[-1] < 0.8 * theory[0], "a flat profile would test nothing"
    np.testing.assert_allclose(np.array(found) / np.mean(found), theory / theory.mean(), rtol=0.06)


@pytest.mark.parametrize("cutoff", [1.3, 0.8, 0.5])
def test_the_noise_power_rises_from_zero_to_where_the_kernel_puts_its_peak(cutoff: float) -> None:
    model = LowDoseCT(dose_fraction=0.25, cutoff=cutoff, views=360)
    pixels, pixel_mm = 96, 0.6
    small = np.zeros((12, pixels, pixels), np.float32)  # no attenuation to speak of: white noise
    noise = model(volume_of(small, pixel_mm=(pixel_mm, pixel_mm)), np.random.default_rng(0))
    window = np.outer(np.hanning(pixels), np.hanning(pixels))
    power = (np.abs(np.fft.fft2(noise * window)) ** 2).mean(axis=0)
    axis = np.fft.fftfreq(pixels, pixel_mm)
    radius = np.hypot(axis, axis[:, None])
    edges = np.arange(0.01, 0.7, 0.03)
    bins = [(radius >= low) & (radius < low + 0.03) for low in edges]
    frequency = np.array([radius[each].mean() for each in bins])
    found = np.array([power[each].mean() for each in bins])
    # Ramp and window squared over the ramp's own density of lines, and linear interpolation's
    # mean power (2 + cos) / 3.
    nyquist = model.geometry.nyquist_per_mm
    relative = np.minimum(frequency / nyquist, 1)
    hann = 0.5 + 0.5 * np.cos(math.pi * np.minimum(relative / cutoff, 1))
    theory = frequency * hann**2 * (2 + np.cos(math.pi * relative)) / 3
    found, theory = found / found.sum(), theory / theory.sum()
    assert np.corrcoef(found, theory)[0, 1] > 0.97
    mean_found, mean_theory = found @ frequency, theory @ frequency
    assert mean_found == pytest.approx(mean_theory, rel=0.05)
    assert frequency[found.argmax()] == pytest.approx(frequency[theory.argmax()], abs=0.09)
    assert found[0] < 0.5 * found.max()


def test_a_thicker_patient_is_noisier() -> None:
    thin = np.where(disc((SIZE, SIZE), 35), 0, -1000).astype(np.float32)
    thin = np.stack([thin] * SLICES)
    noise = simulator(0.25)(volume_of(thin, pixel_mm=PIXEL_MM), np.random.default_rng(0)) - thin
    middle = disc((SIZE, SIZE), 20)
    assert noise_hu(0.25, 0)[:, middle].std() > 1.5 * noise[:, middle].std()


def test_the_mean_hu_stays() -> None:
    for outer, inner in ((20, 0), (50, 20)):
        ring = disc((SIZE, SIZE), outer) & ~disc((SIZE, SIZE), inner)
        noise = noise_hu(0.25, 0)[:, ring]
        assert abs(noise.mean()) < 0.5
        assert noise.std() > 10, "without noise this test would say nothing"


def test_padding_stays_untouched() -> None:
    volume = small_body()
    valid = np.broadcast_to(disc((64, 64), 30), volume.image_hu.shape)
    padded = volume_of(volume.image_hu, pixel_mm=(4.0, 4.0), valid=valid)
    result = simulator(0.25)(padded, np.random.default_rng(0))
    np.testing.assert_array_equal(result[~valid], volume.image_hu[~valid])
    assert (result[valid] != volume.image_hu[valid]).mean() > 0.99


def test_the_source_image_stays_untouched() -> None:
    volume = small_body()
    before = volume.image_hu.copy()
    result = simulator(0.25)(volume, np.random.default_rng(0))
    np.testing.assert_array_equal(volume.image_hu, before)
    assert result.dtype == np.float32
    assert result.shape == before.shape


def test_the_seed_decides() -> None:
    volume, model = small_body(), simulator(0.25)
    first, again, other = (model(volume, np.random.default_rng(seed)) for seed in (7, 7, 8))
    assert first.tobytes() == again.tobytes()
    difference = (first - other)[volume.valid]
    assert difference.std() > 1.2 * (first - volume.image_hu).std()


def test_slices_have_independent_noise() -> None:
    inside = disc((SIZE, SIZE), 50)
    first, second = noise_hu(0.25, 0)[0][inside], noise_hu(0.25, 0)[1][inside]
    assert abs(np.corrcoef(first, second)[0, 1]) < 0.1


def test_the_block_size_changes_no_noise(monkeypatch: pytest.MonkeyPatch) -> None:
    """The third slice, which then begins a block, keeps its own draw and its own photons."""
    volume, model = small_body(), simulator(0.25)
    scan = Calibration(1e5, (4e5, 1e5, 1e4), math.inf)
    whole = model(volume, np.random.default_rng(0), scan)
    for module in (fan_beam, lowdose):
        monkeypatch.setattr(module, "SLICES_PER_BLOCK", 2)
    np.testing.assert_allclose(model(volume, np.random.default_rng(0), scan), whole, atol=0.01)


@pytest.mark.parametrize(
    "settings",
    [
        {"dose_fraction": 0},
        {"dose_fraction": -0.25},
        {"dose_fraction": 1.5},
        {"dose_fraction": float("nan")},
        {"dose_fraction": 0.25, "photons_per_ray": 0},
        {"dose_fraction": 0.25, "electronic_noise": -1},
        {"dose_fraction": 0.25, "cutoff": 0},
        {"dose_fraction": 0.25, "cutoff": float("nan")},
        {"dose_fraction": 0.25, "photons_per_ray": float("inf")},
        {"dose_fraction": 0.25, "bowtie_mm": -1},
        {"dose_fraction": 0.25, "current_modulation": 1.5},
        {"dose_fraction": 0.25, "blur_cells": float("nan")},
        {"dose_fraction": 0.25, "views": 1},
    ],
)
def test_impossible_settings_are_refused(settings: dict) -> None:
    with pytest.raises(ConfigError):
        LowDoseCT(**settings)


def test_metal_leaves_finite_numbers() -> None:
    volume = small_body()
    image_hu = volume.image_hu.copy()
    image_hu[:, 28:36, 28:36] = 30000
    implant = volume_of(image_hu, pixel_mm=(4.0, 4.0))
    assert np.isfinite(simulator(0.25)(implant, np.random.default_rng(0))).all()


def test_metal_does_not_make_noise_without_bounds() -> None:
    """Yu's formula grows as exp(2 p); a measurement has a floor."""
    counts = np.exp(-np.array([9.0, 11.0, 40.0, 200.0], np.float32)) * np.float32(1.5e5)
    drawn = np.stack([added(counts, 0.25, seed) for seed in range(200)])
    assert np.abs(drawn).max() < 12


def added(counts: NDArray, dose_fraction: float, seed: int, ne: float = 10.0) -> NDArray:
    return added_noise(
        counts,
        dose_fraction=dose_fraction,
        electronic_noise=ne,
        generator=np.random.default_rng(seed),
    )


def counted(counts: float, ne: float, size: int, rng: np.random.Generator) -> NDArray:
    """The truth, written out again: quanta, electronics, floor of one count, logarithm."""
    read = rng.poisson(counts, size) + rng.normal(0, math.sqrt(ne), size)
    return np.log(np.maximum(read, 1.0))


@pytest.mark.parametrize("dose_fraction", [0.1, 0.25, 0.5])
@pytest.mark.parametrize("ne", [0.0, 10.0])
def test_full_dose_and_added_noise_are_the_low_dose_counted_photon_by_photon(
    dose_fraction: float, ne: float
) -> None:
    n0, size, rng = 1.5e5, 200_000, np.random.default_rng(0)
    starved = 0
    for p in np.arange(1, 9.01, 0.5):
        counts = n0 * math.exp(-p)
        if dose_fraction * counts < 4:  # 10 %: beyond, no noise added can be right, see below
            continue
        full = math.log(n0) - counted(counts, ne, size, rng)
        truth = math.log(dose_fraction * n0) - counted(dose_fraction * counts, ne, size, rng)
        simulated = full + added(np.full(size, counts, np.float32), dose_fraction, 1, ne)
        assert simulated.std() == pytest.approx(truth.std(), rel=0.03), p
        assert simulated.mean() == pytest.approx(truth.mean(), abs=0.01), p
        starved += dose_fraction * counts < 60
    assert starved >= 3, "both ways of adding noise are to be tested"


def test_rays_without_quanta_keep_the_right_bias() -> None:
    """Where the floor takes over, less dose means less spread: noise can only be added, so the
    spread stays the full dose's, and the mean is still right."""
    n0, counts, size, rng = 1.5e5, 1.0, 200_000, np.random.default_rng(0)
    full = math.log(n0) - counted(counts, 10, size, rng)
    truth = math.log(0.25 * n0) - counted(0.25 * counts, 10, size, rng)
    simulated = full + added(np.full(size, counts, np.float32), 0.25, 1)
    assert simulated.mean() == pytest.approx(truth.mean(), abs=0.01)
    assert truth.std() < full.std() <= 1.01 * simulated.std() < 1.3 * truth.std()


def test_the_formula_and_the_counts_meet_where_one_hands_over_to_the_other() -> None:
    for dose_fraction in (0.1, 0.25, 0.5):
        counts = np.full(200_000, STARVED_COUNTS / dose_fraction, np.float32)
        options = {"dose_fraction": dose_fraction, "electronic_noise": 10.0}
        quantum, electronics = np.random.default_rng(0).standard_normal((2, *counts.shape))
        drawn = starved_noise(counts, quantum=quantum, electronics=electronics, **options)
        formula = yu_deviation(counts[:1], dose_fraction, 10.0)[0]
        assert drawn.std() == pytest.approx(formula, rel=0.04)
        assert abs(drawn.mean()) < 0.01


@pytest.mark.parametrize("ne", [0.0, 10.0])
@pytest.mark.parametrize("counts", [0.5, 5.0, 60.0, 900.0, 2500.0])
def test_the_logarithm_s_moments_are_those_of_counted_quanta(counts: float, ne: float) -> None:
    drawn = counted(counts, ne, 400_000, np.random.default_rng(0))
    mean, variance = log_counts_moments(np.array(counts), ne)
    assert mean == pytest.approx(drawn.mean(), abs=0.005)
    assert variance == pytest.approx(drawn.var(), rel=0.02)


def test_starved_rays_darken_nothing_but_themselves() -> None:
    """A thick slab: the mean shift in the image is the log bias, not the formula's nothing."""
    volume = water()
    starving = simulator(0.25, photons_per_ray=4e3)
    generator = np.random.default_rng(0)
    noise = starving(volume, generator) - volume.image_hu
    centre = disc((SIZE, SIZE), 15)
    # p is 4.6 through the middle, 10 quanta: truth is bias 0.1 of 4.6 and more, upwards.
    assert noise[:, centre].mean() > 10
    assert abs(noise_hu(0.25, 0)[:, centre].mean()) < 1


def test_a_bowtie_makes_the_noise_more_even() -> None:
    centre, rim = disc((SIZE, SIZE), 15), disc((SIZE, SIZE), 58) & ~disc((SIZE, SIZE), 48)
    filtered = simulator(0.25, bowtie_mm=400)(water(), np.random.default_rng(0)) - water().image_hu
    plain = noise_hu(0.25, 0)
    assert filtered[:, centre].std() == pytest.approx(plain[:, centre].std(), rel=0.1)
    assert filtered[:, rim].std() > 1.06 * plain[:, rim].std()
    sent = Exposure(bowtie_mm=400).relative_photons(np.zeros((1, 737), np.float32), FanBeam(737, 2))
    assert sent[0, 368] == 1
    edge = math.exp(-MU_WATER_PER_MM * 400)
    assert edge < sent[0, 0] < 2 * edge


def test_a_modulated_current_gives_the_least_noise_at_the_root_of_the_attenuation() -> None:
    """Gies et al. 1999: at the same total dose, over views as unequal as an ellipse's."""
    rows, columns = np.indices((SIZE, SIZE)) - (SIZE - 1) / 2
    flat = np.where(np.hypot(rows / 32, columns / 58) <= 1, 0, -1000).astype(np.float32)
    volume = volume_of(np.stack([flat] * SLICES), pixel_mm=PIXEL_MM)
    centre = disc((SIZE, SIZE), 15)
    deviation = {}
    for power in (0.0, 0.5, 1.0):
        model = simulator(0.25, current_modulation=power)
        noise = model(volume, np.random.default_rng(0)) - volume.image_hu
        deviation[power] = noise[:, centre].std()
    assert deviation[0.5] < 0.97 * deviation[0.0]
    assert deviation[0.5] < 0.97 * deviation[1.0]
    line_integrals = np.random.default_rng(0).random((60, 50), dtype=np.float32) * 4
    sent = Exposure(current_modulation=0.5).relative_photons(line_integrals, FanBeam(50, 60))
    assert sent.mean() == pytest.approx(1, rel=1e-5)


def test_detector_blur_correlates_neighbouring_cells_and_keeps_slow_noise() -> None:
    white = np.random.default_rng(0).standard_normal((400, 736), dtype=np.float32)
    blurred = Exposure(blur_cells=0.6).blurred(white)
    weight = np.exp(-0.5 * (np.arange(-4, 5) / 0.6) ** 2)
    weight /= weight.sum()
    expected = np.correlate(weight, weight, "full")[8:10]
    found = [(blurred**2).mean(), (blurred[:, 1:] * blurred[:, :-1]).mean()]
    np.testing.assert_allclose(found, expected, rtol=0.02)
    slow = [each[:, 100:600].mean(axis=1).std() for each in (white, blurred)]
    assert slow[1] == pytest.approx(slow[0], rel=0.01)
    noise = simulator(0.25, blur_cells=0.6)(water(), np.random.default_rng(0)) - water().image_hu
    inside = disc((SIZE, SIZE), 50)
    assert noise[:, inside].std() < 0.9 * noise_hu(0.25, 0)[:, inside].std()


def test_every_device_draws_the_same_noise() -> None:
    volume = small_body()
    plain, torch_ = (
        LowDoseCT(dose_fraction=0.25, detectors=64, views=48, device=device)
        for device in ("cpu", "cpu:0")
    )
    expected = plain(volume, np.random.default_rng(0))
    np.testing.assert_allclose(torch_(volume, np.random.default_rng(0)), expected, atol=0.05)
    assert repr(plain) == repr(torch_)


def test_a_degradation_says_what_it_does() -> None:
    assert repr(LowDoseCT(0.25)) == repr(LowDoseCT(dose_fraction=0.25))
    assert "photons_per_ray=None" in repr(LowDoseCT(0.25, photons_per_ray=None))
    assert "150000 photons per ray" in LowDoseCT(0.25).description
    assert "own noise" in LowDoseCT(0.25, photons_per_ray=None).description
