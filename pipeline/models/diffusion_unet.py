"""MONAI's diffusion U-Net of residual blocks alone.

Its own constructor always puts attention into the middle, which needs a package (einops) that is
not among the project's. The blocks and the forward pass are MONAI's.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from monai.networks.blocks import Convolution
from monai.networks.nets.diffusion_model_unet import (
    DiffusionModelUNet,
    DiffusionUNetResnetBlock,
    DownBlock,
    UpBlock,
    zero_module,
)
from torch import nn


class ResidualDiffusionUNet(DiffusionModelUNet):
    """[batch, 1, rows, columns] and timesteps [batch] to the image's shape.

    channels: of each level, the next of half the side; blocks: residual blocks a level;
    groups: of group normalisation; labels: what `class_labels` may be, 0 for an unconditional
    network. It starts by answering 0.
    """

    def __init__(
        self, channels: Sequence[int], *, blocks: int = 2, groups: int = 8, labels: int = 0
    ) -> None:
        nn.Module.__init__(self)
        widths, embedded = list(channels), 4 * channels[0]
        self.block_out_channels = widths
        self.with_conditioning = False
        self.num_class_embeds = labels or None
        if labels:
            self.class_embedding = nn.Embedding(labels, embedded)
        self.conv_in = _convolution(1, widths[0])
        self.time_embed = nn.Sequential(
            nn.Linear(widths[0], embedded), nn.SiLU(), nn.Linear(embedded, embedded)
        )
        shared = {"temb_channels": embedded, "norm_num_groups": groups}
        last = len(widths) - 1
        self.down_blocks = nn.ModuleList(
            DownBlock(2, into, out, num_res_blocks=blocks, add_downsample=level < last, **shared)
            for level, (into, out) in enumerate(pairwise([widths[0], *widths]))
        )
        self.middle_block = Middle(widths[-1], **shared)
        around = [widths[0], *widths, widths[-1]]
        self.up_blocks = nn.ModuleList(
            UpBlock(
                2,
                in_channels=around[level],
                prev_output_channel=around[level + 2],
                out_channels=widths[level],
                num_res_blocks=blocks + 1,
                add_upsample=level > 0,
                **shared,
            )
            for level in reversed(range(len(widths)))
        )
        self.out = nn.Sequential(
            nn.GroupNorm(groups, widths[0]), nn.SiLU(), zero_module(_convolution(widths[0], 1))
        )


class Middle(nn.Module):
    """Two residual blocks, called as MONAI's middle is."""

    def __init__(self, channels: int, *, temb_channels: int, norm_num_groups: int) -> None:
        super().__init__()
        shared = {"temb_channels": temb_channels, "norm_num_groups": norm_num_groups}
        self.blocks = nn.ModuleList(
            DiffusionUNetResnetBlock(2, in_channels=channels, **shared) for _ in range(2)
        )

    def forward(
        self,
        hidden_states: torch.Tensor,
        temb: torch.Tensor,
        context: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Features [batch, channels, rows, columns], with the embedded timestep."""
        for block in self.blocks:
            hidden_states = block(hidden_states, temb)
        return hidden_states


def _convolution(into: int, out: int) -> Convolution:
    return Convolution(2, into, out, strides=1, kernel_size=3, padding=1, conv_only=True)
