"""Small trainings of autoencoders through the one loop, and pictures to train them on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from pipeline.config.sections import Normalize, Train
from pipeline.data.images import ImageItems
from pipeline.models.adapters.base import HUModel
from pipeline.training.loop import Checkpoint, Loop
from pipeline.training.steps.base import Step
from pipeline.training.steps.supervised import Supervised
from pipeline.training.steps.variational import Variational

#: Grey levels of the digits.
DIGITS = Normalize(centre=0, scale=16)

Logged = list[tuple[int, dict[str, float]]]


def fit(
    network: Callable[[], nn.Module],
    images: NDArray[np.float32],
    folder: Path,
    *,
    step: Callable[[HUModel, Train], Step],
    labels: NDArray[np.int64] | None = None,
    normalize: Normalize = DIGITS,
    degradation: Any = None,
    **train: Any,
) -> tuple[HUModel, Logged]:
    """The trained model in eval mode and what was logged; a folder keeps its checkpoint."""
    everywhere = {"device": "cpu", "precision": "fp32", "channels_last": False, "batch": 64}
    settings = Train(**(everywhere | train))
    torch.manual_seed(settings.seed)
    model = HUModel(network(), normalize=normalize, residual=False)
    items = ImageItems(
        images,
        np.zeros(len(images), np.int64) if labels is None else labels,
        seed=settings.seed,
        length=settings.iterations * settings.batch,
        degradation=degradation,
    )
    loop = Loop(model, step(model, settings), "cpu", settings, Checkpoint(folder, "test"))
    logged: Logged = []

    def log(metrics: dict[str, float], iteration: int) -> None:
        logged.append((iteration, metrics))

    loop.run(items, start=loop.resume(log), log=log)
    return model.eval(), logged


def variational(**settings: Any) -> Callable[[HUModel, Train], Step]:
    return lambda model, train: Variational(model, train, **settings)


def mean_square(model: HUModel, train: Train) -> Step:
    return Supervised(model, nn.MSELoss(), train, residual=False)
