"""A fully convolutional network with learned up-sampling, in two and three dimensions."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import nn


class FCN(nn.Module):
    """Convolutions down, deconvolutions up: Long, Shelhamer & Darrell, CVPR 2015.

    [batch, in_channels, (slices,) rows, columns] of any size -> scores [batch, out_channels,
    ...] of the same size. Each level has two 3-wide convolutions and, but for the first, a
    pooling by two before them. Each level is scored by a 1-wide convolution; scores are
    doubled in size by a deconvolution and added to those of the level above. Deconvolutions
    start as linear interpolation and learn from there, as in the paper. Unlike there, the
    encoder is trained from nothing, with instance normalisation.
    """

    def __init__(
        self,
        spatial_dims: int = 2,
        in_channels: int = 1,
        out_channels: int = 2,
        features: Sequence[int] = (16, 32, 64, 128),
    ) -> None:
        if spatial_dims not in (2, 3):
            raise ValueError(f"expected spatial_dims of 2 or 3, got {spatial_dims}")
        super().__init__()
        three = spatial_dims == 3
        convolution = nn.Conv3d if three else nn.Conv2d
        deconvolution = nn.ConvTranspose3d if three else nn.ConvTranspose2d
        # ceil_mode: an odd last row still goes down, and the surplus is cut off on the way up.
        self.pool = (nn.MaxPool3d if three else nn.MaxPool2d)(2, ceil_mode=True)
        self.levels = nn.ModuleList(
            nn.Sequential(_convolved(before, after, three), _convolved(after, after, three))
            for before, after in pairwise([in_channels, *features])
        )
        self.scores = nn.ModuleList(convolution(n, out_channels, 1) for n in features)
        doublings = [
            deconvolution(out_channels, out_channels, 4, stride=2, padding=1, bias=False)
            for _ in features[1:]
        ]
        for doubling in doublings:
            _interpolate_linearly(doubling.weight)
        self.doublings = nn.ModuleList(doublings)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Logits [batch, out_channels, ...] of the input's spatial size."""
        scored = []
        for number, (level, score) in enumerate(zip(self.levels, self.scores, strict=True)):
            image = level(self.pool(image) if number else image)
            scored.append(score(image))
        total = scored.pop()
        for doubling in self.doublings:
            finer = scored.pop()
            inside = (..., *(slice(0, length) for length in finer.shape[2:]))
            total = finer + doubling(total)[inside]
        return total


def _convolved(before: int, after: int, three: bool) -> nn.Sequential:
    convolution, norm = (nn.Conv3d, nn.InstanceNorm3d) if three else (nn.Conv2d, nn.InstanceNorm2d)
    return nn.Sequential(
        convolution(before, after, 3, padding=1, bias=False),
        norm(after, affine=True),
        nn.ReLU(inplace=True),
    )


def _interpolate_linearly(weight: torch.Tensor) -> None:
    """Weights [channels, channels, 4, 4(, 4)] that double each channel by itself, linearly."""
    line = torch.tensor([0.25, 0.75, 0.75, 0.25])
    kernel = line
    for _ in weight.shape[3:]:
        kernel = kernel[..., None] * line
    with torch.no_grad():
        weight.zero_()
        for channel in range(weight.shape[0]):
            weight[channel, channel] = kernel
