"""Super-resolution: residual blocks at the small size, and sub-pixel up-sampling at the end.

EDSR (Lim et al., CVPR workshops 2017): no batch norm; pixels by rearranged channels (Shi et
al., CVPR 2016).
"""

from __future__ import annotations

import torch
from torch import nn

SCALES = (2, 4, 8)


class ResidualBlock(nn.Module):
    """Two convolutions whose result, times `share`, is added to what came in."""

    def __init__(self, channels: int, share: float) -> None:
        super().__init__()
        self.share = share
        self.layers = nn.Sequential(
            nn.Conv2d(channels, channels, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(channels, channels, 3, padding=1),
        )

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        """[batch, channels, rows, columns] in and out."""
        return hidden + self.share * self.layers(hidden)


class EDSR(nn.Module):
    """[batch, image_channels, rows, columns] -> the same with `scale` times the rows and columns.

    The paper's baseline is 16 blocks of 64 channels with share 1; its large one 32 of 256, 0.1.
    """

    def __init__(
        self,
        scale: int = 2,
        *,
        channels: int = 64,
        blocks: int = 16,
        share: float = 1.0,
        image_channels: int = 1,
    ) -> None:
        super().__init__()
        if scale not in SCALES:
            raise ValueError(f"scale must be one of {SCALES}, got {scale}")
        self.scale = scale
        self.head = nn.Conv2d(image_channels, channels, 3, padding=1)
        self.body = nn.Sequential(
            *(ResidualBlock(channels, share) for _ in range(blocks)),
            nn.Conv2d(channels, channels, 3, padding=1),
        )
        doublings: list[nn.Module] = []
        for _ in range(scale.bit_length() - 1):
            doublings += [nn.Conv2d(channels, 4 * channels, 3, padding=1), nn.PixelShuffle(2)]
        self.larger = nn.Sequential(*doublings)
        self.tail = nn.Conv2d(channels, image_channels, 3, padding=1)
        nn.init.normal_(self.tail.weight, 0.0, 1e-3)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """`scale` times the rows and columns of [batch, image_channels, rows, columns]."""
        hidden = self.head(image)
        return self.tail(self.larger(hidden + self.body(hidden)))
