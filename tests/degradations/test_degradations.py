"""Degradations of images: known answers, adjoints by the dot-product test, and seeds."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from helpers.images import volume_of

from pipeline.config.component import build
from pipeline.config.sections import Component
from pipeline.degradations.base import Chain, Degradation, GaussianNoise, Linear
from pipeline.degradations.blur import (
    Blur,
    DefocusBlur,
    GaussianBlur,
    MotionBlur,
    SharpKernel,
)
from pipeline.degradations.ct import LimitedAngle, MetalStreaks, MissingViews, Rings, SparseView
from pipeline.degradations.holes import (
    BoxHole,
    FreeFormHole,
    Hole,
    MissingLines,
    MissingPixels,
    SquareHoles,
)
from pipeline.degradations.labels import ImageToEdges, ImageToLabels
from pipeline.degradations.noise import GaussianNoiseRange, PoissonNoise, SaltAndPepper, Speckle
from pipeline.degradations.pictures import Grey, Jpeg, OldPhotograph
from pipeline.degradations.resolution import Downsample

NAME = "pipeline.degradations."
SMALL = {"detectors": 96, "views": 72}
LINEAR: list[Linear] = [
    GaussianBlur(1.3),
    MotionBlur(7, 30),
    DefocusBlur(2.5),
    SharpKernel(2.0, sigma=1.2),
    *(Downsample(scale, method=how) for scale in (2, 4, 8) for how in ("bicubic", "area")),
    BoxHole(0.3),
    SquareHoles(9, share=0.3),
    FreeFormHole(0.2),
    MissingLines(0.3),
    MissingPixels(0.5),
    Grey(),
    Chain(
        [
            {"target": NAME + "blur.GaussianBlur", "args": {"sigma": 1}},
            {"target": NAME + "resolution.Downsample", "args": {"scale": 2}},
            {"target": NAME + "pictures.Grey", "args": {}},
        ]
    ),
]
ALL: list[Degradation] = [
    *LINEAR,
    GaussianNoiseRange(5, 50),
    PoissonNoise(30),
    SaltAndPepper(0.1),
    Speckle(0.1),
    Jpeg(10),
    OldPhotograph(),
    ImageToLabels([85, 170], [40, 128, 215], sigma=1),
    ImageToEdges(sigma=1, threshold=20),
    SparseView(24, **SMALL),
    LimitedAngle(120, **SMALL),
    MetalStreaks(**SMALL),
    Rings(**SMALL),
]


def named(item: object) -> str:
    return type(item).__name__ + str(getattr(item, "scale", ""))


def picture(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(0, 255, shape).astype(np.float32)


def seeded() -> np.random.Generator:
    return np.random.default_rng(7)


def flat(level: float, side: int = 64) -> np.ndarray:
    return np.full((3, side, side), level, dtype=np.float32)


@pytest.mark.parametrize("linear", LINEAR, ids=named)
def test_the_adjoint_is_the_transpose(linear: Linear) -> None:
    """<H x, y> = <x, H' y> for sides that no scale divides."""
    image = picture(3, 45, 38)
    operator = linear.operator(image.shape, seeded())
    degraded = operator.forward(image)
    assert degraded.shape == operator.shape
    other = picture(*operator.shape, seed=1)
    back = operator.adjoint(other)
    assert back.shape == image.shape
    assert np.vdot(degraded, other) == pytest.approx(np.vdot(image, back), rel=1e-4)


@pytest.mark.parametrize("scan", [SparseView(24, **SMALL), LimitedAngle(120, **SMALL)], ids=named)
def test_the_adjoint_of_a_scan_is_the_transpose(scan: MissingViews) -> None:
    image = picture(2, 40, 33)
    operator = scan.operator(image.shape, (2.0, 2.5))
    sinogram = operator.forward(image)
    assert sinogram.shape == operator.shape == (2, 24, 96)
    other = picture(*operator.shape, seed=1)
    assert np.vdot(sinogram, other) == pytest.approx(
        np.vdot(image, operator.adjoint(other)), rel=1e-4
    )


@pytest.mark.parametrize("degradation", ALL, ids=named)
def test_the_same_seed_degrades_in_the_same_way(degradation: Degradation) -> None:
    image = picture(3, 64, 64)
    before = image.copy()
    once = degradation.degrade(image, seeded())
    np.testing.assert_array_equal(once, degradation.degrade(image, seeded()))
    np.testing.assert_array_equal(image, before)
    assert once.dtype == np.float32
    rows, columns = once.shape[-2:]
    assert (rows, columns) == (64 // degradation.scale, 64 // degradation.scale)
    assert once.shape[0] == degradation.channels(3)
    assert bool(np.isnan(once).any()) is degradation.hides


@pytest.mark.parametrize("degradation", [c for c in LINEAR if not c.hides], ids=named)
def test_what_lies_beyond_its_reach_does_not_matter(degradation: Linear) -> None:
    """The middle of a piece cut with a margin is the middle of the degraded picture."""
    reach, scale = degradation.reach, degradation.scale
    assert reach is not None
    image = picture(3, 128, 128)
    margin = -(-reach // scale) * scale
    whole = degradation.degrade(image, seeded())
    piece = degradation.degrade(image[:, 32 - margin : 96 + margin, 32 - margin :], seeded())
    cut, side = margin // scale, 64 // scale
    at = 32 // scale
    np.testing.assert_allclose(
        piece[:, cut : cut + side, cut : cut + side],
        whole[:, at : at + side, at : at + side],
        atol=1e-2,
    )


@pytest.mark.parametrize(
    ("noise", "deviation"),
    [
        (GaussianNoise(10), 10),
        (PoissonNoise(30), (100 * 255 / 30) ** 0.5),
        (Speckle(0.1), 10),
        # Half of 1 pixel in 5 gains 155, the other half loses 100.
        (SaltAndPepper(0.2), (0.1 * 155**2 + 0.1 * 100**2 - (0.1 * 155 - 0.1 * 100) ** 2) ** 0.5),
    ],
    ids=named,
)
def test_noise_has_its_size(noise: Degradation, deviation: float) -> None:
    degraded = noise.degrade(flat(100, 256), seeded())
    assert degraded.std() == pytest.approx(deviation, rel=0.03)
    shift = 5.5 if isinstance(noise, SaltAndPepper) else 0
    assert degraded.mean() == pytest.approx(100 + shift, abs=0.6)


@pytest.mark.parametrize("blur", [GaussianBlur(1.5), MotionBlur(9, 20), DefocusBlur(3)], ids=named)
def test_a_blur_keeps_the_mean_and_shows_its_kernel(blur: Blur) -> None:
    np.testing.assert_allclose(blur.degrade(flat(80), seeded()), 80, rtol=1e-5)
    point = np.zeros((1, 41, 41), dtype=np.float32)
    point[0, 20, 20] = 1
    spread = blur.degrade(point, seeded())[0]
    reach = blur.kernel.shape[0] // 2
    seen = spread[20 - reach : 21 + reach, 20 - reach : 21 + reach]
    np.testing.assert_allclose(seen, blur.kernel, atol=1e-6)


def test_blurs_are_as_wide_as_they_say() -> None:
    def variance(kernel: np.ndarray, axis: int) -> float:
        places = np.arange(len(kernel)) - len(kernel) // 2
        return float((kernel.sum(axis=1 - axis) * places**2).sum())

    assert variance(GaussianBlur(1.5).kernel, 0) == pytest.approx(1.5**2, rel=0.02)
    assert variance(DefocusBlur(4).kernel, 1) == pytest.approx(4**2 / 4, rel=0.03)
    along, across = (variance(MotionBlur(13).kernel, axis) for axis in (1, 0))
    assert along == pytest.approx(12**2 / 12, rel=0.08)
    assert across == pytest.approx(0, abs=1e-6)
    upright = MotionBlur(13, 90).kernel
    np.testing.assert_allclose(upright, MotionBlur(13, 0).kernel.T, atol=1e-6)


def test_a_sharp_kernel_keeps_the_mean_and_lifts_the_rest() -> None:
    """A wave of f cycles a pixel grows by the kernel's frequency response there."""
    frequency, sigma, boost = 0.125, 1.2, 2.0
    wave = np.cos(2 * np.pi * frequency * np.arange(128, dtype=np.float32))
    image = np.broadcast_to(50 + 10 * wave, (1, 128, 128)).astype(np.float32)
    sharp = SharpKernel(boost, sigma=sigma).degrade(image, np.random.default_rng(0))
    inside = sharp[0, 16:112, 16:112]  # 12 whole periods
    assert inside.mean() == pytest.approx(50, abs=0.01)
    response = 1 + boost * (1 - np.exp(-2 * (np.pi * sigma * frequency) ** 2))
    assert inside.std() == pytest.approx(10 / np.sqrt(2) * response, rel=0.01)


def test_a_label_map_holds_the_values_of_its_classes() -> None:
    ramp = np.broadcast_to(np.arange(90, dtype=np.float32), (1, 60, 90))
    classes = ImageToLabels([30, 60], [1, 5, 9], sigma=1).degrade(ramp, np.random.default_rng(0))
    expected = np.repeat([1, 5, 9], 30)
    assert (classes[0, :, 2:-2] == expected[2:-2]).mean() > 0.97
    assert set(np.unique(classes)) == {1, 5, 9}
    speck = np.full((1, 21, 21), 20, dtype=np.float32)
    speck[0, 10, 10] = 100  # texture, no region
    assert (
        ImageToLabels([30], [0, 1], sigma=2).degrade(speck, np.random.default_rng(0)) == 0
    ).all()


def test_edges_are_thin_lines_where_the_luma_steps() -> None:
    picture = flat(40)
    picture[:, :, 30:] = 200
    edges = ImageToEdges(sigma=1.5, threshold=20).degrade(picture, seeded())
    assert edges.shape == (1, 64, 64)
    assert set(np.unique(edges)) == {0, 255}
    assert set(np.nonzero(edges[0, 8:-8])[1]) <= {29, 30}
    assert ((edges[0, 8:-8] > 0).sum(axis=1) == 1).all()
    shade = np.broadcast_to(np.linspace(40, 60, 64, dtype=np.float32), (3, 64, 64))
    assert not ImageToEdges().degrade(shade, seeded()).any()


def test_an_edge_of_a_piece_is_one_of_the_whole() -> None:
    edges, image = ImageToEdges(sigma=1.5, threshold=20), picture(3, 128, 128)
    whole = edges.degrade(image, seeded())[0, 32:96, 32:96]
    margin = edges.reach
    assert margin is not None
    piece = edges.degrade(image[:, 32 - margin : 96 + margin, 32 - margin : 96 + margin], seeded())
    np.testing.assert_array_equal(piece[0, margin:-margin, margin:-margin], whole)


def test_square_holes_have_one_size_in_every_picture() -> None:
    for side in (200, 300):
        unknown = np.isnan(SquareHoles(64, share=0.01).degrade(flat(9, side), seeded()))[0]
        assert unknown.sum() == 64**2
    small = np.isnan(SquareHoles(64).degrade(flat(9, 40), seeded()))[0]
    assert small.sum() == 20**2


def test_fewer_pixels_show_the_same() -> None:
    ramp = np.broadcast_to(np.arange(64, dtype=np.float32), (1, 64, 64))
    for method in ("area", "bicubic"):
        half = Downsample(4, method=method).degrade(ramp, seeded())
        np.testing.assert_allclose(half[0, 5, 2:-2], np.arange(1.5, 64, 4)[2:-2], atol=0.02)
    with pytest.raises(ValueError, match="3 pixels a side"):
        Downsample(4).degrade(flat(1, 3), seeded())


@pytest.mark.parametrize(
    ("hole", "share"),
    [(BoxHole(0.5), 0.25), (FreeFormHole(0.2), 0.2), (MissingLines(0.25), 0.25)],
    ids=named,
)
def test_holes_are_as_large_as_they_say(hole: Hole, share: float) -> None:
    degraded = hole.degrade(flat(9, 96), seeded())
    unknown = np.isnan(degraded)
    assert unknown.mean() == pytest.approx(share, abs=0.03)
    assert (unknown == unknown[:1]).all()
    assert (degraded[~unknown] == 9).all()


def test_lines_are_missing_whole() -> None:
    unknown = np.isnan(MissingLines(0.25).degrade(flat(9), seeded()))[0]
    assert set(unknown.mean(axis=1)) == {0.0, 1.0}


def test_grey_is_luma_and_in_lab_the_lightness() -> None:
    colour = np.stack([np.full((4, 4), level, dtype=np.float32) for level in (255, 0, 0)])
    assert Grey().degrade(colour, seeded()) == pytest.approx(0.2125 * 255)
    assert Grey([1, 0, 0]).degrade(colour, seeded()) == pytest.approx(255)
    with pytest.raises(ValueError, match="3 channels, got 1"):
        Grey().degrade(colour[:1], seeded())


def test_jpeg_loses_more_at_lower_quality_and_nothing_on_a_flat_picture() -> None:
    image = picture(3, 64, 64)
    lost = [np.abs(Jpeg(q).degrade(image, seeded()) - image).mean() for q in (90, 50, 10)]
    assert lost[0] < lost[1] < lost[2]
    np.testing.assert_allclose(Jpeg(10).degrade(flat(128), seeded()), 128, atol=1)
    assert Jpeg(50).degrade(image[:1], seeded()).shape == (1, 64, 64)


def test_a_print_fades_towards_its_paper_and_is_scratched() -> None:
    faded = OldPhotograph(blur_sigma=0.3, grain=0, scratches=0)
    shades = [faded.degrade(flat(level), seeded())[0, 0, 0] for level in (0, 255)]
    assert 0.6 * 255 <= shades[1] - shades[0] <= 255
    plain = OldPhotograph(fading=0, grain=0, scratches=0, blur_sigma=0.3)
    scratched = OldPhotograph(fading=0, grain=0, scratches=6, blur_sigma=0.3)
    assert plain.degrade(flat(128, 256), seeded()) == pytest.approx(128)
    marked = np.abs(scratched.degrade(flat(128, 256), seeded())[0] - 128) > 20
    assert 0.001 < marked.mean() < 0.1


# CT


def disk_hu(side: int = 128) -> np.ndarray:
    rows, columns = np.ogrid[:side, :side]
    inside = np.hypot(rows - side / 2, columns - side / 2) < side * 0.35
    return np.where(inside, 40.0, -1000.0).astype(np.float32)[None]


def error_of(degradation: Degradation, image_hu: np.ndarray) -> np.ndarray:
    return degradation.degrade(image_hu, seeded()) - image_hu


def test_fewer_views_are_worse_and_all_views_are_none() -> None:
    image_hu, scan = disk_hu(), {"detectors": 192, "views": 180}
    errors = [error_of(SparseView(keep, **scan), image_hu).std() for keep in (180, 60, 20)]
    assert errors[0] == 0
    assert 5 < errors[1] < errors[2]
    inside = error_of(SparseView(60, **scan), image_hu)[0, 50:78, 50:78]
    assert abs(inside.mean()) < 5


def test_a_short_arc_blurs_what_its_rays_do_not_run_along() -> None:
    image_hu = disk_hu()
    scan = {"detectors": 192, "views": 180}
    short, long = (error_of(LimitedAngle(a, **scan), image_hu).std() for a in (100, 350))
    assert long < 0.7 * short


def test_metal_is_bright_and_streaks_reach_beyond_it() -> None:
    image_hu = disk_hu()
    error = error_of(MetalStreaks(pieces=1, detectors=192, views=180), image_hu)[0]
    assert error.max() > 1500
    far = np.abs(error) > 5
    assert far.mean() > 0.1
    air = np.full_like(image_hu, -1000)
    np.testing.assert_allclose(error_of(MetalStreaks(**SMALL), air), 0)


def test_rings_are_round() -> None:
    error = error_of(Rings(0.02, detectors=192, views=180), disk_hu(129))[0]
    for quarter in (1, 2, 3):
        np.testing.assert_allclose(np.rot90(error, quarter), error, atol=0.05 * np.abs(error).max())


def test_padding_and_the_spacing_of_a_series_count() -> None:
    volume = volume_of(disk_hu())
    volume.valid[:, :20] = False
    degraded = SparseView(24, **SMALL)(volume, seeded())
    np.testing.assert_array_equal(degraded[:, :20], volume.image_hu[:, :20])
    assert not np.array_equal(degraded[:, 40:], volume.image_hu[:, 40:])


# Together


def test_a_chain_is_one_after_the_other() -> None:
    chain = build_chain(("blur.GaussianBlur", {"sigma": 1}), ("noise.Speckle", {"sigma": 0.1}))
    image, generator = picture(1, 32, 32), seeded()
    by_hand = Speckle(0.1).degrade(GaussianBlur(1).degrade(image, generator), generator)
    np.testing.assert_array_equal(chain.degrade(image, seeded()), by_hand)
    with pytest.raises(TypeError, match="Speckle is not linear"):
        chain.operator(image.shape, seeded())


def test_a_chain_adds_up_what_its_parts_say() -> None:
    blur = ("blur.GaussianBlur", {"sigma": 1})
    chain = build_chain(("resolution.Downsample", {"scale": 2}), blur, ("holes.BoxHole", {}))
    assert (chain.scale, chain.reach, chain.hides) == (2, 4 * 2 + 4, True)
    assert build_chain(blur, ("ct.Rings", SMALL)).reach is None
    assert build_chain(("pictures.Grey", {})).channels(3) == 1


def build_chain(*parts: tuple[str, dict[str, Any]]) -> Chain:
    args = {"parts": [{"target": NAME + name, "args": given} for name, given in parts]}
    component = Component(target="pipeline.degradations.base.Chain", args=args)
    return build(component, key="degradation", base=Degradation)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: PoissonNoise(0), "quanta"),
        (lambda: SaltAndPepper(2), "share"),
        (lambda: Speckle(-1), "sigma"),
        (lambda: GaussianBlur(0), "sigma"),
        (lambda: MotionBlur(0.5), "length"),
        (lambda: DefocusBlur(0), "radius"),
        (lambda: Downsample(1), "scale"),
        (lambda: BoxHole(1), "share"),
        (lambda: SquareHoles(0), "side"),
        (lambda: ImageToEdges(threshold=0), "threshold"),
        (lambda: ImageToEdges().channels(2), "1 or 3 channels"),
        (lambda: Jpeg(0), "quality"),
        (lambda: OldPhotograph(fading=1), "fading"),
        (lambda: SparseView(7, views=24), "divide the 24 views"),
        (lambda: LimitedAngle(0), "arc_degrees"),
        (lambda: Rings(-1), "error"),
        (lambda: Chain([]), "at least one part"),
    ],
)
def test_what_makes_no_sense_is_named(make: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()
