"""Every YAML in configs/ is a run: it loads, builds, degrades, and learns."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.images import add_inputs, tiny_store

from pipeline.config.load import load_config
from pipeline.config.names import current_path
from pipeline.config.run import RunConfig
from pipeline.data.patches import PatchPairs
from pipeline.degradations.cache import degrade_store
from pipeline.inference.denoise import apply_model
from pipeline.models.adapters.base import build_model
from pipeline.training.loop import train

CONFIGS = [
    path
    for path in sorted((Path(__file__).parents[2] / "configs").glob("*.yaml"))
    if load_config(path).task == "denoise"
]


def test_there_are_configurations() -> None:
    assert CONFIGS


def shrunk(path: Path) -> RunConfig:
    """The run at one iteration on small patches; its parts stay, only numbers shrink."""
    full = load_config(path)
    draws = 2 if full.data.partner == "draw" or full.data.nested else 1
    overrides = [
        "train.iterations=1",
        "train.batch=2",
        "train.device=cpu",
        "train.precision=fp32",
        "train.compile=false",
        "train.workers=0",
        "data.patch=[32, 32]",
        f"data.realisations={draws}",
    ]
    if full.degradation and current_path(full.degradation.target).endswith("LowDoseCT"):
        overrides += ["degradation.args.detectors=64", "degradation.args.views=48"]
        # The images of this test have no noise of their own to go on from.
        overrides += ["degradation.args.photons_per_ray=1.0e+5"]
    if current_path(full.model.target).endswith("REDCNN"):
        overrides += ["model.args.channels=8"]
    return load_config(path, overrides)


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_the_full_size_model_builds(path: Path) -> None:
    model = build_model(load_config(path)).eval()
    with torch.inference_mode():
        assert model(torch.zeros(1, 1, 64, 64)).shape == (1, 1, 64, 64)


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_one_step_moves_the_weights(path: Path, tmp_path: Path) -> None:
    config = shrunk(path)
    store = tiny_store(tmp_path / "store", patients=2, slices=2)
    keys = sorted(store.records())
    draws = config.data.realisations
    if config.data.pairs:
        add_inputs(store, config, noise_hu=20)
    made = 0 if config.data.pairs else len(keys) * draws
    assert degrade_store(store, dict.fromkeys(keys, draws), config) == made
    logged: list[dict[str, float]] = []
    model = train(
        config,
        PatchPairs(store, keys, config, length=2 * config.train.accumulate),
        folder=tmp_path / "training",
        log=lambda metrics, step: logged.append(metrics),
        data_digest=store.data_digest(keys),
    )
    assert np.isfinite(logged[-1]["loss"])
    if not config.loss or "log" not in config.loss.target.casefold():  # of less than 1
        assert logged[-1]["loss"] > 0
    torch.manual_seed(config.train.seed)
    fresh = build_model(config).state_dict()
    assert any(not torch.equal(fresh[name], w) for name, w in model.state_dict().items())
    image_hu = store.load(keys[0]).image_hu
    assert apply_model(model, image_hu).shape == image_hu.shape
