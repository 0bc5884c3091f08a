"""Two processes that train as one: the same weights, figures and checkpoints as one alone."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.images import add_inputs, run_config, run_data, tiny_store, tiny_train

import flows.train_register
from flows.runtime.timings import StageTimings
from flows.train_register import train_and_register
from pipeline.config.run import RunConfig
from pipeline.core.errors import ConfigError
from pipeline.store.store import Store
from pipeline.tasks.training_job import TrainingJob, join_as_worker
from pipeline.training.distributed import ProcessGroup
from pipeline.training.steps import (
    blind_spot,
    neighbour_slice,
    noise2noise,
    supervised,
    variational,
    vector_quantised,
)
from pipeline.training.steps.base import Step

ROOT = Path(__file__).parents[2]


def config_of(**train: Any) -> RunConfig:
    chosen = {"batch": 4, "accumulate": 2, "warmup": 2, "clip_gradient_norm": 0.05, "log_every": 1}
    section = tiny_train(iterations=6, checkpoint_every=2, validate_every=3, **(chosen | train))
    return run_config(train=section)


def training(store: Store, folder: Path, config: RunConfig) -> TrainingJob:
    return TrainingJob.of(config, store, ["s-0", "s-1"], validation=["s-2"], folder=folder)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    made = tiny_store(tmp_path_factory.mktemp("store"))
    add_inputs(made, config_of(), noise_hu=80)
    return made


class Killed(Exception):
    pass


def alone(asked: TrainingJob, kill_at: int = 0) -> tuple[list, dict[str, torch.Tensor]]:
    curve: list = []

    def log(metrics: dict[str, float], step: int) -> None:
        curve.append((step, metrics))
        if step == kill_at:
            raise Killed

    return curve, asked.run(log).state_dict()


@pytest.fixture(scope="module")
def done(store: Store, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """By two processes: from the start; from one process's checkpoint; what must be refused."""
    out = tmp_path_factory.mktemp("ranks")
    half = training(store, out / "half", config_of())
    with pytest.raises(Killed):
        alone(half, kill_at=5)
    blind = run_data()["step"] | {
        "target": "pipeline.training.steps.blind_spot.BlindSpot",
        "args": {},
    }
    asked = [
        training(store, out / "whole", config_of()),
        half,
        training(store, out / "odd", config_of(batch=3)),
        replace(half, config=half.config | {"step": blind}, folder=str(out / "blind")),
    ]
    (out / "asked.json").write_text(json.dumps([asdict(each) for each in asked]))
    command = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    ended = subprocess.run(
        [
            sys.executable,
            *command,
            ROOT / "tests" / "helpers" / "ranks.py",
            out / "asked.json",
            out,
        ],
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert ended.returncode == 0, ended.stderr
    return out


@pytest.fixture(scope="module")
def one(store: Store, tmp_path_factory: pytest.TempPathFactory) -> tuple[list, dict]:
    return alone(training(store, tmp_path_factory.mktemp("one"), config_of()))


@pytest.mark.parametrize("number", [0, 1], ids=["from the start", "from one's checkpoint"])
def test_two_processes_do_what_one_does(done: Path, one: tuple[list, dict], number: int) -> None:
    curve, weights = one
    found = torch.load(done / f"{number}.pt", weights_only=True)
    for name, values in weights.items():
        torch.testing.assert_close(found["weights"][name], values, rtol=1e-4, atol=1e-6)
    moved = max(float(values.abs().max()) for values in weights.values())
    assert moved > 0.01  # or equality would say little
    for (step, metrics), (its_step, its_metrics) in zip(curve, found["curve"], strict=True):
        assert its_step == step
        assert its_metrics.keys() == metrics.keys()
        for figure in ("loss", "learning_rate", "validation.ssim"):
            if figure in metrics:
                assert its_metrics[figure] == pytest.approx(metrics[figure], rel=1e-4)


def test_a_tenth_of_the_difference_that_a_lost_half_makes_would_be_seen(
    store: Store, one: tuple[list, dict], tmp_path: Path
) -> None:
    """The tolerance against a process that trains on its own half alone."""
    own_half = alone(training(store, tmp_path, config_of(batch=2)))[1]
    difference = max(float((own_half[k] - v).abs().max()) for k, v in one[1].items())
    assert difference > 10 * 1e-4 * max(float(v.abs().max()) for v in one[1].values())


def test_the_first_process_alone_writes(done: Path) -> None:
    assert [path.name for path in done.glob("saved-*")] == ["saved-0"]


@pytest.mark.parametrize(
    ("number", "message"),
    [(2, "train.batch: 3 cannot be divided among 2"), (3, "BlindSpot trains in one process")],
)
def test_every_process_refuses_what_would_not_equal_one(
    done: Path, number: int, message: str
) -> None:
    for rank in (0, 1):
        assert message in (done / f"{number}-{rank}.txt").read_text()


def test_a_step_for_one_process_is_refused_before_any_data_is_made_ready(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(flows.train_register, "process_group", lambda: ProcessGroup(0, 2))
    blind = run_data()["step"] | {
        "target": "pipeline.training.steps.blind_spot.BlindSpot",
        "args": {},
    }
    config = RunConfig.model_validate(run_data() | {"step": blind})
    clock = StageTimings()
    with pytest.raises(ConfigError, match="BlindSpot trains in one process"):
        train_and_register(store, config, {}, folder=tmp_path, clock=clock)
    assert not list(tmp_path.iterdir())


def test_which_steps_spread() -> None:
    """A step that inherits the plain update and changes it must say so."""
    kinds = {
        kind.__name__: kind.supports_ddp
        for module in (
            supervised,
            noise2noise,
            neighbour_slice,
            blind_spot,
            variational,
            vector_quantised,
        )
        for kind in vars(module).values()
        if isinstance(kind, type) and issubclass(kind, Step) and kind.__module__ == module.__name__
    }
    assert {name for name, supports_ddp in kinds.items() if supports_ddp} == {
        "Supervised",
        "Noise2Noise",
    }
    assert {"BlindSpot", "Neighbour", "Variational", "VectorQuantised"} < kinds.keys()


def test_without_torchrun_nobody_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    assert join_as_worker() is False
