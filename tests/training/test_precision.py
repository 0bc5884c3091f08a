"""fp32 or bf16: measured, refused where it is wrong, told, and given up where it fails."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.images import run_config, run_data, tiny_train
from torch import nn
from torch.utils.data import Dataset

from pipeline.config.load import parse_config
from pipeline.config.run import RunConfig
from pipeline.config.sections import Train
from pipeline.core.errors import ConfigError
from pipeline.core.measured_choices import CHOICE
from pipeline.models.adapters.base import ModelAdapter
from pipeline.models.computing import processor, timing
from pipeline.training import loop, precision
from pipeline.training.device import training_device
from pipeline.training.finite import NotFiniteError, require_finite_weights
from pipeline.training.loop import train
from pipeline.training.precision import FEW, ROUNDS, Precision, faster_precision
from pipeline.training.start_check import check_run
from pipeline.training.steps.base import Batch, Step

ITERATIONS = 6
#: Time of a pass in the measurements below.
FP32_S = 0.02


@dataclass
class Clock:
    """Stands for `time` where passes are measured: only they take time, whatever else runs here."""

    at_s: float = 0.0

    def perf_counter(self) -> float:
        return self.at_s


CLOCK = Clock()


class Noisy(Dataset):
    """Patches of constant HU with noise; item i is drawn by i alone."""

    def __len__(self) -> int:
        return 2 * ITERATIONS

    def __getitem__(self, item: int) -> dict[str, torch.Tensor]:
        generator = torch.Generator().manual_seed(item)
        target = torch.full((1, 32, 32), 40.0)
        return {
            "input": target + 30 * torch.randn(1, 32, 32, generator=generator),
            "target": target,
        }


@dataclass
class Trial(Step):
    """Passes of a known time; in bf16 `times` as long, and its gradient `value`."""

    times: float
    value: float = 1.0
    network: nn.Module = field(default_factory=lambda: nn.Linear(1, 1))
    passes: list[tuple[bool, int]] = field(default_factory=list)

    def networks(self) -> dict[str, nn.Module]:
        return {"model": self.network}

    def backward(self, batch: Batch, *, share: float) -> dict[str, float]:
        bf16 = torch.is_autocast_enabled("cpu")
        self.passes.append((bf16, len(batch["input"])))
        CLOCK.at_s += FP32_S * (self.times if bf16 else 1)
        for parameter in self.network.parameters():
            parameter.grad = torch.full_like(parameter, self.value if bf16 else 1.0)
        return {}

    def update(self) -> dict[str, float]:
        return {}

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        pass


@pytest.fixture(autouse=True)
def nothing_measured(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("LDCT_CACHE_DIR", str(tmp_path / "cache"))


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision, "time", CLOCK)
    monkeypatch.setattr(timing, "time", CLOCK)


def batch() -> Batch:
    return {"input": torch.zeros(8, 1)}


# The choice


@pytest.mark.parametrize(("times", "chosen"), [(0.3, "bf16"), (1.0, "fp32"), (2.0, "fp32")])
def test_what_takes_less_time_is_chosen_and_both_times_reported(times: float, chosen: str) -> None:
    found = faster_precision(Trial(times), batch(), "cpu")
    assert found.used == chosen
    assert found.fp32_s == pytest.approx(FP32_S)
    assert found.bf16_s == pytest.approx(times * FP32_S)


def test_emulated_bf16_is_found_out_on_a_few_images() -> None:
    trial = Trial(8.0)
    assert not faster_precision(trial, batch(), "cpu").bf16
    assert {images for _, images in trial.passes} == {FEW}
    assert len(trial.passes) <= 4


def test_a_machine_measures_the_same_network_once() -> None:
    trial = Trial(0.3)
    first = faster_precision(trial, batch(), "cpu")
    assert len(trial.passes) == 2 * (2 + ROUNDS)
    assert faster_precision(trial, batch(), "cpu") == first
    assert len(trial.passes) == 2 * (2 + ROUNDS)
    faster_precision(trial, {"input": torch.zeros(6, 1)}, "cpu")
    assert len(trial.passes) > 2 * (2 + ROUNDS), "another batch is measured on its own"


def test_a_damaged_choice_is_measured_again(tmp_path: Path) -> None:
    first = faster_precision(Trial(0.3), batch(), "cpu")
    (kept,) = (tmp_path / "cache").rglob(CHOICE)
    for text in ("", "{}", kept.read_text().replace('"used": "bf16"', '"used": "fp8"')):
        kept.write_text(text)
        trial = Trial(0.3)
        assert faster_precision(trial, batch(), "cpu") == first
        assert trial.passes


def test_where_nothing_can_be_kept_it_is_measured_all_the_same(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("LDCT_CACHE_DIR", str(tmp_path / "file" / "cache"))
    for times, chosen in ((0.3, "bf16"), (2.0, "fp32")):
        assert faster_precision(Trial(times), batch(), "cpu").used == chosen


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_fast_precision_with_wrong_gradients_is_not_chosen(value: float) -> None:
    found = faster_precision(Trial(0.3, value), batch(), "cpu")
    assert (found.used, found.why) == ("fp32", "bf16 gradients of the first batch are not finite")


def test_volumes_train_in_fp32_on_a_cpu_whatever_is_faster() -> None:
    trial = Trial(0.3, network=nn.Sequential(nn.Conv3d(1, 1, 3)))
    found = faster_precision(trial, batch(), "cpu")
    assert found.used == "fp32"
    assert "3-D convolutions" in found.why
    assert not trial.passes


def test_bf16_asked_for_volumes_is_refused_at_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processor, "_cpu_has_fast_bf16", lambda: True)
    raw = run_data(
        task="segment",
        segmentation={
            "labels": "mask",
            "classes": {"lungs": [1]},
            "spacing_mm": [2, 2, 2],
            "patch": [16, 16, 16],
            "ranges_hu": [[-1000, 400]],
        },
        model={
            "target": "monai.networks.nets.UNet",
            "args": {"channels": [4, 8], "strides": [2]},
        },
        loss={"target": "pipeline.losses.segmentation.DiceCrossEntropy"},
        train=tiny_train(precision="bf16"),
    )
    with pytest.raises(ConfigError, match=r"train.precision: bf16, but .*3-D convolutions"):
        check_run(parse_config(raw))
    check_run(parse_config(raw | {"train": tiny_train(precision="auto")}))


@pytest.mark.parametrize("has_bf16", [True, False])
def test_bf16_asked_for_needs_hardware_that_has_it(
    monkeypatch: pytest.MonkeyPatch, has_bf16: bool
) -> None:
    monkeypatch.setattr(processor, "_cpu_has_fast_bf16", lambda: has_bf16)
    for open_to in ("auto", "fp32"):
        settings = Train.model_validate(tiny_train(precision=open_to))
        assert training_device(settings) == "cpu"
    wanted = Train.model_validate(tiny_train(precision="bf16"))
    if has_bf16:
        assert training_device(wanted) == "cpu"
    else:
        with pytest.raises(ConfigError, match="bf16"):
            training_device(wanted)


def test_the_choice_leaves_the_training_alone(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(timing, "WORTH_IT", 0.0)  # measured, and fp32 whatever comes out
    measured, drawn = told_training(tmp_path / "a", "auto"), torch.get_rng_state()
    asked = told_training(tmp_path / "b", "fp32")
    assert torch.equal(drawn, torch.get_rng_state()), "a network with dropout would draw others"
    assert measured.precisions[0].fp32_s is not None
    assert asked.precisions == [Precision("fp32")]
    assert same_weights(measured.model, asked.model)


def test_a_resumed_training_computes_as_before(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(processor, "_cpu_has_fast_bf16", lambda: True)
    monkeypatch.setattr(loop, "faster_precision", lambda *_: Precision("bf16", "measured"))
    whole = told_training(tmp_path / "whole", "auto")
    with pytest.raises(KeyboardInterrupt):
        told_training(tmp_path / "killed", "auto", kill_at=4)
    monkeypatch.setattr(loop, "faster_precision", lambda *_: Precision("fp32", "measured"))
    resumed = told_training(tmp_path / "killed", "auto")
    assert [one.used for one in resumed.precisions] == ["bf16"]
    assert same_weights(whole.model, resumed.model)


# What is not finite


@dataclass
class Told:
    model: ModelAdapter
    precisions: list[Precision]
    iterations: list[int]


def told_training(
    folder: Path, asked: str, *, kill_at: int = 0, step: dict[str, Any] | None = None
) -> Told:
    config = config_in(asked, step)
    precisions: list[Precision] = []
    iterations: list[int] = []

    def log(metrics: dict[str, float], iteration: int) -> None:
        iterations.append(iteration)
        if iteration == kill_at:
            raise KeyboardInterrupt

    model = train(
        config,
        Noisy(),
        folder=folder,
        log=log,
        data_digest="0" * 64,
        on_precision=precisions.append,
    )
    return Told(model, precisions, iterations)


def config_in(asked: str, step: dict[str, Any] | None = None) -> RunConfig:
    train = tiny_train(precision=asked, iterations=ITERATIONS, checkpoint_every=2, log_every=1)
    return run_config(train=train, **({"step": step} if step else {}))


def same_weights(one: nn.Module, other: nn.Module) -> bool:
    pairs = zip(one.state_dict().values(), other.state_dict().values(), strict=True)
    return all(torch.equal(first, second) for first, second in pairs)


@pytest.fixture
def spoil(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Makes a gradient, or the loss, NaN at an iteration; by default in bf16 alone."""
    from pipeline.training.steps.supervised import Supervised

    plain, updates = Supervised.backward, {"passes": 0}

    def wanted(what: str, *, at: int, always: bool = False) -> None:
        def backward(self: Supervised, batch: Batch, *, share: float) -> dict[str, float]:
            metrics = plain(self, batch, share=share)
            updates["passes"] = self.schedule.last_epoch + 1
            if updates["passes"] == at and (always or torch.is_autocast_enabled("cpu")):
                if what == "loss":
                    return metrics | {"loss": float("nan")}
                dict(self.model.named_parameters())[what].grad[0] = float("nan")
            return metrics

        monkeypatch.setattr(Supervised, "backward", backward)

    return wanted


@pytest.mark.parametrize("what", ["network.encoder.1.weight", "loss"])
def test_the_error_says_what_when_and_in_which_precision(
    spoil: Callable[..., None], tmp_path: Path, what: str
) -> None:
    spoil(what, at=3, always=True)
    with pytest.raises(NotFiniteError) as told:
        told_training(tmp_path, "fp32")
    message = str(told.value)
    assert "iteration 3, in fp32" in message
    assert what in message
    assert "train.lr" in message
    assert message.count("gradient of") == (what != "loss")


def test_bf16_that_was_asked_for_stops_and_says_what_to_do(
    spoil: Callable[..., None], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(processor, "_cpu_has_fast_bf16", lambda: True)
    spoil("network.encoder.1.weight", at=3)
    with pytest.raises(NotFiniteError, match=r"iteration 3, in bf16.*train.precision to auto"):
        told_training(tmp_path, "bf16")


@pytest.mark.parametrize(("at", "kept"), [(2, 0), (5, 4)])
def test_bf16_that_was_chosen_gives_way_to_fp32_from_the_last_checkpoint(
    spoil: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    at: int,
    kept: int,
) -> None:
    monkeypatch.setattr(loop, "faster_precision", lambda *_: Precision("bf16", "measured"))
    spoil("network.encoder.1.weight", at=at)
    fallen = told_training(tmp_path / "fallen", "auto")
    assert [one.used for one in fallen.precisions] == ["bf16", "fp32"]
    assert f"iteration {at}" in fallen.precisions[1].why
    assert "network.encoder.1.weight" in fallen.precisions[1].why
    assert fallen.iterations == [*range(1, at), *range(kept + 1, ITERATIONS + 1)]
    if kept == 0:
        assert same_weights(fallen.model, told_training(tmp_path / "plain", "fp32").model)


def test_fp32_that_fails_too_stops(spoil: Callable[..., None], monkeypatch, tmp_path: Path) -> None:
    monkeypatch.setattr(loop, "faster_precision", lambda *_: Precision("bf16", "measured"))
    spoil("loss", at=3, always=True)
    with pytest.raises(NotFiniteError, match="in fp32"):
        told_training(tmp_path, "auto")


def test_no_checkpoint_keeps_weights_that_are_no_numbers() -> None:
    network = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    require_finite_weights(network, iteration=7, precision="fp32")
    network[1].running_var[0] = float("inf")
    with pytest.raises(NotFiniteError, match=r"iteration 7, in fp32: not finite: 1.running_var"):
        require_finite_weights(network, iteration=7, precision="fp32")
