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

    `mean_weight` adds the square of each patch's mean error within the range: a constant
    offset hardly shows beside the noise in a square error, but it is a bias in HU.
    """

    def __init__(
        self, low: float, high: float, *, elsewhere: float = 0.1, mean_weight: float = 0.0
    ) -> None:
        super().__init__()
        if mean_weight < 0:
            raise ValueError(f"expected mean_weight >= 0, got {mean_weight}")
        if low >= high or not 0 <= elsewhere <= 1:
            raise ValueError(
                f"expected low < high and elsewhere in [0, 1], got {low}, {high}, {elsewhere}"
            )
        self.low, self.high = low, high
        self.elsewhere, self.mean_weight = elsewhere, mean_weight

    def forward(self, output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        inside = (target >= self.low) & (target <= self.high)
        weight = torch.where(inside, 1.0, self.elsewhere)
        error = output - target
        loss = (weight * error.square()).mean()
        if not self.mean_weight:
            return loss
        voxels = inside.sum(dim=(1, 2, 3))
        offset = (error * inside).sum(dim=(1, 2, 3)) / voxels.clamp(min=1)
        share = voxels / inside[0].numel()
        return loss + self.mean_weight * (share * offset.square()).mean()
