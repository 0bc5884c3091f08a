"""A run small enough to be killed at every point."""

from __future__ import annotations

import numpy as np
import torch
from torch.utils.data import Dataset

TINY = {
    "name": "tiny",
    "task": "denoise",
    "model": {"target": "pipeline.models.redcnn.REDCNN", "args": {"channels": 4}},
    "step": {"target": "pipeline.training.steps.supervised.Supervised", "args": {"residual": True}},
    "loss": {"target": "torch.nn.MSELoss"},
    "degradation": {"target": "pipeline.physics.lowdose.LowDoseCT", "args": {"dose_fraction": 0.5}},
    # Each process would measure `auto` for itself, and one might choose otherwise.
    "train": {"iterations": 40, "checkpoint_every": 4, "batch": 2, "device": "cpu", "log_every": 1}
    | {"precision": "fp32"},
    "windows": {"soft_tissue": [40, 400]},
    "register": {"name": "tiny"},
}


EVERY, ITERATIONS = 4, 40


class Noise(Dataset):
    """Item i is drawn by i alone."""

    def __len__(self) -> int:
        return 2 * ITERATIONS

    def __getitem__(self, item: int) -> dict[str, torch.Tensor]:
        target = np.random.default_rng(item).normal(0, 100, (1, 32, 32)).astype(np.float32)
        return {"target": torch.from_numpy(target), "input": torch.from_numpy(target + 10)}
