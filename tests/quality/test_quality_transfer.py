"""Transfer functions of objects blurred by a known Gaussian, in closed form."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import special, stats

from pipeline.core.errors import LdctError
from pipeline.physics.phantoms.image_quality import (
    SLANTED_EDGE,
    THIN_WIRE,
    PhantomGrid,
    Rod,
    edge_phantom,
    rod_phantom,
    wire_phantom,
)
from pipeline.quality.phantom_scan import Scanner, scan
from pipeline.quality.ttf import (
    Transfer,
    edge_transfer,
    find_centre_mm,
    rod_transfer,
    wire_transfer,
)

PIXEL_MM, SIZE = 0.7, 96


def positions_mm(centre_mm: tuple[float, float]) -> tuple[NDArray, NDArray]:
    axis = (np.arange(SIZE) - (SIZE - 1) / 2) * PIXEL_MM
    return axis[None, :] - centre_mm[0], axis[:, None] - centre_mm[1]


def blurred_rod(sigma_mm: float, contrast_hu: float, centre_mm: tuple[float, float]) -> NDArray:
    """A disc of 12.5 mm under a Gaussian: the chance that a normal step ends inside (exact)."""
    radius2 = sum(np.square(axis) for axis in positions_mm(centre_mm))
    inside = stats.ncx2.cdf((12.5 / sigma_mm) ** 2, 2, radius2 / sigma_mm**2)
    return (40 + contrast_hu * inside)[None]


def blurred_edge(sigma_mm: float, contrast_hu: float, angle_rad: float) -> NDArray:
    x, y = positions_mm((1.1, 0.4))
    distance = x * math.cos(angle_rad) - y * math.sin(angle_rad)
    return (40 + contrast_hu * special.ndtr(-distance / sigma_mm))[None]


def blurred_point(sigma_mm: float, centre_mm: tuple[float, float]) -> NDArray:
    x, y = positions_mm(centre_mm)
    return (40 + 900 * np.exp(-(x**2 + y**2) / (2 * sigma_mm**2)))[None]


def assert_gaussian(found: Transfer, sigma_mm: float) -> None:
    expected = np.exp(-2 * (math.pi * sigma_mm * found.frequency_per_mm) ** 2)
    np.testing.assert_allclose(found.transfer, expected, atol=0.02)
    half = math.sqrt(math.log(2) / 2) / (math.pi * sigma_mm)
    assert found.frequency_at(0.5) == pytest.approx(half, rel=0.02)


@pytest.mark.parametrize("sigma_mm", [0.6, 0.9, 1.3])
@pytest.mark.parametrize("contrast_hu", [-950.0, 14.0])
def test_a_blurred_rod_has_the_gaussian_s_transfer(sigma_mm: float, contrast_hu: float) -> None:
    centre_mm = (1.3, -2.2)
    found = rod_transfer(
        blurred_rod(sigma_mm, contrast_hu, centre_mm),
        centre_mm=centre_mm,
        radius_mm=12.5,
        pixel_mm=PIXEL_MM,
        reach_mm=8.0,
    )
    assert_gaussian(found, sigma_mm)
    assert found.contrast_hu == pytest.approx(contrast_hu, rel=0.01)


@pytest.mark.parametrize("sigma_mm", [0.6, 1.3])
@pytest.mark.parametrize("degrees", [4.0, -11.0, 86.0])
def test_a_blurred_edge_has_the_gaussian_s_transfer(sigma_mm: float, degrees: float) -> None:
    found = edge_transfer(
        blurred_edge(sigma_mm, 100.0, math.radians(degrees)),
        point_mm=(1.1, 0.4),
        angle_rad=math.radians(degrees),
        pixel_mm=PIXEL_MM,
        reach_mm=8.0,
        length_mm=40.0,
    )
    assert_gaussian(found, sigma_mm)
    assert found.contrast_hu == pytest.approx(100.0, rel=0.01)


@pytest.mark.parametrize("sigma_mm", [0.6, 1.3])
def test_a_blurred_point_has_the_gaussian_s_transfer(sigma_mm: float) -> None:
    found = wire_transfer(
        blurred_point(sigma_mm, (0.3, 0.2)), centre_mm=(0.3, 0.2), pixel_mm=PIXEL_MM, reach_mm=9.0
    )
    assert_gaussian(found, sigma_mm)


def test_a_thick_wire_is_divided_out() -> None:
    """A disc of 4 mm under a Gaussian: its own transfer, 2 J1(x)/x, must not count as blur."""
    x, y = positions_mm((0.3, 0.2))
    disc = stats.ncx2.cdf((2.0 / 0.9) ** 2, 2, (x**2 + y**2) / 0.9**2)[None]
    place = {"centre_mm": (0.3, 0.2), "pixel_mm": PIXEL_MM, "reach_mm": 12.0}
    found = wire_transfer(disc, diameter_mm=4.0, **place)
    low = found.frequency_per_mm < 0.25  # before the first zero of J1, at 0.305
    expected = np.exp(-2 * (math.pi * 0.9 * found.frequency_per_mm) ** 2)
    np.testing.assert_allclose(found.transfer[low], expected[low], atol=0.02)
    untreated = wire_transfer(disc, **place)
    assert np.abs(untreated.transfer - expected)[low].max() > 0.2


def test_noise_is_averaged_over_the_slices() -> None:
    noise = np.random.default_rng(0).standard_normal((100, SIZE, SIZE)) * 20
    found = rod_transfer(
        blurred_rod(0.9, 100.0, (0.0, 0.0)) + noise,
        centre_mm=(0.0, 0.0),
        radius_mm=12.5,
        pixel_mm=PIXEL_MM,
        reach_mm=8.0,
    )
    half = math.sqrt(math.log(2) / 2) / (math.pi * 0.9)
    assert found.frequency_at(0.5) == pytest.approx(half, rel=0.06)
    assert found.samples > 100 * 2000


def test_the_centre_is_found() -> None:
    centre = find_centre_mm(
        blurred_rod(0.9, -100.0, (1.3, -2.2)), guess_mm=(3.0, 0.0), pixel_mm=PIXEL_MM, reach_mm=22.0
    )
    assert centre == pytest.approx((1.3, -2.2), abs=0.05)


def test_rod_edge_and_wire_agree_about_one_scanner() -> None:
    """Three objects through projection and reconstruction: one system, one sharpness."""
    grid = PhantomGrid(matrix=160, pixel_mm=0.7)
    scanner = Scanner(cutoff=0.8, electronic_noise=0)
    place = {"pixel_mm": 0.7, "reach_mm": 8.0}

    def clean(phantom: object) -> NDArray:
        image_hu = phantom.volume.image_hu[0]  # type: ignore[attr-defined]
        generator = np.random.default_rng(0)
        looks = scan(image_hu, pixel_mm=0.7, scanner=scanner, realisations=1, generator=generator)
        return looks.clean_hu[None]

    body = {"grid": grid, "body_radius_mm": 50.0}
    rod = clean(rod_phantom([Rod(0.4, -0.3, 15.0, 100.0)], **body))
    edge, wire = clean(edge_phantom(**body)), clean(wire_phantom(THIN_WIRE, **body))
    found = [
        rod_transfer(rod, centre_mm=(0.4, -0.3), radius_mm=15.0, **place),
        edge_transfer(
            edge, point_mm=(0, 0), angle_rad=SLANTED_EDGE.angle_rad, length_mm=50.0, **place
        ),
        wire_transfer(wire, centre_mm=(0, 0), diameter_mm=0.2, **place),
    ]
    halves = [transfer.frequency_at(0.5) for transfer in found]
    assert max(halves) / min(halves) < 1.05
    assert 0.15 < halves[0] < 0.3


def test_what_cannot_be_measured_is_refused_or_none() -> None:
    with pytest.raises(LdctError, match="axis"):
        rod_transfer(
            blurred_rod(0.9, 10.0, (0, 0)),
            centre_mm=(0, 0),
            radius_mm=3.0,
            pixel_mm=PIXEL_MM,
            reach_mm=8.0,
        )
    upright = {"pixel_mm": PIXEL_MM, "reach_mm": 8.0, "length_mm": 40.0}
    with pytest.raises(LdctError, match="lean"):
        edge_transfer(blurred_edge(0.9, 10.0, 0.0), point_mm=(0, 0), angle_rad=0.0, **upright)
    sharp = Transfer(np.array([0, 0.5]), np.array([1, 0.8]), 10.0, "wire", 8.0, 100)
    assert sharp.frequency_at(0.5) is None
    record = json.loads(json.dumps(sharp.figures().to_dict()))
    assert record["ttf50_per_mm"] is None
    assert record["samples"] == 100
