"""Dose sweeps whose answer is known, and the noise they are made of."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage

from pipeline.core.errors import ConfigError, LdctError
from pipeline.core.units import hu_to_mu_per_mm, mu_per_mm_to_hu_difference
from pipeline.metrics.bootstrap import times_drawn
from pipeline.physics.detector import Exposure
from pipeline.physics.fan_beam import FanBeam, filtered_backprojection, forward_project
from pipeline.physics.lowdose import LowDoseCT
from pipeline.physics.phantoms.image_quality import PhantomGrid, RodKind, water_phantom
from pipeline.quality.dose_equivalence import Denoiser, DoseSweep, dose_equivalence, slice_hu
from pipeline.quality.dose_sweep import Sweep, parse_doses
from pipeline.quality.dose_threshold import AT_LOWEST, NEVER, equivalent_dose, threshold_doses
from pipeline.quality.model_observer import bootstrap_d_prime, known_d_prime
from pipeline.quality.observer_channels import channel_outputs, laguerre_gauss
from pipeline.quality.phantom_metrics import phantom_figures
from pipeline.quality.phantom_scan import Scanner, scan, scan_each
from pipeline.quality.rois import cut_regions

GEOMETRY = FanBeam(detectors=368, views=240)
SCANNER = Scanner(photons_per_ray=1e5, electronic_noise=0.0, geometry=GEOMETRY)
SWEEP = Sweep(
    doses=(0.1, 0.25, 1.0),
    rods=(RodKind(4, 40), RodKind(8, 15)),
    regions=48,
    places=8,
    ring_radius_mm=32.0,
    body_radius_mm=55.0,
    grid=PhantomGrid(matrix=96, pixel_mm=1.25),
    region_pixels=17,
    channels=4,
    bootstraps=200,
)


def generator() -> np.random.Generator:
    return np.random.default_rng(11)


def water_scan(scanner: Scanner, realisations: int = 24) -> tuple[NDArray, NDArray]:
    """(image of water, standard deviation over realisations of each pixel at dose 0.1)."""
    image_hu = water_phantom(SWEEP.grid, body_radius_mm=55.0).volume.image_hu[0]
    images = scan(
        image_hu,
        pixel_mm=1.25,
        scanner=scanner,
        realisations=realisations,
        generator=generator(),
    )
    return image_hu, images.at_dose(0.1)


def inside(image: NDArray) -> NDArray:
    """The middle of the water."""
    return image[..., 24:72, 24:72]


def test_noise_is_that_of_counted_quanta() -> None:
    """Poisson counts plus electronics, logarithm, reconstruction: the deviation within 3 %."""
    scanner = replace(SCANNER, photons_per_ray=4e4, electronic_noise=30.0)
    image_hu, noisy_hu = water_scan(scanner)
    mu = hu_to_mu_per_mm(image_hu[None])
    integrals = forward_project(mu, spacing_mm=(1.25, 1.25), geometry=GEOMETRY)[0]
    sent = 0.1 * 4e4
    draw = np.random.default_rng(12)
    counts = draw.poisson(sent * np.exp(-integrals), (24, *integrals.shape))
    counts = counts + draw.standard_normal(counts.shape) * math.sqrt(30)
    counted = filtered_backprojection(
        -np.log(np.maximum(counts, 1) / sent).astype(np.float32),
        shape=(96, 96),
        spacing_mm=(1.25, 1.25),
        geometry=GEOMETRY,
    )
    expected_hu = inside(mu_per_mm_to_hu_difference(counted)).std(axis=0, ddof=1).mean()
    found_hu = inside(noisy_hu).std(axis=0, ddof=1).mean()
    assert found_hu == pytest.approx(expected_hu, rel=0.03)
    assert inside(noisy_hu).mean() == pytest.approx(0.0, abs=2.0)


def test_quanta_s_noise_falls_with_the_root_of_the_dose() -> None:
    image_hu = water_phantom(SWEEP.grid, body_radius_mm=55.0).volume.image_hu[0]
    options = {"pixel_mm": 1.25, "realisations": 2}
    images = scan(image_hu, scanner=SCANNER, generator=generator(), **options)
    noise = [images.at_dose(dose) - images.clean_hu for dose in (1.0, 0.25)]
    np.testing.assert_allclose(noise[1], 2 * noise[0], atol=1e-2)
    noisy = scan(
        image_hu,
        scanner=replace(SCANNER, electronic_noise=1e4),
        generator=generator(),
        **options,
    )
    electronic = [noisy.at_dose(d) - noisy.clean_hu for d in (1.0, 0.25)]
    ratio = inside(electronic[1]).std() / inside(electronic[0]).std()
    assert 2.5 < ratio < 4.0  # electronics alone would make it 4
    with pytest.raises(ConfigError, match="dose fraction"):
        images.at_dose(0.0)


def test_slices_scanned_together_are_those_scanned_in_turn() -> None:
    slices_hu = np.stack([slice_hu(kind, SWEEP) for kind in (None, SWEEP.rods[0])])
    options = {
        "pixel_mm": 1.25,
        "scanner": replace(SCANNER, electronic_noise=20.0),
        "realisations": 18,  # 74 sinograms: more than one block of them
    }
    together = scan_each(slices_hu, generator=generator(), **options)
    draws = generator()
    for found, image_hu in zip(together, slices_hu, strict=True):
        alone = scan(image_hu, generator=draws, **options)
        np.testing.assert_array_equal(found.at_dose(0.3), alone.at_dose(0.3))
        assert found.min_quanta == alone.min_quanta


def test_a_bowtie_takes_quanta_from_the_rim() -> None:
    _, plain = water_scan(SCANNER)
    _, filtered = water_scan(replace(SCANNER, exposure=Exposure(bowtie_mm=2000.0)))
    axis = SWEEP.grid.axis_mm
    rim = np.abs(np.hypot(axis[None], axis[:, None]) - 48) < 4
    centre = np.hypot(axis[None], axis[:, None]) < 8
    deviations = [image.std(axis=0) for image in (plain, filtered)]
    ratios = [d[rim].mean() / d[centre].mean() for d in deviations]
    assert ratios[0] < 0.95
    assert ratios[1] > 1.08 * ratios[0]


@cache
def clean_slices(sweep: Sweep) -> list[NDArray[np.float32]]:
    """Noiseless reconstructions in the order in which a sweep scans: water, then each rod."""
    return [
        scan(
            slice_hu(kind, sweep),
            pixel_mm=sweep.grid.pixel_mm,
            scanner=SCANNER,
            realisations=1,
            generator=generator(),
        ).clean_hu
        for kind in (None, *sweep.rods)
    ]


def oracle(noise_left: float, sweep: Sweep = SWEEP) -> Denoiser:
    """Knows the truth and leaves a share of the noise, in the order of a sweep's calls."""
    calls = iter([clean for clean in clean_slices(sweep) for _ in sweep.doses])

    def denoise(image_hu: NDArray[np.float32], dose: float) -> NDArray[np.float32]:
        clean = next(calls)
        return clean + np.float32(noise_left) * (image_hu - clean)

    return denoise


@cache
def sweep_with(name: str) -> dict:
    draw = np.random.default_rng(13)
    denoisers: dict[str, Denoiser] = {
        "half the noise": oracle(0.5),
        "nothing": lambda image_hu, dose: image_hu,
        "nothing left": lambda image_hu, dose: draw.normal(0, 60, image_hu.shape).astype(
            np.float32
        ),
    }
    found = dose_equivalence(denoisers[name], scanner=SCANNER, generator=generator(), sweep=SWEEP)
    assert DoseSweep.from_dict(found.to_dict()) == found
    return found.to_dict()


def test_d_prime_is_the_known_one_at_each_dose() -> None:
    """From the clean signal and the covariance of separate noise; d' goes as sqrt(dose)."""
    water, *with_rods = clean_slices(SWEEP)
    _, noise_hu = water_scan(SCANNER, realisations=60)
    cut = {"pixel_mm": 1.25, "size_pixels": 17}
    noise = cut_regions(noise_hu * math.sqrt(0.1), SWEEP.places_mm, **cut)
    for kind, clean, rod in zip(SWEEP.rods, with_rods, sweep_with("nothing")["rods"], strict=True):
        channels = laguerre_gauss(count=4, width_mm=1.5 * kind.diameter_mm, **cut)
        signal = cut_regions((clean - water)[None], SWEEP.places_mm, **cut)
        known = known_d_prime(
            channel_outputs(signal, channels).mean(axis=0),
            np.cov(channel_outputs(noise, channels).T),
        )
        assert 2 < known < 9, "a task too easy or too hard tells nothing"
        for point in rod["curve"]:
            low, high = point["undenoised"]["d_prime_interval"]
            assert low < known * math.sqrt(point["dose_fraction"]) < high
        aucs = [point["undenoised"]["auc"] for point in rod["curve"]]
        assert aucs == sorted(aucs)


def test_half_the_noise_is_worth_a_quarter_of_the_dose() -> None:
    result = sweep_with("half the noise")
    for rod in result["rods"]:
        assert rod["equivalent_dose"]["dose"] == pytest.approx(0.25, rel=0.02)
        assert rod["equivalent_dose"]["interval"] == pytest.approx([0.25, 0.25], rel=0.02)
    assert result["equivalent_dose_all_rods"]["dose"] == pytest.approx(0.25, rel=0.02)


def test_doing_nothing_needs_the_full_dose() -> None:
    for rod in sweep_with("nothing")["rods"]:
        for point in rod["curve"]:
            assert point["denoised"] == point["undenoised"]
        assert rod["equivalent_dose"]["dose"] == pytest.approx(1.0)
        assert rod["equivalent_dose"]["interval"] == pytest.approx([1.0, 1.0])


def test_a_denoiser_that_wipes_out_the_rods_never_gets_there() -> None:
    result = sweep_with("nothing left")
    for rod in result["rods"]:
        answer = rod["equivalent_dose"]
        assert answer["answer"] == "none"
        assert answer["dose"] is None
        assert answer["interval"] == [None, None]
        assert answer["share_of_replicates_none"] > 0.97
    assert result["equivalent_dose_all_rods"]["answer"] == "none"


def test_the_record_is_plain_and_states_its_conditions() -> None:
    record = json.loads(json.dumps(sweep_with("half the noise"), allow_nan=False))
    assert record["regions_with_rod"] == record["regions_without_rod"] == 48
    assert record["region_mm"] == pytest.approx(17 * 1.25)
    assert record["doses"] == [0.1, 0.25, 1.0]
    assert record["photons_per_ray_at_full_dose"] == 1e5
    assert record["kernel"] == "bare ramp"
    assert record["warnings"] == []
    assert record["rods"][0]["curve"][0]["denoised"]["present"] == 48


def test_without_a_denoiser_there_is_the_curve_alone() -> None:
    small = replace(SWEEP, doses=(0.5,), regions=16, rods=SWEEP.rods[:1], internal_noise=1.0)
    done: list[int] = []
    starved = replace(SCANNER, photons_per_ray=300.0)
    result = dose_equivalence(
        None, scanner=starved, generator=generator(), sweep=small, progress=done.append
    ).to_dict()
    assert result["doses"] == [0.5, 1.0]
    assert "denoised" not in result["rods"][0]["curve"][0]
    assert "equivalent_dose" not in result["rods"][0]
    assert "quanta" in result["warnings"][0]
    assert sum(done) == small.images == 2 * 2 * 2
    plain = dose_equivalence(
        None, scanner=starved, generator=generator(), sweep=replace(small, internal_noise=0.0)
    ).to_dict()
    d_prime = [r["rods"][0]["curve"][-1]["undenoised"]["d_prime"] for r in (result, plain)]
    assert d_prime[0] < d_prime[1]


def test_what_makes_no_sense_is_refused() -> None:
    with pytest.raises(ConfigError, match="doses"):
        replace(SWEEP, doses=(0.0, 1.0))
    with pytest.raises(ConfigError, match="overlap"):
        replace(SWEEP, places=16)
    with pytest.raises(ConfigError, match="positive"):
        Scanner(photons_per_ray=0)
    with pytest.raises(LdctError, match="denoiser"):
        dose_equivalence(
            lambda image_hu, dose: image_hu[:, 1:],
            scanner=SCANNER,
            generator=generator(),
            sweep=replace(SWEEP, regions=8),
        )
    with pytest.raises(LdctError, match="no noise"):
        dose_equivalence(
            lambda image_hu, dose: np.zeros_like(image_hu),
            scanner=SCANNER,
            generator=generator(),
            sweep=replace(SWEEP, regions=8),
        )


def test_thresholds_in_log_dose() -> None:
    doses = np.array([0.1, 0.25, 0.5, 1.0])
    root = np.sqrt(doses)
    curves = np.stack([2 * root, 3 * root, 0.9 * root, 4 * root, [3.0, 1.0, 1.0, 3.0]])
    found = threshold_doses(doses, curves, np.array([1.0, 1.0, 1.0, 1.0, 2.0]))
    assert found[0] == pytest.approx(0.25)
    assert found[1] == pytest.approx(1 / 9)
    assert found[2] == NEVER
    assert found[3] == AT_LOWEST
    # A curve that dips below again answers with where it comes up for good.
    assert found[4] == pytest.approx(0.5 * 2 ** (math.log(2) / math.log(3)))


def test_a_curve_that_differs_in_the_last_digits_is_the_same() -> None:
    doses, target = np.array([0.25, 1.0]), np.array([2.0, 2.0])
    curves = np.array([[1.0, 2.0 * (1 - 1e-6)], [1.0, 2.0 * (1 - 5e-3)]])
    assert threshold_doses(doses, curves, target).tolist() == [1.0, NEVER]


def test_an_open_interval_says_so() -> None:
    thresholds = np.array([0.5, AT_LOWEST, AT_LOWEST, 0.3, 0.5, 0.6, NEVER])
    answer = equivalent_dose(thresholds, (0.1, 1.0), 0.9).to_dict()
    assert answer["answer"] == "0.50"
    assert answer["interval"] == [None, None]
    assert answer["interval_in_words"] == "at most 0.1 to none"
    assert answer["share_of_replicates_none"] == pytest.approx(1 / 6)
    json.dumps(answer, allow_nan=False)


def test_an_interval_of_one_answer_is_told_as_such() -> None:
    for ends, told in ((NEVER, "none throughout"), (AT_LOWEST, "at most 0.1 throughout")):
        answer = equivalent_dose(np.full(20, ends), (0.1, 1.0), 0.95)
        assert answer.interval_in_words == told


def test_the_interval_of_the_equivalent_dose_covers_the_truth() -> None:
    """Channel outputs whose true d' is 3 sqrt(dose), denoised 3.9 sqrt(dose): 0.592."""
    doses, draw, covered = np.array([0.1, 0.25, 0.5, 1.0]), np.random.default_rng(5), 0
    signal = np.full(4, 3.0 / math.sqrt(4))
    for _ in range(120):
        base, other = draw.standard_normal((2, 2, 100, 4))
        mixed = 0.8 * base + 0.6 * other  # the denoised noise keeps most of the pattern
        weights = [times_drawn(draw.integers(100, size=(200, 100))) for _ in range(2)]
        denoised = [
            bootstrap_d_prime(mixed[0] + 1.3 * signal * math.sqrt(dose), mixed[1], *weights)
            for dose in doses
        ]
        full = bootstrap_d_prime(base[0] + signal, base[1], *weights)
        found = threshold_doses(doses, np.stack(denoised, axis=1), full)
        low, high = np.quantile(found, [0.025, 0.975], method="inverted_cdf")
        covered += low <= 1 / 1.3**2 <= high
    assert 0.88 <= covered / 120 <= 0.99


def test_phantom_figures_show_what_a_filter_does() -> None:
    """A Gaussian of 1 pixel: blurs every object by exp(-2 pi^2 s^2 f^2), moves no HU."""
    scanner = Scanner(photons_per_ray=1e7, electronic_noise=0, geometry=GEOMETRY)
    result = phantom_figures(
        lambda image_hu: ndimage.gaussian_filter(image_hu, (0, 1, 1)),
        scanner=scanner,
        generator=generator(),
        slices=2,
    ).to_dict()
    json.dumps(result, allow_nan=False)
    before, after = result["undenoised"], result["denoised"]
    assert after["noise_power"]["noise_hu"] < 0.6 * before["noise_power"]["noise_hu"]
    full = result["full_dose"]["noise_power"]["noise_hu"]
    assert before["noise_power"]["noise_hu"] == pytest.approx(2 * full, rel=0.01)
    assert result["denoised"]["peak_shift"] < -0.05
    assert result["full_dose"]["peak_shift"] == 0
    for name in ("-1000 HU", "900 HU"):
        transfers = [arm["rod_transfer"][name] for arm in (before, after)]
        frequency = np.array(transfers[0]["frequency_per_mm"])
        low = frequency < 0.3
        ratio = np.array(transfers[1]["transfer"]) / np.array(transfers[0]["transfer"])
        expected = np.exp(-2 * (math.pi * 0.7 * frequency) ** 2)
        np.testing.assert_allclose(ratio[low], expected[low], atol=0.03)
        assert transfers[1]["ttf50_per_mm"] < transfers[0]["ttf50_per_mm"]
    for arm in (before, after):
        for bias in arm["rod_bias"].values():
            assert abs(bias["bias_hu"]) < 2
        cnr = arm["contrast_to_noise"]["10 mm / 3 HU"]
        assert cnr["contrast_hu"] == pytest.approx(3.0, abs=0.8)


def test_the_scanner_of_a_degradation_has_its_settings() -> None:
    physics = LowDoseCT(
        0.1, photons_per_ray=2e5, electronic_noise=5.0, cutoff=1.3, detectors=100, views=90,
        bowtie_mm=300.0,
    )  # fmt: skip
    scanner = Scanner.like(physics)
    assert (scanner.photons_per_ray, scanner.electronic_noise, scanner.cutoff) == (2e5, 5.0, 1.3)
    assert scanner.geometry == FanBeam(100, 90)
    assert scanner.exposure == Exposure(bowtie_mm=300.0)
    assert Scanner.like(physics, photons_per_ray=7e4).photons_per_ray == 7e4
    measured = Scanner.like(replace(physics, photons_per_ray=None, cutoff=None))
    assert (measured.photons_per_ray, measured.cutoff) == (1.5e5, math.inf)
    with pytest.raises(ConfigError, match="positive"):
        Scanner.like(physics, photons_per_ray=0.0)


def test_doses_are_read_from_a_list() -> None:
    assert parse_doses("0.1,.25, 1") == (0.1, 0.25, 1.0)
    for wrong in ("", "a", "0.1;0.2"):
        with pytest.raises(ConfigError, match=r"0\.1,0\.25,0\.5,1"):
            parse_doses(wrong)
