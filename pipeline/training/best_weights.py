"""The validation patients during a training: how well it does on them, and, where the run asks for
it, which weights to keep: those that did best there."""

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
from pipeline.config.task_runs import DenoiseRun
from pipeline.config.transforms import Transforms
from pipeline.core.errors import ConfigError
from pipeline.core.json_numbers import finite
from pipeline.core.units import Window
from pipeline.data.patches import PatchPairs
from pipeline.metrics.image import psnr_db, ssim
from pipeline.store.store import Store

#: From air to the densest bone, -1024 to 1900 HU, as Eulig et al. 2024 choose weights.
RANGE_HU = Window(438, 2924)
#: What is logged of a validation.
PSNR, SSIM = "validation.psnr", "validation.ssim"
#: Where the weights are not chosen: patches that are looked at, and how often in a training.
WATCHED_PATCHES, WATCHED_TIMES = 16, 20


@dataclass
class BestWeights:
    """Validates a model every `every` iterations, and keeps its best weights.

    patches: {"input", "target"} of validation patients, each [1, rows, columns] in HU, the same
    ones every time. The score is their mean SSIM over RANGE_HU. chooses: False for one that is
    only to be looked at: no weights are kept, and the training ends with its last.
    """

    patches: Dataset
    every: int
    batch: int
    workers: int = 0
    chooses: bool = True
    score: float = -math.inf
    weights: dict[str, torch.Tensor] = field(default_factory=dict)

    def validate(self, model: nn.Module, iteration: int, *, last: bool = False) -> dict[str, float]:
        """What to log of this iteration, where a validation was due: PSNR (dB) and SSIM; else
        nothing."""
        if iteration % self.every and not last:
            return {}
        psnr, score = self._figures(model)
        if self.chooses and score > self.score:
            self.score = score
            self.weights = {k: v.detach().clone() for k, v in model.state_dict().items()}
        known = finite(psnr)  # no number says that all patches are exact
        return {SSIM: score} | ({} if known is None else {PSNR: known})

    def _figures(self, model: nn.Module) -> tuple[float, float]:
        """Mean PSNR in dB and mean SSIM of the patches."""
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
        figures: list[tuple[float, float]] = []
        with torch.inference_mode():
            for batch in loader:
                outputs = model(batch["input"].to(device)).float().cpu().numpy()[:, 0]
                targets = batch["target"].numpy()[:, 0]
                figures += [
                    (psnr_db(o, t, RANGE_HU), ssim(o, t, RANGE_HU))
                    for o, t in zip(outputs, targets, strict=True)
                ]
        model.train(was_training)
        psnr, score = np.mean(figures, axis=0)
        return float(psnr), float(score)

    def forget(self) -> None:
        """Begin again, without a best score."""
        self.score, self.weights = -math.inf, {}

    def state_dict(self) -> dict[str, Any]:
        """Everything a resumed training needs."""
        return {"score": self.score, "weights": self.weights} if self.chooses else {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what state_dict returned."""
        if self.chooses:
            self.score, self.weights = state["score"], state["weights"]


def best_weights_of(store: Store, config: RunConfig, keys: list[str]) -> BestWeights | None:
    """What `train.validate_every` asks for: a patch for each slice of the validation series.

    Without it, some patches of the same kind as the test's are looked at WATCHED_TIMES, and choose
    nothing; None where there is no validation series. Raises ConfigError where the weights are to
    be chosen and no patient is on the validation side.
    """
    config = _with_validation_transforms(config)
    train, every = config.train, config.train.validate_every
    if every is None:
        if not keys:
            return None
        patches = PatchPairs(store, keys, _as_tested(config), WATCHED_PATCHES)
        every = max(1, train.iterations // WATCHED_TIMES)
        return BestWeights(patches, every, train.batch, chooses=False)
    if not keys:
        raise ConfigError("train.validate_every: no patient is on the validation side of the split")
    slices = sum(store.record(key).shape[0] for key in keys)
    patches = PatchPairs(store, keys, config, slices)
    return BestWeights(patches, every, train.batch, train.workers)


def validation_keys(store: Store, config: RunConfig, keys: list[str]) -> list[str]:
    """Those of the validation series that a training looks at: all where they choose the weights,
    else the shortest, since its degraded image has to be made first."""
    if config.train.validate_every is not None:
        return keys
    return sorted(keys, key=lambda key: (store.record(key).shape[0], key))[:1]


def _with_validation_transforms(config: RunConfig) -> RunConfig:
    """The run with the transforms of its validation pairs, and none that are for training alone."""
    if not isinstance(config, DenoiseRun) or config.transforms is None:
        return config
    given = config.transforms
    return config.model_copy(update={"transforms": Transforms(training=tuple(given.validation))})


def _as_tested(config: RunConfig) -> RunConfig:
    """The run with plain pairs, of one draw of the noise, as its test patients are measured on."""
    plain = {"nested": None, "partner": "none", "realisations": 1, "noise_scale": (1.0, 1.0)}
    return config.model_copy(update={"data": config.data.model_copy(update=plain)})
