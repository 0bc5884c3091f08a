"""Noise subtraction by a residual network (Missert et al., CT Meeting 2018)."""

from __future__ import annotations

import torch
from torch import nn


class ResNet(nn.Module):
    """A 9 x 9 convolution, bottleneck blocks, and a 3 x 3 convolution to the noise.

    Input and output: [batch, 1, rows, columns] of any height and width; with `residual: true`
    the noise is taken from the input, as in the paper. The defaults are the network that
    Eulig et al. 2024 measured: 10 blocks of 128 channels. MONAI's ResNet is a classifier.
    """

    def __init__(self, blocks: int = 10, channels: int = 128, *, groups: int = 8) -> None:
        super().__init__()
        if blocks < 1 or channels < 1 or groups < 1 or channels % groups:
            raise ValueError(
                "blocks, channels and groups must be positive and channels a multiple of "
                f"groups, got {blocks}, {channels} and {groups}"
            )
        self.layers = nn.Sequential(
            nn.Conv2d(1, channels, 9, padding=4),
            *(Block(channels, groups) for _ in range(blocks)),
            nn.Conv2d(channels, 1, 3, padding=1),
        )

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """[batch, 1, rows, columns] of any size, normalised, in and out."""
        return self.layers(image)


class Block(nn.Module):
    """A 3 x 3 convolution, one in groups, and a 1 x 1, added to what came in."""

    def __init__(self, channels: int, groups: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(channels, channels, 3, padding=1),
            nn.BatchNorm2d(channels),
            nn.ReLU(),
            nn.Conv2d(channels, channels, 3, padding=1, groups=groups),
            nn.BatchNorm2d(channels),
            nn.ReLU(),
            nn.Conv2d(channels, channels, 1),
        )

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        """[batch, channels, rows, columns] in and out."""
        return hidden + self.layers(hidden)
