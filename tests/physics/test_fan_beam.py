"""Projection and reconstruction against closed forms."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from pipeline.core.errors import ConfigError
from pipeline.core.units import MU_WATER_PER_MM, mu_per_mm_to_hu_difference
from pipeline.physics import fan_beam
from pipeline.physics.fan_beam import adjoint_project, filtered_backprojection, forward_project
from pipeline.physics.fan_beam_geometry import FanBeam
from pipeline.physics.fan_beam_torch import TorchProjector
from pipeline.physics.fan_beam_torch import forward_project as forward_project_torch

#: Half of the clinical geometry in each direction.
GEOMETRY = FanBeam(detectors=368, views=360)
SIZE = 256
PIXEL_MM = (1.4, 1.4)
Ellipse = tuple[tuple[float, float], tuple[float, float]]

DISC: Ellipse = ((0.0, 0.0), (120.0, 120.0))
OFF_CENTRE: Ellipse = ((35.0, -20.0), (90.0, 60.0))


def rays(geometry: FanBeam) -> tuple[NDArray, NDArray]:
    """Source positions [views, 1, 2] and unit directions [views, detectors, 2], as (x, y)."""
    beta = geometry.view_angles_rad
    source = geometry.source_to_isocentre_mm * np.stack([np.cos(beta), np.sin(beta)], axis=-1)
    angle = beta[:, None] + math.pi + geometry.detector_angles_rad
    return source[:, None], np.stack([np.cos(angle), np.sin(angle)], axis=-1)


def chords_mm(ellipse: Ellipse, geometry: FanBeam) -> NDArray:
    """The length of every ray inside an ellipse: where it meets the unit circle once scaled."""
    centre, half_axes = np.array(ellipse[0]), np.array(ellipse[1])
    source, direction = rays(geometry)
    source, direction = (source - centre) / half_axes, direction / half_axes
    a = (direction**2).sum(-1)
    b = (source * direction).sum(-1)
    c = (source**2).sum(-1) - 1
    return 2 * np.sqrt(np.maximum(b * b - a * c, 0)) / a


def raster(
    ellipse: Ellipse, *, shape: tuple[int, int], pixel_mm: tuple[float, float]
) -> NDArray[np.float32]:
    """Coverage of each pixel by the ellipse, from 8 x 8 points in each."""
    fine = 8
    y, x = (
        ((np.arange(count * fine) + 0.5) / fine - count / 2) * mm
        for count, mm in zip(shape, pixel_mm, strict=True)
    )
    (x0, y0), (a, b) = ellipse
    inside = ((x[None] - x0) / a) ** 2 + ((y[:, None] - y0) / b) ** 2 <= 1
    blocks = inside.reshape(shape[0], fine, shape[1], fine)
    return blocks.mean(axis=(1, 3)).astype(np.float32)


def positions_mm(shape: tuple[int, int], pixel_mm: tuple[float, float]) -> tuple[NDArray, NDArray]:
    """(x, y) of every pixel."""
    rows, columns = np.indices(shape)
    x = (columns - (shape[1] - 1) / 2) * pixel_mm[1]
    return x, (rows - (shape[0] - 1) / 2) * pixel_mm[0]


@pytest.mark.parametrize("ellipse", [DISC, OFF_CENTRE])
@pytest.mark.parametrize(
    ("shape", "pixel_mm"),
    [((SIZE, SIZE), PIXEL_MM), ((260, 360), (1.3, 0.9))],
    ids=["square", "oblong"],
)
def test_line_integrals_have_the_closed_form(
    ellipse: Ellipse, shape: tuple[int, int], pixel_mm: tuple[float, float]
) -> None:
    image = raster(ellipse, shape=shape, pixel_mm=pixel_mm) * np.float32(MU_WATER_PER_MM)
    found = forward_project(image[None], spacing_mm=pixel_mm, geometry=GEOMETRY)[0]
    expected = chords_mm(ellipse, GEOMETRY) * MU_WATER_PER_MM
    assert found.shape == (GEOMETRY.views, GEOMETRY.detectors)
    # Near the edge a pixel is a large part of the chord.
    inner = expected > 0.7 * expected.max(axis=1, keepdims=True)
    error = found[inner] / expected[inner] - 1
    assert np.abs(error).max() < 0.005
    assert abs(error.mean()) < 5e-4
    # Rays that pass by at more than a pixel see nothing.
    wider = (ellipse[0], (ellipse[1][0] + 3, ellipse[1][1] + 3))
    assert (found[chords_mm(wider, GEOMETRY) == 0] == 0).all()


@pytest.mark.parametrize("ellipse", [DISC, OFF_CENTRE])
def test_water_is_0_hu_and_air_minus_1000(ellipse: Ellipse) -> None:
    geometry = FanBeam(detectors=368, views=576)
    # From the exact line integrals, so that this is the reconstruction's error alone.
    sinogram = (chords_mm(ellipse, geometry) * MU_WATER_PER_MM).astype(np.float32)
    mu = filtered_backprojection(
        sinogram[None], shape=(SIZE, SIZE), spacing_mm=PIXEL_MM, geometry=geometry
    )[0]
    image_hu = mu_per_mm_to_hu_difference(mu) - 1000
    x, y = positions_mm((SIZE, SIZE), PIXEL_MM)
    (x0, y0), (a, b) = ellipse
    reach = np.hypot((x - x0) / a, (y - y0) / b)
    seen = np.hypot(x, y) < 160
    for inner, outer in ((0.0, 0.3), (0.3, 0.6), (0.6, 0.9)):
        assert abs(image_hu[(reach >= inner) & (reach < outer)].mean()) < 2
    assert abs(image_hu[(reach > 1.1) & seen].mean() + 1000) < 2
    # No cupping, no shading: pixel by pixel too, away from the edge.
    assert np.percentile(np.abs(image_hu[reach < 0.9]), 99) < 5


@pytest.mark.parametrize(
    ("shape", "pixel_mm"), [((128, 128), (5.0, 5.0)), ((120, 150), (5.0, 4.0))]
)
def test_outside_the_field_of_view_is_zero(
    shape: tuple[int, int], pixel_mm: tuple[float, float]
) -> None:
    sinogram = np.ones((1, GEOMETRY.views, GEOMETRY.detectors), dtype=np.float32)
    mu = filtered_backprojection(sinogram, shape=shape, spacing_mm=pixel_mm, geometry=GEOMETRY)[0]
    x, y = positions_mm(shape, pixel_mm)
    outside = np.hypot(x, y) > GEOMETRY.field_of_view_radius_mm
    assert outside.any()
    assert (mu[outside] == 0).all()
    assert (mu[~outside] != 0).mean() > 0.99


@pytest.mark.parametrize(
    ("shape", "pixel_mm"),
    [((SIZE, SIZE), PIXEL_MM), ((180, 300), (1.7, 1.1))],
    ids=["square", "oblong"],
)
@pytest.mark.parametrize("place_mm", [(0.0, 0.0), (62.3, -41.7), (-80.9, -33.1)])
def test_a_point_stays_where_it_is(
    shape: tuple[int, int], pixel_mm: tuple[float, float], place_mm: tuple[float, float]
) -> None:
    x, y = positions_mm(shape, pixel_mm)
    distance_mm = np.hypot(x - place_mm[0], y - place_mm[1])
    blob = np.exp(-0.5 * (distance_mm / 4) ** 2).astype(np.float32)
    sinogram = forward_project(blob[None], spacing_mm=pixel_mm, geometry=GEOMETRY)
    image = filtered_backprojection(sinogram, shape=shape, spacing_mm=pixel_mm, geometry=GEOMETRY)[
        0
    ]
    weight = image * (distance_mm < 16)
    found = (weight * x).sum() / weight.sum(), (weight * y).sum() / weight.sum()
    np.testing.assert_allclose(found, place_mm, atol=0.05 * min(pixel_mm))
    # Two linear interpolations widen a blob of 4 mm by some percent.
    assert image.max() == pytest.approx(0.95, abs=0.05)
    assert weight.sum() == pytest.approx(blob.sum(), rel=0.01)


@pytest.mark.parametrize("view", [0, 57, 90, 200])
def test_each_view_is_smeared_back_along_its_own_rays(view: int) -> None:
    """Over a full turn a shifted detector only blurs; one view alone gives it away."""
    place_mm = (-50.0, 35.0)
    x, y = positions_mm((SIZE, SIZE), PIXEL_MM)
    blob = np.exp(-0.5 * ((x - place_mm[0]) ** 2 + (y - place_mm[1]) ** 2) / 4**2)
    sinogram = forward_project(
        blob[None].astype(np.float32), spacing_mm=PIXEL_MM, geometry=GEOMETRY
    )
    one_view = np.zeros_like(sinogram)
    one_view[:, view] = sinogram[:, view]
    image = filtered_backprojection(
        one_view, shape=(SIZE, SIZE), spacing_mm=PIXEL_MM, geometry=GEOMETRY
    )[0]
    ray = np.array(place_mm) - rays(GEOMETRY)[0][view, 0]
    ray /= np.linalg.norm(ray)
    offset_x, offset_y = x - place_mm[0], y - place_mm[1]
    aside_mm = offset_x * -ray[1] + offset_y * ray[0]
    weight = np.where(np.hypot(offset_x, offset_y) < 8, image.clip(min=0), 0)
    assert abs((weight * aside_mm).sum() / weight.sum()) < 0.1


def test_an_empty_image_stays_empty() -> None:
    nothing = np.zeros((2, 64, 48), dtype=np.float32)
    sinogram = forward_project(nothing, spacing_mm=(4, 4), geometry=GEOMETRY)
    assert sinogram.shape == (2, GEOMETRY.views, GEOMETRY.detectors)
    assert (sinogram == 0).all()
    image = filtered_backprojection(sinogram, shape=(64, 48), spacing_mm=(4, 4), geometry=GEOMETRY)
    assert image.shape == (2, 64, 48)
    assert (image == 0).all()


def test_projection_is_linear_and_keeps_the_slices_apart() -> None:
    image = np.random.default_rng(0).random((3, 64, 64), dtype=np.float32)
    image[1] = 2 * image[0]
    found = forward_project(image, spacing_mm=(4, 4), geometry=GEOMETRY)
    np.testing.assert_allclose(found[1], 2 * found[0], rtol=1e-5)
    alone = forward_project(image[2:], spacing_mm=(4, 4), geometry=GEOMETRY)
    np.testing.assert_allclose(found[2:], alone, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("slices_per_block", [1, 2, 5])
def test_the_block_size_changes_nothing(
    monkeypatch: pytest.MonkeyPatch, slices_per_block: int
) -> None:
    geometry = FanBeam(detectors=92, views=90)
    image = np.random.default_rng(0).random((5, 48, 40), dtype=np.float32)

    def there_and_back() -> tuple[NDArray, NDArray]:
        sinogram = forward_project(image, spacing_mm=(6, 6), geometry=geometry)
        return sinogram, filtered_backprojection(
            sinogram, shape=(48, 40), spacing_mm=(6, 6), geometry=geometry
        )

    sinogram, back = there_and_back()
    monkeypatch.setattr(fan_beam, "SLICES_PER_BLOCK", slices_per_block)
    sinogram_in_blocks, back_in_blocks = there_and_back()
    np.testing.assert_allclose(sinogram_in_blocks, sinogram, rtol=1e-5, atol=1e-4)
    np.testing.assert_allclose(back_in_blocks, back, atol=1e-4 * np.abs(back).max())


def test_a_lower_cutoff_lowers_the_noise_and_keeps_the_signal() -> None:
    rng = np.random.default_rng(0)
    shape = (1, GEOMETRY.views, GEOMETRY.detectors)
    noise = rng.standard_normal(shape, dtype=np.float32)
    disc = chords_mm(DISC, GEOMETRY).astype(np.float32)[None]
    options = {"shape": (128, 128), "spacing_mm": (2.0, 2.0), "geometry": GEOMETRY}
    x, y = positions_mm((128, 128), (2.0, 2.0))
    centre = np.hypot(x, y) < 80
    deviations, means = [], []
    for cutoff in (math.inf, 0.7, 0.4):
        image = filtered_backprojection(noise, cutoff=cutoff, **options)[0]
        deviations.append(image[centre].std())
        means.append(filtered_backprojection(disc, cutoff=cutoff, **options)[0][centre].mean())
    assert deviations[1] < 0.7 * deviations[0]
    assert deviations[2] < 0.7 * deviations[1]
    np.testing.assert_allclose(means, 1, atol=0.002)


@pytest.mark.parametrize("cutoff", [0.0, -0.5, math.nan])
def test_a_cutoff_outside_its_range_is_refused(cutoff: float) -> None:
    sinogram = np.zeros((1, GEOMETRY.views, GEOMETRY.detectors), dtype=np.float32)
    with pytest.raises(ConfigError, match="cutoff"):
        filtered_backprojection(
            sinogram, shape=(16, 16), spacing_mm=(1, 1), geometry=GEOMETRY, cutoff=cutoff
        )


@pytest.mark.parametrize(
    "settings", [{"detectors": 1}, {"views": 0}, {"fan_angle_rad": 0.0}, {"fan_angle_rad": 2.0}]
)
def test_an_impossible_geometry_is_refused(settings: dict) -> None:
    with pytest.raises(ConfigError):
        FanBeam(**settings)


def test_the_clinical_field_of_view_is_251_mm() -> None:
    assert FanBeam().field_of_view_radius_mm == pytest.approx(251.2, abs=0.1)


def test_a_single_slice_without_its_axis_is_refused() -> None:
    with pytest.raises(ValueError, match="3 axes"):
        forward_project(np.zeros((16, 16), np.float32), spacing_mm=(1, 1), geometry=GEOMETRY)


@pytest.mark.parametrize(
    ("shape", "pixel_mm"), [((64, 64), (4.0, 4.0)), ((50, 80), (7.0, 5.0))], ids=["square", "wide"]
)
def test_the_adjoint_is_the_projector_s_transpose(
    shape: tuple[int, int], pixel_mm: tuple[float, float]
) -> None:
    rng = np.random.default_rng(0)
    image = rng.standard_normal((2, *shape), dtype=np.float32)
    sinogram = rng.standard_normal((2, GEOMETRY.views, GEOMETRY.detectors), dtype=np.float32)
    projected = forward_project(image, spacing_mm=pixel_mm, geometry=GEOMETRY)
    smeared = adjoint_project(sinogram, shape=shape, spacing_mm=pixel_mm, geometry=GEOMETRY)
    there = np.vdot(projected.astype(np.float64), sinogram)
    back = np.vdot(image.astype(np.float64), smeared)
    # Signs are random: against the norms, not against a sum that nearly cancels.
    assert abs(there - back) < 1e-6 * np.linalg.norm(projected) * np.linalg.norm(sinogram)
    assert there == pytest.approx(back, rel=1e-3)


@pytest.mark.parametrize("pixel_mm", [(5.0, 6.0), (12.0, 14.0)], ids=["inside", "past the fan"])
@pytest.mark.parametrize("cutoff", [math.inf, 0.7])
def test_torch_agrees_with_numba(pixel_mm: tuple[float, float], cutoff: float) -> None:
    geometry = FanBeam(detectors=92, views=90)
    image = np.random.default_rng(0).random((3, 48, 40), dtype=np.float32)
    there = {"spacing_mm": pixel_mm, "geometry": geometry}
    back = {**there, "shape": (48, 40), "cutoff": cutoff}
    on_torch = TorchProjector("cpu")
    sinogram = forward_project(image, **there)
    found = on_torch.forward_project(image, **there)
    np.testing.assert_allclose(found, sinogram, atol=1e-5 * sinogram.max())
    expected = filtered_backprojection(sinogram, **back)
    found = on_torch.filtered_backprojection(sinogram, **back)
    np.testing.assert_allclose(found, expected, atol=1e-5 * np.abs(expected).max())


def test_autograd_gives_the_adjoint() -> None:
    geometry = FanBeam(detectors=92, views=30)
    options = {"spacing_mm": (5.0, 6.0), "geometry": geometry}
    sinogram = np.random.default_rng(0).standard_normal((2, 30, 92), dtype=np.float32)
    image = torch.zeros((2, 48, 40), requires_grad=True)
    (forward_project_torch(image, **options) * torch.as_tensor(sinogram)).sum().backward()
    expected = adjoint_project(sinogram, shape=(48, 40), **options)
    assert image.grad is not None
    np.testing.assert_allclose(image.grad, expected, atol=1e-5 * np.abs(expected).max())


def test_a_softer_kernel_blurs_as_its_window_says() -> None:
    """The transfer function of a narrow Gaussian, image over object, is the Hann window."""
    geometry = FanBeam(detectors=736, views=720)
    cutoff, sigma_mm, pixel_mm = 0.8, 0.7, 0.4
    # Exact line integrals of a Gaussian on the axis: every view is the same.
    distance_mm = geometry.source_to_isocentre_mm * np.sin(geometry.detector_angles_rad)
    profile = np.exp(-0.5 * (distance_mm / sigma_mm) ** 2) * sigma_mm * math.sqrt(2 * math.pi)
    sinogram = np.broadcast_to(profile, (1, geometry.views, geometry.detectors))
    size = 101
    image = filtered_backprojection(
        sinogram.astype(np.float32),
        shape=(size, size),
        spacing_mm=(pixel_mm, pixel_mm),
        geometry=geometry,
        cutoff=cutoff,
    )[0]
    line = image.sum(axis=0).astype(np.float64) * pixel_mm  # the slice theorem: a projection
    frequency = np.array([0.05, 0.1, 0.2, 0.3, 0.4])
    x = (np.arange(size) - size // 2) * pixel_mm
    seen = np.cos(2 * math.pi * frequency[:, None] * x) @ line * pixel_mm
    object_ = 2 * math.pi * sigma_mm**2 * np.exp(-2 * (math.pi * frequency * sigma_mm) ** 2)
    relative = frequency / geometry.nyquist_per_mm
    window = 0.5 + 0.5 * np.cos(math.pi * np.minimum(relative / cutoff, 1))
    # Interpolation between detector cells blurs a little more, as sinc^2.
    np.testing.assert_allclose(seen / object_, window * np.sinc(relative / 2) ** 2, atol=0.02)
