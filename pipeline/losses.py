"""Losses that MONAI and torch lack."""

from __future__ import annotations

import torch
from torch import nn


class RangeWeightedMSE(nn.Module):
    """Mean square error that counts fully where the target lies in [low, high].

    Elsewhere (lung, air, bone, metal) an error counts `elsewhere` times as much. Values are
    normalised (HU / scale). A plain mean is ruled by the largest errors, and those are at
    bone and air edges; this one spends the network on the tissue that is read in narrow
    windows, and still ties the rest down.
    """

    def __init__(self, low: float, high: float, elsewhere: float = 0.1) -> None:
        super().__init__()
        if low >= high or not 0 <= elsewhere <= 1:
            raise ValueError(
                f"expected low < high and elsewhere in [0, 1], got {low}, {high}, {elsewhere}"
            )
        self.low, self.high, self.elsewhere = low, high, elsewhere

    def forward(self, output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        inside = (target >= self.low) & (target <= self.high)
        weight = torch.where(inside, 1.0, self.elsewhere)
        return (weight * (output - target).square()).mean()
