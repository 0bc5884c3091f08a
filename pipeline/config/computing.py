"""What may be asked for of how a network is computed (pipeline.models.computing.choice)."""

from __future__ import annotations

from typing import Literal

from pipeline.core.errors import ConfigError

Compute = Literal["auto", "fp32", "bf16"]


def require_compute(text: str) -> Compute:
    """The word, where it is one of the three; else ConfigError."""
    if text in ("auto", "fp32", "bf16"):
        return text  # type: ignore[return-value]
    raise ConfigError(
        f"--compute {text}: give auto (the fastest way that is within 0.5 HU of fp32), fp32 or bf16"
    )
