"""Noise power spectra against closed forms: white, blurred, and filtered backprojection's own."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from numpy.typing import NDArray

from pipeline.core.errors import LdctError
from pipeline.physics.fan_beam import FanBeam, filtered_backprojection
from pipeline.quality.nps import less_mean_of_repeats, noise_power
from pipeline.quality.rois import cut_regions, detrend, tile_places_mm

PIXEL_MM = (0.8, 0.5)


def white(deviation_hu: float, shape: tuple[int, ...], seed: int = 0) -> NDArray[np.float64]:
    return deviation_hu * np.random.default_rng(seed).standard_normal(shape)


def test_white_noise_is_flat_at_its_variance_times_the_pixel() -> None:
    """NPS = sigma^2 dx dy: 25 HU^2 times 0.4 mm^2."""
    found = noise_power(white(5.0, (400, 32, 32)), pixel_mm=PIXEL_MM)
    assert found.radial_hu2_mm2[2:].mean() == pytest.approx(10.0, rel=0.01)
    np.testing.assert_allclose(found.radial_hu2_mm2[2:], 10.0, rtol=0.08)
    assert found.variance_hu2 == pytest.approx(25.0, rel=0.01)


@pytest.mark.parametrize("order", [0, 1, 2])
def test_the_integral_is_the_variance_whatever_the_trend(order: int) -> None:
    y, x = np.indices((16, 16)) / 16.0
    trend = [300.0 + 0 * x, 40 * x - 90 * y, 80 * x * y - 50 * y**2][order]
    found = noise_power(white(5.0, (2000, 16, 16)) + trend, pixel_mm=PIXEL_MM, detrend_order=order)
    assert found.variance_hu2 == pytest.approx(25.0, rel=0.01)


def test_a_trend_left_in_would_count_as_noise() -> None:
    slope = np.broadcast_to(np.linspace(-20, 20, 16), (4, 16, 16))
    np.testing.assert_allclose(detrend(slope, 1), 0, atol=1e-9)
    assert np.abs(detrend(slope, 0)).max() > 15


def test_correlated_noise_has_the_spectrum_of_its_autocorrelation() -> None:
    """White noise under exp(-r^2 / 2 s^2) has the autocovariance v exp(-r^2 / 4 s^2).

    So its spectrum is 4 pi s^2 v exp(-4 pi^2 s^2 f^2); of a region, that of the autocovariance
    times the overlap of the region with itself shifted (Wiener-Khinchin).
    """
    s_mm, pixel_mm, size = 1.0, 0.5, 64
    frequency = np.hypot(*np.meshgrid(np.fft.fftfreq(256, pixel_mm), np.fft.fftfreq(256, pixel_mm)))
    blur = np.exp(-2 * (math.pi * s_mm * frequency) ** 2)
    field = np.fft.ifft2(np.fft.fft2(white(8.0, (60, 256, 256))) * blur).real
    regions = field.reshape(60, 4, size, 4, size).transpose(0, 1, 3, 2, 4).reshape(-1, size, size)
    found = noise_power(regions, pixel_mm=(pixel_mm, pixel_mm), detrend_order=0)

    variance = 64 * pixel_mm**2 / (4 * math.pi * s_mm**2)
    lag = np.arange(-size + 1, size)
    along = np.exp(-((lag * pixel_mm) ** 2) / (4 * s_mm**2)) * (1 - np.abs(lag) / size)
    wave = np.cos(2 * np.pi * np.fft.fftfreq(size)[:, None] * lag) @ along * pixel_mm
    expected = variance * wave[:, None] * wave[None, :]
    analytic = variance * 4 * math.pi * s_mm**2
    radius = np.hypot(found.frequency_rows_per_mm[:, None], found.frequency_columns_per_mm)
    for low in (0.02, 0.08, 0.14, 0.2, 0.26):
        band = (radius > low) & (radius <= low + 0.06)
        assert found.power_hu2_mm2[band].mean() == pytest.approx(expected[band].mean(), rel=0.04)
        smooth = analytic * np.exp(-((2 * math.pi * s_mm * radius[band]) ** 2))
        if low < 0.2:  # beyond, what leaks from the strong frequencies of a square counts
            assert found.power_hu2_mm2[band].mean() == pytest.approx(smooth.mean(), rel=0.07)
    assert found.variance_hu2 == pytest.approx(variance, rel=0.02)


@pytest.mark.parametrize("cutoff", [0.6, 0.9])
def test_filtered_backprojection_makes_the_ramp_s_noise(cutoff: float) -> None:
    """Riederer, Pelc & Chesler 1978, at the isocentre, for M views over the full turn.

    NPS = pi sigma^2 a f H(f)^2 sinc(a f)^4 / M: a is the detector's pitch at the isocentre, H
    the kernel's window, and the sinc's square the linear interpolation's transfer.
    """
    geometry = FanBeam(views=360)
    generator = np.random.default_rng(3)
    sinogram = generator.standard_normal((72, 360, 736), dtype=np.float32) * np.float32(0.02)
    image = filtered_backprojection(
        sinogram, shape=(64, 64), spacing_mm=(0.7, 0.7), geometry=geometry, cutoff=cutoff
    )
    found = noise_power(image.astype(float), pixel_mm=(0.7, 0.7))
    pitch_mm = geometry.detector_pitch_rad * geometry.source_to_isocentre_mm

    def expected(f: NDArray) -> NDArray:
        window = 0.5 + 0.5 * np.cos(np.pi * np.minimum(f * 2 * pitch_mm / cutoff, 1))
        return math.pi * 0.02**2 * pitch_mm * f * (window * np.sinc(f * pitch_mm) ** 2) ** 2 / 360

    fine = np.linspace(0, 0.7, 2000)
    theory = expected(found.radial_per_mm)
    strong = (theory > 0.15 * theory.max()) & (found.radial_per_mm > 0.04)
    np.testing.assert_allclose(found.radial_hu2_mm2[strong], theory[strong], rtol=0.12)
    assert found.radial_hu2_mm2[strong].sum() == pytest.approx(theory[strong].sum(), rel=0.04)
    peak = fine[np.argmax(expected(fine))]
    assert found.peak_frequency_per_mm == pytest.approx(peak, rel=0.12)
    assert found.radial_hu2_mm2[0] < 0.4 * found.radial_hu2_mm2.max()
    mean = (fine * expected(fine)).sum() / expected(fine).sum()
    assert found.mean_frequency_per_mm == pytest.approx(mean, rel=0.05)


def test_noise_from_repeats_keeps_its_variance_and_loses_the_object() -> None:
    shape = np.linspace(-500, 500, 64).reshape(8, 8)
    noise = less_mean_of_repeats(shape + white(4.0, (3, 500, 8, 8)))
    assert noise.var() == pytest.approx(16.0, rel=0.02)
    with pytest.raises(LdctError, match="at least 2"):
        less_mean_of_repeats(shape[None])


def test_regions_are_cut_where_they_are_asked_for() -> None:
    image = np.zeros((2, 41, 41))
    image[1, 20 + 6, 20 - 3] = 7.0  # y = 3 mm, x = -1.5 mm
    regions = cut_regions(image, [(0.0, 0.0), (-1.5, 3.0)], pixel_mm=0.5, size_pixels=5)
    assert regions.shape == (4, 5, 5)
    assert regions[3, 2, 2] == 7.0
    assert regions.sum() == 7.0
    with pytest.raises(LdctError, match="leaves the image"):
        cut_regions(image, [(10.0, 0.0)], pixel_mm=0.5, size_pixels=5)
    assert len(tile_places_mm(half_width_mm=10, step_mm=5)) == 25


def test_the_record_names_its_sizes_and_units() -> None:
    record = json.loads(
        json.dumps(noise_power(white(5.0, (3, 32, 16)), pixel_mm=PIXEL_MM).figures().to_dict())
    )
    assert record["regions"] == 3
    assert record["region_pixels"] == [32, 16]
    assert record["region_mm"] == pytest.approx([32 * 0.8, 16 * 0.5])
    assert record["noise_hu"] == pytest.approx(5.0, rel=0.1)
    assert len(record["frequency_per_mm"]) == len(record["power_hu2_mm2"])
    with pytest.raises(LdctError, match="8 pixels"):
        noise_power(white(1.0, (3, 4, 4)), pixel_mm=PIXEL_MM)
