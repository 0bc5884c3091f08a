"""Short trainings with the one loop, for tests of steps."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import Dataset

from pipeline.config.sections import Normalize, Train
from pipeline.models.adapters.base import HUModel
from pipeline.training.loop import Checkpoint, Loop
from pipeline.training.steps.base import Step

#: Digits are brought to [-1, 1] by the shell: they count from 0 to 16.
DIGIT_LEVELS = Normalize(centre=8.0, scale=8.0)


class Digits(Dataset):
    """scikit-learn's 1797 digits of 8 x 8; item i is drawn by i alone."""

    def __init__(self, length: int) -> None:
        self.length = length
        self.images = _images()

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, item: int) -> dict[str, torch.Tensor]:
        chosen = np.random.default_rng((0, item)).integers(len(self.images))
        target = torch.from_numpy(self.images[chosen])[None]
        noise = np.random.default_rng((1, item)).standard_normal(target.shape)
        return {"target": target, "input": target + torch.from_numpy(noise).float()}


@cache
def _images() -> NDArray[np.float32]:
    return load_digits().images.astype(np.float32)


def settings(**changes: Any) -> Train:
    tiny = {"iterations": 4, "batch": 4, "device": "cpu", "precision": "fp32", "lr": 1e-3}
    return Train(**{**tiny, "log_every": 1, "channels_last": False, **changes})


def fit(
    network: nn.Module, make_step: Any, train: Train, folder: Path, *, until: int | None = None
) -> tuple[HUModel, Step, list[dict[str, float]]]:
    """Train `network` on digits, killed after `until` iterations or taken up again.

    make_step: (model, settings) -> step. Returns the model, its step and what was logged.
    """
    torch.manual_seed(train.seed)
    model = HUModel(network, normalize=DIGIT_LEVELS, residual=False)
    step = make_step(model, train)
    loop = Loop(model, step, "cpu", train, Checkpoint(folder, "0" * 16))
    logged: list[dict[str, float]] = []

    def log(metrics: dict[str, float], iteration: int) -> None:
        logged.append(metrics)
        if iteration == until:
            raise KeyboardInterrupt

    start = loop.resume(log)
    loop.run(Digits(train.iterations * train.batch * train.accumulate), start=start, log=log)
    return model.eval(), step, logged
