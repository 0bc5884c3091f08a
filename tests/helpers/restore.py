"""Runs that restore, and drawings for them."""

from __future__ import annotations

from typing import Any

import numpy as np

from helpers.images import tiny_train
from pipeline.config.load import parse_config
from pipeline.config.run import RunConfig


def run(
    degradation: dict[str, Any],
    *,
    colour: str = "grey",
    references: tuple[str, ...] = (),
    **more: Any,
) -> RunConfig:
    network = {"target": "pipeline.models.adapters.base.Identity"}
    return parse_config(
        {
            "name": "tiny",
            "task": "restore",
            "data": {"patch": [32, 32]},
            "restoration": {"source": "pictures", "colour": colour, "references": references},
            "degradation": degradation,
            "model": network,
            "normalize_hu": {"centre": 127.5, "scale": 127.5},
            "step": {
                "target": "pipeline.training.steps.supervised.Supervised",
                "args": {"residual": True},
            },
            "loss": {"target": "torch.nn.MSELoss"},
            "train": tiny_train(),
            "windows": {"levels": [127.5, 255]},
            "register": {"name": "tiny"},
        }
        | more
    )


def drawing(seed: int, side: int = 64) -> np.ndarray:
    """Soft coloured shapes, [3, side, side] in grey levels."""
    generator = np.random.default_rng(seed)
    rows, columns = np.indices((side, side))
    picture = np.full((3, side, side), 90, dtype=np.float32)
    for _ in range(6):
        row, column, radius = generator.uniform(0, side, 3) * [1, 1, 0.3]
        inside = np.hypot(rows - row, columns - column) < radius + 4
        picture[:, inside] = generator.uniform(20, 235, (3, 1))
    return picture
