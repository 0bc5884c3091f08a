"""The first network for super-resolution: three convolutions over bicubic pixels."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn.functional import interpolate


class SRCNN(nn.Module):
    """[batch, image_channels, rows, columns] -> the same with `scale` times the rows and columns.

    Dong et al., TPAMI 2016: 9 x 9, `kernel` x `kernel` (1, 3 or 5) and 5 x 5, of 64 and 32
    features. All of it works at the large size, which EDSR's does not.
    """

    def __init__(
        self, scale: int = 2, *, features: int = 64, kernel: int = 1, image_channels: int = 1
    ) -> None:
        super().__init__()
        if scale < 2:
            raise ValueError(f"scale must be at least 2, got {scale}")
        self.scale = scale
        last = nn.Conv2d(features // 2, image_channels, 5, padding=2)
        nn.init.normal_(last.weight, 0.0, 1e-3)
        self.layers = nn.Sequential(
            nn.Conv2d(image_channels, features, 9, padding=4),
            nn.ReLU(),
            nn.Conv2d(features, features // 2, kernel, padding=kernel // 2),
            nn.ReLU(),
            last,
        )

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """`scale` times the rows and columns of [batch, image_channels, rows, columns]."""
        larger = interpolate(image, scale_factor=self.scale, mode="bicubic", align_corners=False)
        return self.layers(larger)
