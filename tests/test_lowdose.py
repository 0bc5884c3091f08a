"""The noise of a lower dose: its size, its place, and what it leaves alone."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
from helpers_images import body_slice, disc, volume_of
from numpy.typing import NDArray

from pipeline.errors import ConfigError
from pipeline.physics import fanbeam, lowdose
from pipeline.physics.fanbeam import filtered_backprojection, forward_project
from pipeline.physics.lowdose import LowDoseCT
from pipeline.units import hu_to_mu_per_mm, mu_per_mm_to_hu_difference
from pipeline.volume import Volume

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


@pytest.mark.parametrize("dose_fraction", [0.05, 0.25, 0.5, 0.9])
def test_the_deviation_is_that_of_yu_et_al(dose_fraction: float) -> None:
    n0, ne, a = 1e5, 10.0, dose_fraction
    p = np.linspace(0, min(9, np.log(a * n0)), 50)
    expected = np.sqrt((1 - a) / a * np.exp(p) / n0 * (1 + (1 + a) / a * ne * np.exp(p) / n0))
    model = LowDoseCT(dose_fraction=a, photons_per_ray=n0, electronic_noise=ne)
    np.testing.assert_allclose(model.noise_deviation(p), expected, rtol=1e-12)


@pytest.mark.parametrize("line_integral", [0.0, 2.0, 4.0, 5.5])
def test_full_dose_and_noise_make_the_low_dose_counted_photon_by_photon(
    line_integral: float,
) -> None:
    n0, ne, a = 1e5, 10.0, 0.25
    assert a * n0 * np.exp(-line_integral) > 100, "the formula is for rays that are not starved"
    rng = np.random.default_rng(0)

    def measured(photons: float) -> NDArray:
        counts = rng.poisson(photons * np.exp(-line_integral), 400_000)
        return -np.log((counts + rng.normal(0, np.sqrt(ne), counts.size)) / photons)

    added = LowDoseCT(dose_fraction=a, photons_per_ray=n0, electronic_noise=ne)
    deviation = float(added.noise_deviation(np.array(line_integral)))
    simulated = np.hypot(measured(n0).std(), deviation)
    assert simulated == pytest.approx(measured(a * n0).std(), rel=0.03)


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
    volume, model = small_body(), simulator(0.25)
    whole = model(volume, np.random.default_rng(0))
    for module in (fanbeam, lowdose):
        monkeypatch.setattr(module, "SLICES_PER_BLOCK", 2)
    np.testing.assert_allclose(model(volume, np.random.default_rng(0)), whole, atol=0.01)


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
        {"dose_fraction": 0.25, "cutoff": 1.2},
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
    """Yu's formula grows as exp(2 p); a ray cannot be more starved than one quantum."""
    physics = LowDoseCT(dose_fraction=0.25)
    deviation = physics.noise_deviation(np.array([9.0, 11.0, 40.0]))
    assert deviation[0] < deviation[1] == deviation[2] < 10
