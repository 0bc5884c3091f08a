"""A denoiser for machines without a GPU: few operations a pixel, a large receptive field.

A U-Net (Ronneberger et al., MICCAI 2015) without normalisation layers, which would shift HU by
what else is in the slice, on a slice folded to half its side (pixel unshuffle, Shi et al., CVPR
2016): the costly full-size layers of RED-CNN are the ones it does not have.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import nn
from torch.nn import functional

#: The side is folded by this first.
FOLD = 2


class SwiftUNet(nn.Module):
    """What to add to [batch, inputs, rows, columns] of any height and width: [batch, outputs, ...].

    inputs: images that are looked at, the first of them the one to be changed, or the channels of
    one. channels: of each level, from half the side on, each level half as wide as the one before;
    depth: convolutions of 3 x 3 at each level on the way down, and again on the way up. slope: of
    the activations below zero; with none, a loss that moves all pixels alike can switch channels
    off for good (Maas et al., ICML workshop 2013). Skips are added, not joined. The last rows and
    columns are repeated up to a size that folds, and cut again. The last layer starts at zero, so
    that an untrained network changes nothing.
    """

    def __init__(
        self,
        channels: tuple[int, ...] = (32, 64, 96),
        depth: int = 2,
        *,
        inputs: int = 1,
        outputs: int = 1,
        slope: float = 0.0,
    ) -> None:
        super().__init__()
        if not channels or min(channels) < 1 or min(depth, inputs, outputs) < 1:
            raise ValueError(
                f"expected channels of at least one level, and depth, inputs and outputs of at "
                f"least 1, got {channels}, {depth}, {inputs} and {outputs}"
            )
        if not 0 <= slope < 1:
            raise ValueError(f"expected a slope from 0 to below 1, got {slope}")
        self.activation = _activation(slope)
        self.multiple = FOLD * 2 ** (len(channels) - 1)
        self.first = nn.Conv2d(inputs * FOLD**2, channels[0], 3, padding=1)
        self.down = nn.ModuleList(_convolutions(width, depth, slope) for width in channels)
        self.halving = nn.ModuleList(
            nn.Conv2d(into, out, 3, stride=2, padding=1) for into, out in pairwise(channels)
        )
        self.doubling = nn.ModuleList(
            nn.Sequential(nn.Conv2d(out, into * 4, 1), nn.PixelShuffle(2))
            for into, out in pairwise(channels)
        )
        self.up = nn.ModuleList(_convolutions(width, depth, slope) for width in channels[:-1])
        self.last = nn.Conv2d(channels[0], outputs * FOLD**2, 3, padding=1)
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)  # type: ignore[arg-type]

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """[batch, inputs, rows, columns] of any size, normalised, to [batch, outputs, ...]."""
        rows, columns = image.shape[-2:]
        fold = self.multiple
        # By one row at least, or torch.export would trace one of two cases and refuse the other.
        missing = (0, fold - columns % fold, 0, fold - rows % fold)
        whole = functional.pad(image, missing, mode="replicate")
        hidden = self.activation(self.first(functional.pixel_unshuffle(whole, FOLD)))
        skips = []
        for level, halve in zip(self.down[:-1], self.halving, strict=True):
            hidden = level(hidden)
            skips.append(hidden)
            hidden = self.activation(halve(hidden))
        hidden = self.down[-1](hidden)
        for double, level, skip in zip(
            reversed(self.doubling), reversed(self.up), reversed(skips), strict=True
        ):
            hidden = level(double(hidden) + skip)
        added = functional.pixel_shuffle(self.last(hidden), FOLD)
        return added[..., :rows, :columns]


def _activation(slope: float) -> nn.Module:
    return nn.LeakyReLU(slope, inplace=True) if slope else nn.ReLU(inplace=True)


def _convolutions(width: int, depth: int, slope: float) -> nn.Sequential:
    layers = [
        layer
        for _ in range(depth)
        for layer in (nn.Conv2d(width, width, 3, padding=1), _activation(slope))
    ]
    return nn.Sequential(*layers)
