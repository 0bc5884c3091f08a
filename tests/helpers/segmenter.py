"""A segmenter that learned nothing: what is tested with it is what becomes of its labels."""

from __future__ import annotations

from typing import Any

import torch

from pipeline.config.load import parse_config
from pipeline.models.adapters.base import build_model
from pipeline.models.adapters.card import LoadedModel, ModelCard

BODY_RUN: dict[str, Any] = {
    "name": "segment_body",
    "task": "segment",
    "segmentation": {
        "labels": "body",
        "classes": {"body": ["body"]},
        "spacing_mm": [100, 6, 6],
        "patch": [48, 48],
    },
    "model": {"target": "pipeline.models.fcn.FCN", "args": {"features": [4, 8]}},
    "step": {"target": "pipeline.training.steps.supervised.Supervised"},
    "loss": {"target": "pipeline.losses.segmentation.DiceCrossEntropy"},
    "train": {"iterations": 1},
    "windows": {"soft_tissue": [40, 400]},
    "register": {"name": "body"},
}


def untrained_segmenter() -> LoadedModel:
    """One class on slices of 6 mm pixels; the same weights every time."""
    config = parse_config(BODY_RUN)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        model = build_model(config).eval()
    card = ModelCard("body", 1, "a" * 64, "b" * 64, "c" * 64, parameters=1)
    return LoadedModel.of(model, card, config)
