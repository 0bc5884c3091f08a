"""Where and how precisely a training computes."""

from __future__ import annotations

from pipeline.config.sections import Train
from pipeline.core.device import choose_device
from pipeline.core.errors import ConfigError
from pipeline.models.computing.processor import has_bf16


def training_device(settings: Train) -> str:
    """ "cpu" or "cuda" (pipeline.core.device); raises ConfigError for what this machine does not
    have."""
    kind = choose_device(settings.device, asked_by="train.device:")
    if settings.precision == "bf16" and not has_bf16(kind):
        # Emulated bf16 convolutions were measured 14 times slower than fp32.
        raise ConfigError(
            f"train.precision: bf16, but this {kind} has no bf16 arithmetic; set it to auto"
        )
    return kind
