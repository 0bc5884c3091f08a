"""What a scanner was set to, found again from the noise of its image alone."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from helpers.images import body_slice, volume_of
from numpy.typing import NDArray
from scipy import ndimage

from pipeline.core.units import hu_to_mu_per_mm, mu_per_mm_to_hu_difference
from pipeline.core.volume import Volume
from pipeline.dicom.read.ingest_options import IngestOptions
from pipeline.dicom.read.series import find_series
from pipeline.dicom.read.volume import read_volume
from pipeline.physics.calibration import Calibration, CalibrationError, calibrate
from pipeline.physics.calibration_check import agreement
from pipeline.physics.detector import Exposure
from pipeline.physics.fan_beam import filtered_backprojection, forward_project
from pipeline.physics.fan_beam_geometry import FanBeam
from pipeline.physics.lowdose import LowDoseCT
from pipeline.physics.noise_patches import bands, flat_patches

GEOMETRY = FanBeam(detectors=736, views=288)
SIZE, PIXEL_MM = 208, 1.2
CUTOFF = 1.1


@cache
def scanned(
    photons: tuple[float, ...],
    *,
    bowtie_mm: float = 0.0,
    electronic_noise: float = 10.0,
    geometry: FanBeam = GEOMETRY,
):
    """A body scanned with as many photons on each slice: counts, electronics, logarithm, FBP."""
    image_hu = np.stack([body_slice(SIZE)] * len(photons))
    spacing_mm = (PIXEL_MM, PIXEL_MM)
    p = forward_project(hu_to_mu_per_mm(image_hu), spacing_mm=spacing_mm, geometry=geometry)
    p = p.astype(np.float64)
    rng = np.random.default_rng(1)
    sent = np.array(photons)[:, None, None]
    sent = sent * Exposure(bowtie_mm=bowtie_mm).relative_photons(p[0], geometry)
    counts = rng.poisson(sent * np.exp(-p)) + rng.normal(0, math.sqrt(electronic_noise), p.shape)
    error = -np.log(np.maximum(counts, 1) / sent) - p
    noise = filtered_backprojection(
        error.astype(np.float32),
        shape=(SIZE, SIZE),
        spacing_mm=spacing_mm,
        geometry=geometry,
        cutoff=CUTOFF,
    )
    return volume_of(image_hu + mu_per_mm_to_hu_difference(noise), pixel_mm=spacing_mm)


@pytest.mark.parametrize("photons", [3e4, 3e5])
def test_the_photons_and_the_kernel_are_found_again(photons: float) -> None:
    found = calibrate(scanned((photons,) * 3), geometry=GEOMETRY)
    # A kernel found 5 % too sharp is paid for by 15 % more photons: the noise stays the same.
    assert found.cutoff == pytest.approx(CUTOFF, rel=0.08)
    assert found.photons_per_ray == pytest.approx(photons, rel=0.25)
    assert found.notes == ()
    # The kernel known, the photons have no share of its error.
    known = calibrate(scanned((photons,) * 3), geometry=GEOMETRY, cutoff=CUTOFF)
    assert known.photons_per_ray == pytest.approx(photons, rel=0.06)
    assert known.cutoff == CUTOFF


def test_a_scan_of_more_views_than_are_measured_is_allowed_for() -> None:
    """Twice the views have half the variance in the image for the same photons on each ray."""
    geometry = FanBeam(detectors=736, views=2 * GEOMETRY.views)
    volume = scanned((1e5,), geometry=geometry)
    found = calibrate(volume, geometry=geometry, cutoff=CUTOFF)
    assert found.photons_per_ray == pytest.approx(1e5, rel=0.1)


def test_a_current_that_changes_along_the_patient_is_followed() -> None:
    photons = (4e4, 4e4, 1.6e5)
    volume = scanned(photons)
    found = calibrate(volume, geometry=GEOMETRY, cutoff=CUTOFF)
    np.testing.assert_allclose(found.slice_photons_per_ray, photons, rtol=0.12)
    # And in between by the geometric mean.
    ends = calibrate(volume, geometry=GEOMETRY, cutoff=CUTOFF, slices=(0, 2))
    middle = math.sqrt(ends.slice_photons_per_ray[0] * ends.slice_photons_per_ray[2])
    assert ends.slice_photons_per_ray[1] == pytest.approx(middle)


def test_electronics_and_bowtie_are_allowed_for() -> None:
    volume = scanned((2e4,) * 2, electronic_noise=200.0)
    right = calibrate(volume, geometry=GEOMETRY, cutoff=CUTOFF, electronic_noise=200.0)
    assert right.photons_per_ray == pytest.approx(2e4, rel=0.1)
    wrong = calibrate(volume, geometry=GEOMETRY, cutoff=CUTOFF, electronic_noise=0.0)
    assert wrong.photons_per_ray < 0.9 * right.photons_per_ray
    filtered = scanned((2e5,) * 2, bowtie_mm=300.0)
    options = {"geometry": GEOMETRY, "cutoff": CUTOFF}
    right = calibrate(filtered, exposure=Exposure(bowtie_mm=300.0), **options)
    assert right.photons_per_ray == pytest.approx(2e5, rel=0.1)
    assert calibrate(filtered, **options).photons_per_ray < 0.95 * right.photons_per_ray


def test_predicted_noise_is_that_of_slices_not_seen() -> None:
    volume = scanned((1e5,) * 4)
    found = calibrate(volume, geometry=GEOMETRY, slices=(0, 2))
    rows = agreement(volume, found, (1, 3), geometry=GEOMETRY)
    assert [row.slice_number for row in rows] == [1, 3]
    for row in rows:
        assert row.ratio == pytest.approx(1, abs=0.06)
        assert row.whole_ratio == pytest.approx(1, abs=0.08)
    # It would show a calibration that is wrong by a factor of two.
    halved = Calibration.known(found.photons_per_ray / 2, slices=4, cutoff=found.cutoff)
    assert agreement(volume, halved, (1,), geometry=GEOMETRY)[0].ratio > 1.3


def test_the_same_volume_gives_the_same_numbers() -> None:
    volume = scanned((3e5,) * 3)
    first, again = (calibrate(volume, geometry=GEOMETRY, slices=(0,)) for _ in range(2))
    assert first == again


def test_simulated_noise_continues_the_image_s_own() -> None:
    """Half the dose of a calibrated volume has twice its variance; nothing else is known."""
    volume = scanned((1e5,) * 4)
    model = LowDoseCT(dose_fraction=0.5, photons_per_ray=None, views=GEOMETRY.views)
    added = model(volume, np.random.default_rng(0)) - volume.image_hu
    ratios = []
    for number in range(4):
        patches = flat_patches(volume.image_hu[number], volume.valid[number], (PIXEL_MM, PIXEL_MM))
        own, new = (
            patches.variances(np.add(*bands(each, (PIXEL_MM, PIXEL_MM))))
            for each in (volume.image_hu[number], added[number])
        )
        ratios.append(np.median(new / own))
    assert np.mean(ratios) == pytest.approx(1, abs=0.12)


def test_a_given_setting_needs_no_image() -> None:
    volume = volume_of(np.zeros((2, 16, 16), np.float32))
    assert LowDoseCT(0.25).calibration(volume) == Calibration.known(
        1.5e5, slices=2, cutoff=math.inf
    )
    assert LowDoseCT(0.25, cutoff=0.8).calibration(volume).cutoff == 0.8


def test_full_dose_needs_no_calibration() -> None:
    volume = volume_of(np.full((1, 16, 16), -1000, np.float32))
    result = LowDoseCT(1.0, photons_per_ray=None)(volume, np.random.default_rng(0))
    assert result.tobytes() == volume.image_hu.tobytes()


@pytest.mark.parametrize(
    ("image_hu", "message"),
    [
        (np.full((1, 64, 64), -1000, np.float32), "no slice has"),
        (body_slice(SIZE)[None], "no scanner|none that a scanner makes"),
    ],
    ids=["air", "noise-free"],
)
def test_an_image_without_measurable_noise_is_refused(image_hu: NDArray, message: str) -> None:
    with pytest.raises(CalibrationError, match=message):
        calibrate(volume_of(image_hu, pixel_mm=(PIXEL_MM, PIXEL_MM)), geometry=GEOMETRY)


def test_padding_is_no_tissue() -> None:
    volume = scanned((3e5,) * 3)
    with pytest.raises(CalibrationError, match="no slice has"):
        calibrate(replace(volume, valid=np.zeros_like(volume.valid)), geometry=GEOMETRY)


def test_noise_of_another_spectrum_and_an_implausible_header_are_noted() -> None:
    volume = scanned((3e5,) * 3)
    white = np.random.default_rng(0).normal(0, 20, volume.image_hu.shape).astype(np.float32)
    edges = white - ndimage.gaussian_filter(white, (0, 0.7, 0.7))
    provenance = {"XRayTubeCurrent": 400.0, "SliceThickness": 5.0}
    body_hu = np.stack([body_slice(SIZE)] * 3)
    notes = calibrate(
        replace(volume, image_hu=body_hu + edges, provenance=provenance), geometry=GEOMETRY
    ).notes
    assert any("sharper" in note for note in notes)
    found = calibrate(
        replace(volume, provenance={"XRayTubeCurrent": 9e5, "SliceThickness": 5.0}),
        geometry=GEOMETRY,
        cutoff=CUTOFF,
    )
    assert any("processed" in note for note in found.notes)
    plausible = calibrate(replace(volume, provenance=provenance), geometry=GEOMETRY, cutoff=CUTOFF)
    assert plausible.notes == ()


def real(folder: Path, intake: IngestOptions) -> list[Volume]:
    return [read_volume(series).volume for series in find_series(folder, intake=intake).series]


def test_a_real_phantom_s_noise_is_predicted_from_its_other_slice(test_data: Path) -> None:
    folder = test_data / "phantom" / "uniform-ge-hd750"
    fitted, held_out, _ = real(folder, IngestOptions(gaps="slices"))
    found = calibrate(fitted)
    (row,) = agreement(held_out, found, (0,))
    # Water has no anatomy: the plain standard deviation, of all frequencies, is noise alone.
    assert row.ratio == pytest.approx(1, abs=0.15)
    assert row.whole_ratio == pytest.approx(1, abs=0.15)
    assert 1 < found.cutoff < 2, "GE's STANDARD: sharper than a Hann to Nyquist, no bare ramp"


@pytest.mark.parametrize(
    ("name", "held_out"), [("abdomen-ge-crlm1006", 8), ("chest-ge-lidc0001", 30)]
)
def test_a_real_patient_s_noise_is_predicted_in_a_slice_not_seen(
    test_data: Path, name: str, held_out: int
) -> None:
    (volume,) = real(test_data / "ct" / name, IngestOptions())
    found = calibrate(volume, slices=(held_out - 1, held_out + 1))
    (row,) = agreement(volume, found, (held_out,))
    assert row.ratio == pytest.approx(1, abs=0.15)
