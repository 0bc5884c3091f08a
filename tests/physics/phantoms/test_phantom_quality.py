"""Image-quality phantoms against areas, centroids and distances that are known."""

from __future__ import annotations

import math

import numpy as np
import pytest

from pipeline.core.errors import ConfigError
from pipeline.physics.phantoms.image_quality import (
    LOW_CONTRAST_RODS,
    SLANTED_EDGE,
    Edge,
    PhantomGrid,
    Rod,
    Wire,
    disc_cover,
    edge_phantom,
    ring_mm,
    ring_of_rods,
    rod_phantom,
    water_phantom,
    wire_phantom,
)

GRID = PhantomGrid(slices=2, matrix=160, pixel_mm=0.7, slice_mm=3.0)
BODY_MM = 50.0


@pytest.mark.parametrize("radius_mm", [0.3, 1.5, 2.5, 20.0])
@pytest.mark.parametrize("centre_mm", [(0.0, 0.0), (3.17, -8.42)])
def test_a_disc_covers_its_area_about_its_centre(
    radius_mm: float, centre_mm: tuple[float, float]
) -> None:
    cover = disc_cover(GRID, x_mm=centre_mm[0], y_mm=centre_mm[1], radius_mm=radius_mm)
    area_mm2 = cover.sum() * GRID.pixel_mm**2
    assert area_mm2 == pytest.approx(math.pi * radius_mm**2, rel=2e-3 if radius_mm > 1 else 0.01)
    if radius_mm > GRID.pixel_mm:  # of less than a pixel, coverage cannot tell the place
        assert (cover.sum(axis=0) @ GRID.axis_mm) / cover.sum() == pytest.approx(
            centre_mm[0], abs=0.02
        )
        assert (cover.sum(axis=1) @ GRID.axis_mm) / cover.sum() == pytest.approx(
            centre_mm[1], abs=0.02
        )


def test_coverage_agrees_with_many_points_in_each_pixel() -> None:
    fine = 40
    axis = ((np.arange(20 * fine) + 0.5) / fine - 10) * 0.5
    inside = np.hypot(axis[None] - 0.31, axis[:, None] + 0.77) <= 2.5
    expected = inside.reshape(20, fine, 20, fine).mean(axis=(1, 3))
    grid = PhantomGrid(matrix=20, pixel_mm=0.5)
    found = disc_cover(grid, x_mm=0.31, y_mm=-0.77, radius_mm=2.5)
    np.testing.assert_allclose(found, expected, atol=0.01)


def test_the_volume_is_centred_and_in_millimetres() -> None:
    volume = water_phantom(GRID, body_radius_mm=BODY_MM).volume
    assert volume.image_hu.shape == (2, 160, 160)
    assert volume.image_hu.dtype == np.float32
    assert volume.spacing_mm == pytest.approx((3.0, 0.7, 0.7))
    assert volume.valid.all()
    middle = volume.affine_lps @ [79.5, 79.5, 0, 1]
    np.testing.assert_allclose(middle[:2], 0, atol=1e-9)
    np.testing.assert_allclose(volume.slice_origins_mm[1] - volume.slice_origins_mm[0], [0, 0, 3])


def test_water_is_0_and_air_minus_1000() -> None:
    image_hu = water_phantom(GRID, body_radius_mm=BODY_MM).volume.image_hu[0]
    radius = np.hypot(GRID.axis_mm[None], GRID.axis_mm[:, None])
    np.testing.assert_allclose(image_hu[radius < BODY_MM - 1], 0, atol=1e-3)
    np.testing.assert_allclose(image_hu[radius > BODY_MM + 1], -1000, atol=1e-3)


def test_rods_have_their_contrast_and_the_truth_says_where() -> None:
    rods = ring_of_rods(radius_mm=30.0)
    phantom = rod_phantom(rods, GRID, body_radius_mm=BODY_MM)
    water = water_phantom(GRID, body_radius_mm=BODY_MM).volume.image_hu
    added = (phantom.volume.image_hu - water)[0].astype(float)
    assert [(2 * r.radius_mm, r.contrast_hu) for r in phantom.truth.rods] == [
        (3, 14),
        (5, 7),
        (7, 5),
        (10, 3),
    ]
    assert len(LOW_CONTRAST_RODS) == 4
    for rod in phantom.truth.rods:
        x, y = GRID.axis_mm[None] - rod.x_mm, GRID.axis_mm[:, None] - rod.y_mm
        near = np.hypot(x, y) < rod.radius_mm + 1
        assert added[near].max() == pytest.approx(rod.contrast_hu, rel=1e-4)
        strength = added[near].sum() * GRID.pixel_mm**2
        assert strength == pytest.approx(rod.contrast_hu * math.pi * rod.radius_mm**2, rel=3e-3)


def test_an_edge_lies_where_it_says() -> None:
    edge = Edge(2.3, -4.0, math.radians(6.0), 80.0)
    phantom = edge_phantom(edge, GRID, body_radius_mm=BODY_MM)
    row = 100  # inside the body
    y = GRID.axis_mm[row]
    left = 2.3 + (y + 4.0) * math.tan(math.radians(6.0))
    filled = phantom.volume.image_hu[0, row].astype(float)
    body = water_phantom(GRID, body_radius_mm=BODY_MM).volume.image_hu[0, row]
    width_mm = (filled - body).sum() / 80.0 * GRID.pixel_mm
    assert width_mm == pytest.approx(left + math.sqrt(BODY_MM**2 - y**2), abs=0.01)
    assert edge_phantom(grid=GRID, body_radius_mm=BODY_MM).truth.edge == SLANTED_EDGE


def test_a_wire_keeps_its_place_within_a_pixel() -> None:
    wire = Wire(1.23, -2.71, 0.2, 5000.0)
    phantom = wire_phantom(wire, GRID, body_radius_mm=BODY_MM)
    water = water_phantom(GRID, body_radius_mm=BODY_MM).volume.image_hu
    added = (phantom.volume.image_hu - water)[0].astype(float)
    assert added.sum() * GRID.pixel_mm**2 == pytest.approx(5000 * math.pi * 0.1**2, rel=1e-4)
    assert added.sum(axis=0) @ GRID.axis_mm / added.sum() == pytest.approx(1.23, abs=1e-3)
    assert added.sum(axis=1) @ GRID.axis_mm / added.sum() == pytest.approx(-2.71, abs=1e-3)


def test_places_on_a_ring_are_alike() -> None:
    places = np.array(ring_mm(16, 60.0))
    np.testing.assert_allclose(np.hypot(*places.T), 60.0)
    gaps = np.hypot(*(places - np.roll(places, 1, axis=0)).T)
    np.testing.assert_allclose(gaps, 2 * 60 * math.sin(math.pi / 16))


def test_what_cannot_be_built_is_refused() -> None:
    with pytest.raises(ConfigError, match="leaves"):
        rod_phantom([Rod(48, 0, 5, 10)], GRID, body_radius_mm=BODY_MM)
    with pytest.raises(ConfigError, match="overlap"):
        rod_phantom([Rod(0, 0, 5, 10), Rod(8, 0, 5, 10)], GRID, body_radius_mm=BODY_MM)
    with pytest.raises(ConfigError, match="fit"):
        water_phantom(GRID, body_radius_mm=60.0)
    with pytest.raises(ConfigError, match="thinner"):
        wire_phantom(Wire(0, 0, 0.8, 100), GRID, body_radius_mm=BODY_MM)
    with pytest.raises(ConfigError, match="positive"):
        PhantomGrid(matrix=0)
