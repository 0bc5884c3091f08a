"""The draws of a cached input: each its own, and the same on every processor."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.draws_on_core import DEGRADATIONS
from helpers.images import run_config, tiny_store, tiny_train, volume_of
from numpy._core._multiarray_umath import __cpu_features__  # type: ignore[attr-defined]
from numpy.typing import NDArray

from pipeline.config.run import RunConfig
from pipeline.data.patches import PatchPairs
from pipeline.degradations import digest
from pipeline.degradations.cache import degrade_store
from pipeline.degradations.digest import degradation_digest
from pipeline.physics.detector import poisson_quantile
from pipeline.physics.noise_insertion import added_noise
from pipeline.store.store import Store

#: Noise of two draws correlates by chance alone: one over the root of 2 x 64 x 64 pixels is 0.011,
#: and the reconstruction makes neighbours alike.
UNRELATED = 0.15
#: HU that rounding may move a degraded pixel by, where noise has tens.
ROUNDING_HU = 0.05


def config_of(kind: str, **changes: Any) -> RunConfig:
    return run_config(degradation=DEGRADATIONS[kind], **changes)


def noise_of(store: Store, key: str, config: RunConfig, number: int) -> NDArray[np.float32]:
    image_hu = store.load_degraded(key, degradation_digest(config, number))
    return np.asarray(image_hu - store.load(key).image_hu)


def correlation(one: NDArray, other: NDArray) -> float:
    return abs(float(np.corrcoef(one.ravel(), other.ravel())[0, 1]))


@pytest.mark.parametrize("kind", DEGRADATIONS)
def test_every_realisation_series_and_seed_has_noise_of_its_own(kind: str, tmp_path: Path) -> None:
    store = tiny_store(tmp_path / "store", patients=2)
    config, seeded = config_of(kind), config_of(kind, train=tiny_train(seed=1))
    degrade_store(store, {"s-0": 3, "s-1": 1}, config)
    degrade_store(store, {"s-0": 1}, seeded)
    first = noise_of(store, "s-0", config, 0)
    others = [
        noise_of(store, "s-0", config, 1),
        noise_of(store, "s-0", config, 2),
        noise_of(store, "s-1", config, 0),
        noise_of(store, "s-0", seeded, 0),
    ]
    assert first.std() > 5
    for other in others:
        assert correlation(first, other) < UNRELATED
    assert correlation(others[0], others[1]) < UNRELATED


@pytest.mark.parametrize("kind", DEGRADATIONS)
def test_a_noise2noise_partner_has_other_noise_than_its_input(kind: str, tmp_path: Path) -> None:
    """Or the network would learn to give its input back."""
    store = tiny_store(tmp_path / "store", patients=1)
    data = {"patch": [48, 48], "partner": "draw", "realisations": 2, "noise_scale": [1, 1]}
    config = config_of(kind, data=data)
    degrade_store(store, {"s-0": 2}, config)
    for item in map(PatchPairs(store, ["s-0"], config, length=8).__getitem__, range(8)):
        noise, partners = (item[name] - item["target"] for name in ("input", "partner"))
        assert noise.std() > 5
        assert correlation(noise.numpy(), partners.numpy()) < 2 * UNRELATED


@pytest.mark.parametrize("kind", DEGRADATIONS)
def test_the_last_bit_of_a_pixel_does_not_change_the_draws(kind: str, tmp_path: Path) -> None:
    config, noise = config_of(kind), []
    image_hu = tiny_store(tmp_path / "first").load("s-0").image_hu
    for name, pixels in (("a", image_hu), ("b", np.nextafter(image_hu, np.float32(5000)))):
        store = Store(tmp_path / name)
        store.add(volume_of(np.asarray(pixels)), key="s-0", patient="p-0")
        degrade_store(store, {"s-0": 1}, config)
        noise.append(noise_of(store, "s-0", config, 0))
    assert np.abs(noise[0] - noise[1]).max() < ROUNDING_HU


def test_inputs_that_an_earlier_version_drew_are_drawn_again(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    store, config = tiny_store(tmp_path / "store", patients=1), config_of("gaussian")
    with monkeypatch.context() as earlier:
        earlier.setattr(digest, "DRAWS_VERSION", digest.DRAWS_VERSION - 1)
        assert degrade_store(store, {"s-0": 2}, config) == 2
        assert degrade_store(store, {"s-0": 2}, config) == 0
    assert degrade_store(store, {"s-0": 2}, config) == 2


def test_a_starved_ray_leaves_the_draws_of_the_others_alone() -> None:
    """A generator's own Poisson numbers take more or fewer random numbers with the mean."""
    counts = np.full(5000, 40, np.float32)
    other = counts.copy()
    other[::50] *= 1 + np.random.default_rng(1).uniform(-0.5, 9, 100).astype(np.float32)
    noise = [
        added_noise(
            values,
            dose_fraction=0.25,
            electronic_noise=10,
            generator=np.random.default_rng(0),
        )
        for values in (counts, other)
    ]
    same = counts == other
    np.testing.assert_array_equal(noise[0][same], noise[1][same])
    assert (noise[0][~same] != noise[1][~same]).all()


def test_poisson_quantiles_are_scipys() -> None:
    from scipy.stats import poisson

    generator = np.random.default_rng(0)
    mean, chance = generator.uniform(0, 300, 5000), generator.random(5000)
    np.testing.assert_array_equal(poisson_quantile(chance, mean), poisson.ppf(chance, mean))
    ends = poisson_quantile(np.array([0.0, 1.0]), np.array([3.0, 3.0]))
    assert ends[0] == 0
    assert 15 < ends[1] < 50, "finite even where the probability rounds to 1"


#: OpenBLAS's kernels, and what numpy says that a processor needs to run them.
CORES = {"Nehalem": "SSE42", "Haswell": "AVX2", "SkylakeX": "AVX512_SKX"}


def test_every_core_type_degrades_alike(tmp_path: Path) -> None:
    found: dict[str, dict[str, NDArray]] = {}
    for core, needs in CORES.items():
        if __cpu_features__.get(needs):
            environment = {**os.environ, "OPENBLAS_CORETYPE": core, "OMP_NUM_THREADS": "1"}
            script = [sys.executable, "-m", "helpers.draws_on_core", str(tmp_path / core)]
            subprocess.run(script, check=True, env=environment, cwd=Path(__file__).parents[1])
            found[core] = {
                path.stem: np.load(path) for path in sorted((tmp_path / core).glob("*.npy"))
            }
    if len(found) < 2:
        pytest.skip("this processor has one core type of OpenBLAS at most")
    first, *others = found.values()
    for other in others:
        for name, image_hu in first.items():
            assert np.abs(image_hu - other[name]).max() < ROUNDING_HU, name
