"""Where to compute."""

from __future__ import annotations

import torch

from pipeline.config.sections import Train
from pipeline.core.errors import ConfigError
from pipeline.models.computing.processor import has_bf16


def choose_device(settings: Train) -> str:
    """ "cpu" or "cuda"; raises ConfigError for what this machine does not have."""
    cuda = torch.cuda.is_available()
    if settings.device == "cuda" and not cuda:
        raise ConfigError("train.device: cuda, but PyTorch finds no GPU here; set it to auto")
    kind = "cuda" if cuda and settings.device != "cpu" else "cpu"
    if settings.precision == "bf16" and not has_bf16(kind):
        # Emulated bf16 convolutions were measured 14 times slower than fp32.
        raise ConfigError(
            f"train.precision: bf16, but this {kind} has no bf16 arithmetic; set it to auto"
        )
    return kind
