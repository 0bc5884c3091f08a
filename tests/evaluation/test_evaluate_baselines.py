"""Baselines in a store: tuned on training patients only, judged on the others."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.images import add_inputs, run_config, tiny_store

from pipeline.config.run import RunConfig
from pipeline.core.errors import NothingUsableError
from pipeline.degradations.digest import degradation_digest
from pipeline.evaluation.aggregate import DenoisingResult
from pipeline.evaluation.baselines import TUNING_SLICES, evaluate_baselines, tuning_keys
from pipeline.evaluation.classical_denoisers import BILATERAL, GAUSSIAN
from pipeline.metrics.conventions import CONVENTIONS
from pipeline.store.store import Store

TRAIN, TEST = ["s-0", "s-1"], ["s-2"]


def noisy_store(path: Path) -> tuple[Store, RunConfig]:
    store, config = tiny_store(path), run_config()
    add_inputs(store, config, noise_hu=40)
    return store, config


def measured(store: Store, config: RunConfig, **options: Any) -> dict[str, DenoisingResult]:
    baselines = (GAUSSIAN, BILATERAL)
    return evaluate_baselines(store, config, train=TRAIN, test=TEST, baselines=baselines, **options)


def test_each_baseline_is_better_than_its_input_on_the_test_patients(tmp_path: Path) -> None:
    found = measured(*noisy_store(tmp_path))
    assert list(found) == ["gaussian", "bilateral"]
    for figures in found.values():
        assert list(figures.patients) == ["p-2"]
        assert figures.overall.windows["soft_tissue"].change["psnr"] > 0.2
        assert figures.tuning.strength > 0
        assert figures.tuning.slices == 4


def test_the_test_patients_have_no_part_in_the_tuning(tmp_path: Path) -> None:
    store, config = noisy_store(tmp_path)
    before = measured(store, config)
    target_hu = store.load("s-2").image_hu
    other = target_hu + 5 * np.random.default_rng(1).standard_normal(target_hu.shape)
    store.save_degraded("s-2", degradation_digest(config, 0), other.astype(np.float32))
    after = measured(store, config)
    for name in before:
        assert after[name].tuning == before[name].tuning
        assert after[name].overall.windows != before[name].overall.windows


def test_a_convention_s_windows_are_those_that_are_judged(tmp_path: Path) -> None:
    found = measured(*noisy_store(tmp_path), convention=CONVENTIONS["redcnn"])
    assert list(found["gaussian"].overall.windows) == ["abdomen"]
    assert found["gaussian"].overall.convention == "redcnn"


def test_progress_tells_what_is_done(tmp_path: Path) -> None:
    told: list[tuple[str, int, int]] = []
    measured(*noisy_store(tmp_path), progress=lambda *each: told.append(each))
    assert {what for what, _, _ in told} == {
        "tune gaussian", "gaussian", "tune bilateral", "bilateral"
    }  # fmt: skip
    assert [row for row in told if row[0] == "gaussian"] == [("gaussian", 1, 2), ("gaussian", 2, 2)]
    assert all(total == 0 for what, _, total in told if what.startswith("tune"))


def test_few_series_serve_for_tuning_and_none_is_refused() -> None:
    many = [f"s-{n:03}" for n in range(100)]
    chosen = tuning_keys(many[::-1])
    assert len(chosen) == TUNING_SLICES
    assert (chosen[0], chosen[-1]) == ("s-000", "s-099")
    assert tuning_keys(["s-1"]) == ["s-1"]
    with pytest.raises(NothingUsableError, match="no training patients"):
        tuning_keys([])
