"""The loop: it learns, it can be killed and resumed, and it says what it does."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers.images import body_slice, run_config, run_data, tiny_train
from torch import nn
from torch.utils.data import Dataset

import pipeline.training.loop as training
from pipeline.config.load import parse_config
from pipeline.config.run import RunConfig
from pipeline.core.errors import ConfigError
from pipeline.models.adapters.base import HUModel
from pipeline.models.adapters.weights import save_model
from pipeline.training.loop import train
from pipeline.training.steps.supervised import Supervised

Log = Callable[[dict[str, float], int], None]


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Nets this small only wait for each other's threads, for seconds where cores are busy."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


class Pairs(Dataset):
    """Item i is a body and that body in noise, a function of i alone."""

    def __init__(self, length: int, noise_hu: float = 60.0) -> None:
        self.length, self.noise_hu = length, noise_hu

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, item: int) -> dict[str, torch.Tensor]:
        target = body_slice()[None, 16:48, 16:48]
        noise = np.random.default_rng(item).standard_normal(target.shape) * self.noise_hu
        return {
            "input": torch.from_numpy((target + noise).astype(np.float32)),
            "target": torch.from_numpy(target.copy()),
        }


def trained(
    config: RunConfig, folder: Path, *, log: Log = lambda metrics, step: None, data: str = "d"
) -> HUModel:
    settings = config.train
    pairs = Pairs(settings.iterations * settings.accumulate * settings.batch)
    return train(config, pairs, folder=folder, log=log, data_digest=data)


def weights(model: nn.Module) -> list[torch.Tensor]:
    return list(model.state_dict().values())


def same_weights(one: nn.Module, other: nn.Module) -> bool:
    return all(map(torch.equal, weights(one), weights(other)))


def checkpoints(folder: Path) -> list[Path]:
    return sorted(folder.glob("checkpoint-*.pt"))


class Killed(Exception):
    pass


def kill_at(iteration: int) -> Log:
    def log(metrics: dict[str, float], step: int) -> None:
        if step == iteration:
            raise Killed

    return log


#: MONAI's UNet with dropout: it draws from torch's generator at every step, and its batch
#: norm has a state that is no parameter.
WITH_DROPOUT = {
    "target": "monai.networks.nets.UNet",
    "args": {
        "spatial_dims": 2,
        "in_channels": 1,
        "out_channels": 1,
        "channels": [4, 8],
        "strides": [2],
        "dropout": 0.5,
        "norm": "BATCH",
    },
}


def test_it_learns_to_denoise(tmp_path: Path) -> None:
    redcnn = run_data()["model"]
    config = run_config(
        model={**redcnn, "args": {**redcnn["args"], "channels": 8}},
        normalize_hu={"scale": 100},
        train=tiny_train(iterations=40, batch=4, lr=1e-2, log_every=1),
    )
    pairs = Pairs(161, noise_hu=200)
    losses: list[float] = []
    model = train(
        config,
        pairs,
        folder=tmp_path,
        log=lambda metrics, step: losses.append(metrics["loss"]),
        data_digest="d",
    )
    assert len(losses) == 40
    assert np.mean(losses[-5:]) < 0.5 * np.mean(losses[:5])
    unseen = pairs[160]
    with torch.inference_mode():
        output = model(unseen["input"][None])[0]
    error = (output - unseen["target"]).square().mean()
    assert error < 0.5 * (unseen["input"] - unseen["target"]).square().mean()


def test_the_model_comes_back_ready_for_use(tmp_path: Path) -> None:
    model = trained(run_config(), tmp_path)
    assert not model.training
    assert all(w.dtype == torch.float32 and w.device.type == "cpu" for w in weights(model))


@pytest.mark.parametrize("model", [None, WITH_DROPOUT], ids=["redcnn", "dropout"])
def test_a_killed_run_ends_as_an_unbroken_one(tmp_path: Path, model: dict | None) -> None:
    settings = tiny_train(iterations=7, checkpoint_every=3, log_every=1, warmup=2)
    config = run_config(train=settings, **({"model": model} if model else {}))
    unbroken = trained(config, tmp_path / "unbroken")
    with pytest.raises(Killed):
        trained(config, tmp_path / "killed", log=kill_at(5))
    assert len(checkpoints(tmp_path / "killed")) == 1
    torch.manual_seed(99)
    steps: list[int] = []
    resumed = trained(config, tmp_path / "killed", log=lambda metrics, step: steps.append(step))
    assert steps == [1, 2, 3, 4, 5, 6, 7], "3 said again, the rest computed"
    assert same_weights(resumed, unbroken)


def test_a_finished_run_is_not_trained_again(tmp_path: Path) -> None:
    config = run_config()
    first = trained(config, tmp_path)
    before = checkpoints(tmp_path)[0].stat().st_mtime_ns
    again = trained(config, tmp_path)
    assert checkpoints(tmp_path)[0].stat().st_mtime_ns == before
    assert same_weights(again, first)


def test_the_same_seed_gives_the_same_weights(tmp_path: Path) -> None:
    first = trained(run_config(), tmp_path / "1")
    torch.manual_seed(99)
    assert same_weights(trained(run_config(), tmp_path / "2"), first)
    other = run_config(train=tiny_train(seed=1))
    assert not same_weights(trained(other, tmp_path / "3"), first)


HALF_DOSE = {
    "target": "pipeline.physics.lowdose.LowDoseCT",
    "args": {"dose_fraction": 0.5, "detectors": 64, "views": 48},
}


@pytest.mark.parametrize(
    ("changes", "sections", "data"),
    [
        ({"lr": 2e-3}, {}, "d"),
        ({}, {}, "other data"),
        ({}, {"degradation": HALF_DOSE}, "d"),
        ({}, {"loss": {"target": "torch.nn.L1Loss"}}, "d"),
        ({}, {"normalize_hu": {"centre": 40, "scale": 500}}, "d"),
        ({}, {"data": {"patch": [32, 32], "noise_scale": [0.5, 1.5]}}, "d"),
    ],
    ids=["rate", "data", "degradation", "loss", "normalisation", "patches"],
)
def test_a_checkpoint_of_another_run_is_never_taken_up(
    tmp_path: Path, changes: dict[str, Any], sections: dict[str, Any], data: str
) -> None:
    settings = {"checkpoint_every": 1, "log_every": 1}
    with pytest.raises(Killed):
        trained(run_config(train=tiny_train(**settings)), tmp_path, log=kill_at(3))
    (kept,) = checkpoints(tmp_path)
    before = kept.read_bytes()
    other = run_config(train=tiny_train(**settings, **changes), **sections)
    beside = trained(other, tmp_path, data=data)
    assert len(checkpoints(tmp_path)) == 2
    assert same_weights(beside, trained(other, tmp_path / "alone", data=data))
    assert kept.read_bytes() == before, "and the killed run can still be taken up"


def test_a_checkpoint_is_whole_or_not_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = run_config(train=tiny_train(iterations=3, checkpoint_every=1))
    write = torch.save
    written: list[int] = []

    def fail_at_third(state: dict[str, Any], path: Path) -> None:
        written.append(state["iteration"])
        if len(written) == 3:
            Path(path).write_bytes(b"half a checkpo")
            raise OSError(28, "No space left on device")
        write(state, path)

    monkeypatch.setattr(torch, "save", fail_at_third)
    with pytest.raises(OSError, match="No space"):
        trained(config, tmp_path)
    monkeypatch.undo()
    (kept,) = checkpoints(tmp_path)
    assert torch.load(kept, weights_only=True)["iteration"] == 2
    trained(config, tmp_path)
    assert checkpoints(tmp_path) == [kept]


def test_the_log_says_how_it_goes(tmp_path: Path) -> None:
    logged: dict[int, dict[str, float]] = {}
    config = run_config(train=tiny_train(iterations=7, log_every=3))
    trained(config, tmp_path, log=lambda metrics, step: logged.update({step: dict(metrics)}))
    assert list(logged) == [3, 6, 7]
    for metrics in logged.values():
        assert metrics["loss"] > 0
        assert metrics["patches_per_s"] > 0
        assert 0 <= metrics["waiting_fraction"] <= 1
        assert math.isfinite(metrics["learning_rate"])


def recorded_gradients(
    config: RunConfig, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> list[torch.Tensor]:
    """The gradients that the first update is given."""
    gradients: list[torch.Tensor] = []
    update = Supervised.update

    def recording(step: Supervised) -> dict[str, float]:
        if not gradients:
            gradients.extend(p.grad.clone() for p in step.model.parameters())
        return update(step)

    with monkeypatch.context() as patch:
        patch.setattr(Supervised, "update", recording)
        trained(config, folder)
    return gradients


def test_two_half_batches_have_the_gradient_of_a_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Looked at before the update: Adam would hide a wrong scale."""
    whole = run_config(train=tiny_train(iterations=1, batch=4))
    halves = run_config(train=tiny_train(iterations=1, batch=2, accumulate=2))
    expected = recorded_gradients(whole, tmp_path / "whole", monkeypatch)
    found = recorded_gradients(halves, tmp_path / "halves", monkeypatch)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-7)
    assert max(float(gradient.abs().max()) for gradient in expected) > 1e-5


def test_gradients_are_clipped_to_the_norm(tmp_path: Path) -> None:
    """With a norm of almost nothing, Adam's epsilon lets the weights stand still."""
    free = trained(run_config(train=tiny_train(iterations=1)), tmp_path / "free")
    held_settings = tiny_train(iterations=1, clip_gradient_norm=1e-12)
    held = trained(run_config(train=held_settings), tmp_path / "held")
    torch.manual_seed(0)
    start = weights(training.build_model(run_config()))

    def moved(model: nn.Module) -> float:
        pairs = zip(weights(model), start, strict=True)
        return max(float((now - then).abs().max()) for now, then in pairs)

    assert moved(free) == pytest.approx(1e-3, rel=0.05)
    assert moved(held) < 1e-6


def test_the_rate_warms_up_and_decays(tmp_path: Path) -> None:
    rates: list[float] = []
    config = run_config(train=tiny_train(iterations=20, warmup=4, log_every=1))
    trained(config, tmp_path, log=lambda metrics, step: rates.append(metrics["learning_rate"]))
    assert rates[:5] == pytest.approx([2e-4, 4e-4, 6e-4, 8e-4, 1e-3])
    assert rates[4:] == sorted(rates[4:], reverse=True)
    assert 0 < rates[-1] < 2e-5


@pytest.mark.parametrize("warmup", [4, 50])
def test_a_warm_up_as_long_as_the_run_is_no_fault(tmp_path: Path, warmup: int) -> None:
    model = trained(run_config(train=tiny_train(iterations=4, warmup=warmup)), tmp_path)
    assert all(torch.isfinite(w).all() for w in weights(model))


def test_workers_change_nothing(tmp_path: Path) -> None:
    alone = trained(run_config(), tmp_path / "alone")
    helped = trained(run_config(train=tiny_train(workers=1)), tmp_path / "helped")
    assert same_weights(alone, helped)


def test_another_gate_or_window_does_not_train_again(tmp_path: Path) -> None:
    config = run_config()
    raw = config.resolved() | {"windows": {"lung": [-600, 1500]}, "name": "judged-otherwise"}
    first = trained(config, tmp_path)
    began = len(checkpoints(tmp_path))
    again = trained(parse_config(raw), tmp_path)
    assert len(checkpoints(tmp_path)) == began == 1
    assert same_weights(first, again)


def test_strength_is_for_use_and_not_for_training(tmp_path: Path) -> None:
    """Trained at half strength, a network would learn to take off twice the noise."""
    whole = trained(run_config(), tmp_path / "whole")
    half = trained(run_config(strength=0.5), tmp_path / "half")
    assert same_weights(whole, half)
    assert (whole.strength, half.strength) == (1, 0.5)
    trained(run_config(strength=0.5), tmp_path / "whole")
    assert len(checkpoints(tmp_path / "whole")) == 1, "the same training, not another one"


def test_a_training_may_start_from_weights(tmp_path: Path) -> None:
    first = trained(run_config(), tmp_path / "first")
    save_model(first, run_config().resolved(), tmp_path / "saved")
    settings = tiny_train(iterations=1, lr=1e-12, start_from=str(tmp_path / "saved"))
    second = trained(run_config(train=settings), tmp_path / "second")
    for one, other in zip(weights(first), weights(second), strict=True):
        torch.testing.assert_close(one, other, atol=1e-9, rtol=0)


def test_weights_that_do_not_fit_are_named(tmp_path: Path) -> None:
    settings = tiny_train(start_from=str(tmp_path / "nowhere"))
    with pytest.raises(ConfigError, match=r"train.start_from: .*nowhere"):
        trained(run_config(train=settings), tmp_path / "a")
    first = trained(run_config(), tmp_path / "first")
    save_model(first, run_config().resolved(), tmp_path / "saved")
    wider = run_data()["model"]
    wider = {**wider, "args": {**wider["args"], "channels": 6}}
    settings = tiny_train(start_from=str(tmp_path / "saved"))
    with pytest.raises(ConfigError, match=r"train.start_from: .*size mismatch"):
        trained(run_config(model=wider, train=settings), tmp_path / "b")
