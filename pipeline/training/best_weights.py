"""Which weights of a training to keep: those that did best on the validation patients."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset

from pipeline.config.run import RunConfig
from pipeline.core.errors import ConfigError
from pipeline.core.units import Window
from pipeline.data.patches import PatchPairs
from pipeline.metrics.image import ssim
from pipeline.store.store import Store

#: From air to the densest bone, -1024 to 1900 HU, as Eulig et al. 2024 choose weights.
RANGE_HU = Window(438, 2924)


@dataclass
class BestWeights:
    """Validates a model every `every` iterations, and keeps its best weights.

    patches: {"input", "target"} of validation patients, each [1, rows, columns] in HU, the same
    ones every time. The score is their mean SSIM over RANGE_HU.
    """

    patches: Dataset
    every: int
    batch: int
    workers: int = 0
    score: float = -math.inf
    weights: dict[str, torch.Tensor] = field(default_factory=dict)

    def validate(self, model: nn.Module, iteration: int, *, last: bool = False) -> dict[str, float]:
        """What to log of this iteration: the score where a validation was due, else nothing."""
        if iteration % self.every and not last:
            return {}
        score = self._score(model)
        if score > self.score:
            self.score = score
            self.weights = {k: v.detach().clone() for k, v in model.state_dict().items()}
        return {"validation_ssim": score}

    def _score(self, model: nn.Module) -> float:
        device = next(model.parameters()).device
        # Its own generator: validation must not change what the training draws.
        loader = DataLoader(
            self.patches,
            batch_size=self.batch,
            num_workers=self.workers,
            generator=torch.Generator(),
        )
        was_training = model.training
        model.eval()
        scores: list[float] = []
        with torch.inference_mode():
            for batch in loader:
                outputs = model(batch["input"].to(device)).float().cpu().numpy()[:, 0]
                targets = batch["target"].numpy()[:, 0]
                scores += [ssim(o, t, RANGE_HU) for o, t in zip(outputs, targets, strict=True)]
        model.train(was_training)
        return float(np.mean(scores))

    def forget(self) -> None:
        """Begin anew, without a best score."""
        self.score, self.weights = -math.inf, {}

    def state_dict(self) -> dict[str, Any]:
        """Everything a resumed training needs."""
        return {"score": self.score, "weights": self.weights}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what state_dict returned."""
        self.score, self.weights = state["score"], state["weights"]


def best_weights_of(store: Store, config: RunConfig, keys: list[str]) -> BestWeights | None:
    """What `train.validate_every` asks for: a patch for each slice of the validation series.

    Raises ConfigError where no patient is on the validation side.
    """
    every = config.train.validate_every
    if every is None:
        return None
    if not keys:
        raise ConfigError("train.validate_every: no patient is on the validation side of the split")
    slices = sum(store.record(key).shape[0] for key in keys)
    patches = PatchPairs(store, keys, config, slices)
    return BestWeights(patches, every, config.train.batch, config.train.workers)
