"""DnCNN: beyond a Gaussian denoiser (Zhang et al., IEEE TIP 2017)."""

from __future__ import annotations

import torch
from torch import nn


class DnCNN(nn.Module):
    """Convolutions of 3 x 3: ReLU after the first, batch norm and ReLU after those between.

    Input and output: [batch, 1, rows, columns] of any height and width. The paper's network
    predicts the noise, which is what `residual: true` makes of it. The defaults are the paper's:
    17 layers of 64 channels, 556,097 parameters.
    """

    def __init__(self, layers: int = 17, channels: int = 64) -> None:
        super().__init__()
        if layers < 2 or channels < 1:
            raise ValueError(
                f"expected at least 2 layers and 1 channel, got {layers} and {channels}"
            )
        between = [
            layer
            for _ in range(layers - 2)
            for layer in (
                # The norm's shift makes a bias of the convolution's own useless.
                nn.Conv2d(channels, channels, 3, padding=1, bias=False),
                nn.BatchNorm2d(channels),
                nn.ReLU(),
            )
        ]
        self.layers = nn.Sequential(
            nn.Conv2d(1, channels, 3, padding=1),
            nn.ReLU(),
            *between,
            nn.Conv2d(channels, 1, 3, padding=1),
        )

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """[batch, 1, rows, columns] of any size, normalised, in and out."""
        return self.layers(image)
