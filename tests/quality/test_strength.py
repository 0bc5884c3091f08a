"""Strength on a water phantom: how much noise it takes off, and what texture it leaves."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pipeline.config.load import load_config
from pipeline.inference.denoise import apply_model
from pipeline.models.adapters.base import ModelAdapter
from pipeline.models.adapters.pretrained import load_pretrained
from pipeline.physics.lowdose import LowDoseCT
from pipeline.physics.phantoms.image_quality import PhantomGrid, water_phantom
from pipeline.quality.nps import NoisePower, less_mean_of_repeats, noise_power
from pipeline.quality.phantom_scan import Scanner, scan_each
from pipeline.quality.rois import cut_regions, tile_places_mm

TEXTURE = Path(__file__).parents[2] / "configs" / "denoise_redcnn_texture.yaml"
REGION, MIDDLE = 64, slice(160, 352)
Scans = dict[float, np.ndarray]


@pytest.fixture(scope="module")
def water() -> Scans:
    """The middle of a water cylinder, scanned 16 times, by dose fraction."""
    (scan,) = scan_each(
        water_phantom(PhantomGrid()).volume.image_hu[:1],
        pixel_mm=PhantomGrid().pixel_mm,
        scanner=Scanner.like(LowDoseCT(dose_fraction=0.25, photons_per_ray=1.5e5)),
        realisations=16,
        generator=np.random.default_rng(0),
    )
    return {dose: scan.at_dose(dose)[:, MIDDLE, MIDDLE] for dose in (0.25, 1.0)}


@pytest.fixture(scope="module")
def shipped() -> ModelAdapter:
    return load_pretrained("redcnn").model


def spectrum(image_hu: np.ndarray) -> NoisePower:
    pixel_mm = PhantomGrid().pixel_mm
    places = tile_places_mm(half_width_mm=25, step_mm=REGION * pixel_mm / 2)
    noise_hu = less_mean_of_repeats(image_hu)
    regions = cut_regions(noise_hu, places, pixel_mm=pixel_mm, size_pixels=REGION)
    return noise_power(regions, pixel_mm=(pixel_mm, pixel_mm))


def test_noise_falls_with_strength_and_its_peak_with_it(
    water: Scans, shipped: ModelAdapter
) -> None:
    noise_hu, peaks = [], []
    for strength in (0.01, 0.2, 0.4, 0.6, 0.8, 1.0):
        shipped.strength = strength
        found = spectrum(apply_model(shipped, water[0.25]))
        noise_hu.append(found.variance_hu2**0.5)
        peaks.append(found.peak_frequency_per_mm)
    assert noise_hu == sorted(noise_hu, reverse=True)
    undenoised = spectrum(water[0.25]).variance_hu2 ** 0.5
    assert noise_hu[0] == pytest.approx(undenoised, rel=0.02)
    assert noise_hu[-1] < 0.35 * undenoised
    assert peaks[-1] < 0.6 * peaks[0], "the trade: what is left at full strength is blotchy"


def test_the_configuration_for_texture_keeps_the_peak_of_full_dose(
    water: Scans, shipped: ModelAdapter
) -> None:
    shipped.strength = load_config(TEXTURE).strength
    found, full = spectrum(apply_model(shipped, water[0.25])), spectrum(water[1.0])
    assert abs(found.peak_frequency_per_mm / full.peak_frequency_per_mm - 1) < 0.2
    assert found.variance_hu2 < 0.94**2 * spectrum(water[0.25]).variance_hu2
