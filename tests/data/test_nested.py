"""Pairs of one image at two doses: the target's noise lies in the input; levels are a dose's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.images import add_inputs, run_config, run_data, tiny_store

from pipeline.config.dose import MAX_RATIO
from pipeline.config.load import load_config, parse_config
from pipeline.config.sections import Nested
from pipeline.core.errors import ConfigError
from pipeline.data.nested import (
    MARGIN,
    MAX_ADDED_HU,
    MAX_GAIN,
    NestedPair,
    NestedPairs,
    lesions,
    random_kernel,
    sharpened,
    through,
)
from pipeline.data.patches import PatchPairs

CONFIGS = Path(__file__).parents[2] / "configs"
PLAIN = Nested(both_filtered=0, noise_filtered=0, lesions=0)
SIDE, DRAWN_AT = 96, 0.1


def made(settings: Nested, seed: int, *, image_hu: float = 40.0) -> NestedPair:
    """A pair of an even image whose own noise would have 10 HU: its draws have 3 times that."""
    generator = np.random.default_rng(seed)
    image = np.full((SIDE, SIDE), image_hu, np.float32)
    added = 10 * np.sqrt(1 / DRAWN_AT - 1)
    noise = generator.normal(0, added, (2, SIDE, SIDE)).astype(np.float32)
    pairs = NestedPairs(settings, DRAWN_AT)
    return pairs.pair(image, (image + noise[0], image + noise[1]), generator)


@pytest.mark.parametrize("seed", range(8))
def test_an_input_holds_the_noise_of_its_target_and_an_independent_rest(seed: int) -> None:
    pair = made(PLAIN, seed)
    own, rest = pair.target - 40, pair.input - pair.target
    assert rest.std() > 0
    if own.std():
        assert abs(np.corrcoef(own.ravel(), rest.ravel())[0, 1]) < 0.05


@pytest.mark.parametrize("seed", range(8))
def test_noise_is_that_of_both_doses(seed: int) -> None:
    pair = made(PLAIN, seed)
    own = 10.0**2  # what the image has already, at dose 1
    target = own + pair.target.var(dtype=np.float64)
    input_ = own + pair.input.var(dtype=np.float64)
    assert input_ / target == pytest.approx(pair.dose_ratio, rel=0.1)
    assert own / input_ >= 0.05 * 0.9  # the lowest dose
    assert own / target <= 1.0


def test_ratios_and_doses_fill_their_ranges() -> None:
    pairs = [made(PLAIN, seed) for seed in range(400)]
    ratios = np.array([pair.dose_ratio for pair in pairs])
    assert 1 <= ratios.min() < 1.1
    assert 15 < ratios.max() <= 20
    at_full = np.array([pair.target.std() == 0 for pair in pairs])  # the image's own noise alone
    assert at_full.mean() == pytest.approx(0.5, abs=0.1)
    assert np.median(ratios[at_full]) == pytest.approx(np.sqrt(20), rel=0.25)  # even in logarithm


def test_a_kernel_leaves_the_mean_and_takes_image_and_noise_alike() -> None:
    generator = np.random.default_rng(0)
    image = generator.normal(40, 30, (2, SIDE, SIDE)).astype(np.float32)
    kernel = random_kernel((SIDE, SIDE), generator)
    assert kernel[0, 0] == 1
    np.testing.assert_allclose(through(kernel, image).mean((1, 2)), image.mean((1, 2)), atol=1e-2)
    both = made(PLAIN.model_copy(update={"both_filtered": 1.0}), 3)
    assert both.input.shape == (SIDE - 2 * MARGIN,) * 2
    np.testing.assert_allclose(both.target.mean(), 40, atol=2)


def test_noise_alone_filtered_keeps_its_level() -> None:
    plain = made(PLAIN, 5)
    filtered = made(PLAIN.model_copy(update={"noise_filtered": 1.0}), 5)
    inside = slice(MARGIN, -MARGIN)
    for name in ("input", "target"):
        level = getattr(plain, name)[inside, inside].std()
        assert getattr(filtered, name).std() == pytest.approx(level, rel=0.25)


def soft_noise(seed: int, count: int = 2) -> np.ndarray:
    """As a soft kernel shows it: a ramp's noise, whose amplitude goes as the root of the frequency,
    under a Gaussian."""
    frequency = np.hypot(np.fft.fftfreq(SIDE)[:, None], np.fft.rfftfreq(SIDE)[None])
    soft = np.sqrt(frequency) * np.exp(-((frequency / 0.15) ** 2))
    white = np.random.default_rng(seed).normal(0, 50, (count, SIDE, SIDE)).astype(np.float32)
    return through(soft.astype(np.float32), white)


def band(noise_hu: np.ndarray, low: float, high: float) -> float:
    """The root of the mean power of noise between two frequencies, in cycles per pixel."""
    frequency = np.hypot(np.fft.fftfreq(SIDE)[:, None], np.fft.rfftfreq(SIDE)[None])
    power = np.abs(np.fft.rfft2(noise_hu)) ** 2
    return float(np.sqrt(power[:, (frequency >= low) & (frequency < high)].mean()))


def test_sharpened_noise_is_finer_stronger_and_as_strong_where_it_is_coarse() -> None:
    gains = []
    for seed in range(20):
        noise = soft_noise(seed)
        sharp, gain = sharpened(noise, np.random.default_rng(seed))
        assert sharp.std() / noise.std() == pytest.approx(gain, rel=1e-3)
        fine, coarse = (band(sharp, *b) / band(noise, *b) for b in ((0.25, 0.35), (0.03, 0.1)))
        assert fine > 3
        assert coarse == pytest.approx(1, rel=0.15) or gain == MAX_GAIN
        gains.append(gain)
    assert 1.5 < min(gains) < max(gains) <= MAX_GAIN


def test_a_ramp_s_own_noise_is_hardly_sharpened() -> None:
    """The gain is what the kernel took: noise that went through none has little to gain."""
    frequency = np.hypot(np.fft.fftfreq(SIDE)[:, None], np.fft.rfftfreq(SIDE)[None])
    white = np.random.default_rng(0).normal(0, 50, (2, SIDE, SIDE)).astype(np.float32)
    bare = through(np.sqrt(frequency).astype(np.float32), white)
    gains = [sharpened(bare, np.random.default_rng(seed))[1] for seed in range(20)]
    assert max(gains) < 3.5  # a kernel that lifts fine detail threefold
    assert np.median(gains) == pytest.approx(1, abs=0.4)


def test_a_sharpened_pair_keeps_what_its_ratio_says() -> None:
    """The image's own, soft noise included: variances of input and target are as the ratio."""
    settings = PLAIN.model_copy(update={"noise_sharpened": 1.0})
    pairs, inputs, targets = NestedPairs(settings, DRAWN_AT), [], []
    for seed in range(60):
        own, first, second = soft_noise(100 + seed, 3) * 3
        drawn = np.float32(np.sqrt(1 / DRAWN_AT - 1))
        image = 40 + own
        draws = (image + drawn * first, image + drawn * second)
        pair = pairs.pair(image, draws, np.random.default_rng(seed))
        assert (pair.input - pair.target).std() < MAX_ADDED_HU * 1.1
        inputs.append(pair.input.var() / pair.dose_ratio)
        targets.append(pair.target.var())
        assert pair.target.std() > own.std()  # as of a scan with the sharper kernel
    ratios = np.array(inputs) / np.array(targets)
    assert np.mean(ratios) == pytest.approx(1, abs=0.05)
    assert ratios.std() < 0.15


def test_lesions_are_in_both_images() -> None:
    added = lesions((SIDE, SIDE), 8, np.random.default_rng(1))
    assert 5 <= np.abs(added).max() <= 8 * 100
    pair = made(Nested(both_filtered=0, noise_filtered=0, lesions=8, max_dose_ratio=1.0001), 1)
    assert np.abs(pair.input - pair.target).max() < 2
    assert np.abs(pair.input - 40).max() > 5


def nested_run(**changes: Any) -> Any:
    data = {"realisations": 2, "nested": {}, "patch": [32, 32]}
    return run_config(
        data=data | changes, degradation={"target": "low_dose_ct", "args": {"dose_fraction": 0.1}}
    )


def test_items_have_the_patch_and_their_ratio(tmp_path: Path) -> None:
    config = nested_run()
    store = tiny_store(tmp_path / "store")
    add_inputs(store, config, noise_hu=20)
    items = PatchPairs(store, sorted(store.records()), config, 4)
    for item in (items[number] for number in range(4)):
        assert item["input"].shape == item["target"].shape == (1, 32, 32)
        assert item["dose_ratio"] >= 1
    again = PatchPairs(store, sorted(store.records()), config, 4)
    assert all((items[2][name] == again[2][name]).all() for name in items[2])


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"realisations": 1}, "realisations"),
        ({"partner": "draw"}, "partner"),
        ({"noise_scale": [0.5, 1.0]}, "noise_scale"),
        ({"nested": {"dose": [1.0, 0.5]}}, "lowest < highest"),
        ({"nested": {"both_filtered": 0.7, "noise_filtered": 0.7}}, "parts of one whole"),
        ({"nested": {"noise_sharpened": 0.1}}, "parts of one whole"),
    ],
)
def test_what_does_not_fit_is_refused(changes: dict[str, Any], named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        nested_run(**changes)


def test_nested_pairs_need_a_dose(tmp_path: Path) -> None:
    noise = {"target": "gaussian_noise", "args": {"sigma": 20}}
    raw = run_data(data={"realisations": 2, "nested": {}}, degradation=noise)
    store = tiny_store(tmp_path / "store")
    with pytest.raises(ConfigError, match="low_dose_ct"):
        PatchPairs(store, sorted(store.records()), parse_config(raw), 1)


def test_the_shipped_recipe_covers_every_ratio_that_may_be_asked_for() -> None:
    settings = load_config(CONFIGS / "denoise_any_dose.yaml").data.nested
    assert settings is not None
    lowest, highest = settings.dose
    assert highest / lowest == settings.max_dose_ratio == MAX_RATIO
