"""Weights that follow those being trained as their running mean."""

from __future__ import annotations

import torch
from torch import nn


@torch.no_grad()
def follow(mean: nn.Module, trained: nn.Module, *, turns: int, average: float) -> None:
    """Move the weights of `mean` towards those of `trained`, after so many turns.

    They keep `average` of themselves, less in the first turns: (turns) / (9 + turns). Buffers,
    such as those of batch norm, are copied.
    """
    keeps = min(average, turns / (9 + turns))
    for kept, weights in zip(mean.parameters(), trained.parameters(), strict=True):
        kept.lerp_(weights, 1 - keeps)
    for old, new in zip(mean.buffers(), trained.buffers(), strict=True):
        old.copy_(new)


def require_average(average: float) -> float:
    """The share itself. Raises ValueError outside [0, 1)."""
    if not 0 <= average < 1:
        raise ValueError(f"expected average in [0, 1), got {average}")
    return average
