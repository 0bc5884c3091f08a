"""The audit of a difference: noise of any spectrum passes, discs and edges do not."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import fft, ndimage

from pipeline.quality.difference_audit import SliceAudit, audit_difference, audit_slice

SHAPE, PIXEL_MM = (256, 256), 0.8
ROWS, COLUMNS = np.mgrid[: SHAPE[0], : SHAPE[1]]
BODY = np.hypot(ROWS - 128, COLUMNS - 128) < 110
Image = NDArray[np.float32]

#: Amplitude by frequency per mm, radial and along rows.
SPECTRA: dict[str, Callable[[NDArray, NDArray], NDArray]] = {
    "white": lambda f, rows: np.ones_like(f),
    "smooth": lambda f, rows: f * np.exp(-((f / 0.25) ** 2)) + 0.003,
    "sharp": lambda f, rows: f * np.exp(-((f / 0.6) ** 4)) + 0.003,
    "streaks": lambda f, rows: (
        f * np.exp(-((f / 0.3) ** 2)) * np.sqrt(0.3 + (rows / (f + 1e-3)) ** 2) + 0.002
    ),
    "coarse": lambda f, rows: np.exp(-((f / 0.15) ** 2)),
}


def noise(name: str, generator: np.random.Generator, *, level_hu: float = 12.0) -> Image:
    """Noise whose level varies over the slice by 25 %, one standard deviation."""
    rows = np.fft.fftfreq(SHAPE[0], PIXEL_MM)[:, None]
    frequency = np.hypot(rows, np.fft.rfftfreq(SHAPE[1], PIXEL_MM)[None])
    spectrum = fft.rfft2(generator.standard_normal(SHAPE)) * SPECTRA[name](frequency, rows)
    made = fft.irfft2(spectrum, s=SHAPE)
    level = ndimage.gaussian_filter(generator.standard_normal(SHAPE), 40)
    uneven = np.exp(0.25 * level / level.std())
    return (level_hu * made / made.std() * uneven).astype(np.float32)


def disc(row: int, column: int, diameter_mm: float, height_hu: float) -> Image:
    """As sharp as a body kernel leaves it."""
    there = np.hypot(ROWS - row, COLUMNS - column) * PIXEL_MM < diameter_mm / 2
    return ndimage.gaussian_filter(there * np.float32(height_hu), 0.5 / PIXEL_MM)


def audited(difference: Image) -> SliceAudit:
    return audit_difference(difference, BODY, (PIXEL_MM, PIXEL_MM))


@pytest.mark.parametrize("name", SPECTRA)
def test_noise_of_any_spectrum_and_uneven_level_is_hardly_ever_flagged(name: str) -> None:
    """Of 40 slices at 1 in 100 no more than 2, as in 99 of 100 such tests."""
    generator = np.random.default_rng(8)
    flagged = [bool(audited(noise(name, generator)).places) for _ in range(40)]
    assert sum(flagged) <= 2


@pytest.mark.parametrize("sign", [-1, 1], ids=["erased", "invented"])
@pytest.mark.parametrize(
    ("diameter_mm", "height_hu", "share"), [(3, 100, 0.9), (5, 50, 0.9), (10, 30, 0.9)]
)
def test_discs_are_found_where_and_as_they_are(
    diameter_mm: float, height_hu: float, share: float, sign: int
) -> None:
    generator = np.random.default_rng(5)
    found = []
    for _ in range(15):
        row, column = generator.integers(70, 186, 2)
        added = disc(row, column, diameter_mm, sign * height_hu)
        places = audited(noise("smooth", generator) + added).places
        found.append(
            bool(places)
            and np.hypot(places[0].row - row, places[0].column - column) * PIXEL_MM <= 3
            and places[0].height_hu * sign > 0
        )
    assert np.mean(found) >= share


def test_height_and_size_are_those_of_the_disc() -> None:
    generator = np.random.default_rng(6)
    places = [
        audited(noise("smooth", generator, level_hu=4) + disc(120, 140, 7, -60)).places[0]
        for _ in range(8)
    ]
    assert {place.kind for place in places} == {"disc"}
    assert np.mean([place.size_mm for place in places]) == pytest.approx(7, abs=1.5)
    assert np.mean([place.height_hu for place in places]) == pytest.approx(-60, rel=0.25)


def test_a_blurred_edge_and_a_lost_vessel_are_found() -> None:
    generator = np.random.default_rng(7)
    step = np.where(np.abs(ROWS - 128) < 12, 400.0, 0.0) * (np.abs(COLUMNS - 128) < 12)
    sharp = ndimage.gaussian_filter(step, 0.6)
    blurred = ndimage.gaussian_filter(step, 1.5)
    vessel = np.exp(-(((COLUMNS - 90) / 1.2) ** 2)) * (np.abs(ROWS - 100) < 10) * 80.0
    for changed in (blurred - sharp, -vessel):
        places = audited(noise("smooth", generator) + changed.astype(np.float32)).places
        assert places
        assert places[0].kind in ("edge", "line")


def test_an_invented_disc_in_a_slice_that_was_left_alone_is_found() -> None:
    places = audited(np.round(disc(128, 128, 5, 20))).places
    assert [(place.row, place.column) for place in places[:1]] == [
        (pytest.approx(128, abs=3), pytest.approx(128, abs=3))
    ]
    assert audited(np.zeros(SHAPE, np.float32)) == SliceAudit((), 0.0)


def test_no_patient_no_verdict() -> None:
    air = np.full(SHAPE, -1000, np.float32)
    result = air + noise("white", np.random.default_rng(1))
    assert audit_slice(air, result, np.ones(SHAPE, bool), (0.8, 0.8)) == SliceAudit((), None)
    small = np.hypot(ROWS - 128, COLUMNS - 128) < 20
    assert audit_difference(result, small, (0.8, 0.8)).threshold is None
