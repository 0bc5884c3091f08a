"""Residual blocks at the input's size, and sub-pixel up-sampling at the end: super-resolution.

EDSR (Lim et al., CVPR workshops 2017): no batch norm; pixels by rearranged channels (Shi et
al., CVPR 2016).
"""

from __future__ import annotations

import torch
from torch import nn


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
    """[batch, inputs, rows, columns] -> image_channels of `scale` times the rows and columns.

    scale: any whole number, enlarged by its prime factors one after the other; or, `direct`,
    all at once, straight from the last features to pixels (Shi et al.): fewer operations. With 1 it
    restores at the input's size. inputs: as many as image_channels unless given.
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
        inputs: int | None = None,
        direct: bool = False,
    ) -> None:
        super().__init__()
        if scale < 1:
            raise ValueError(f"scale must be at least 1, got {scale}")
        self.scale = scale
        self.head = nn.Conv2d(inputs or image_channels, channels, 3, padding=1)
        self.body = nn.Sequential(
            *(ResidualBlock(channels, share) for _ in range(blocks)),
            nn.Conv2d(channels, channels, 3, padding=1),
        )
        larger: list[nn.Module] = []
        for factor in [] if direct else prime_factors(scale):
            wide = channels * factor**2
            larger += [nn.Conv2d(channels, wide, 3, padding=1), nn.PixelShuffle(factor)]
        self.larger = nn.Sequential(*larger)
        pixels = scale**2 if direct else 1
        self.tail = nn.Conv2d(channels, image_channels * pixels, 3, padding=1)
        nn.init.normal_(self.tail.weight, 0.0, 1e-3)
        self.last = nn.PixelShuffle(scale) if direct else nn.Identity()

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """`scale` times the rows and columns of [batch, inputs, rows, columns]."""
        hidden = self.head(image)
        return self.last(self.tail(self.larger(hidden + self.body(hidden))))


def prime_factors(number: int) -> list[int]:
    """Of a whole number, ascending; 1 has none."""
    for factor in range(2, number + 1):
        if number % factor == 0:
            return [factor, *prime_factors(number // factor)]
    return []
