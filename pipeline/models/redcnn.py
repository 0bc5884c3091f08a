"""RED-CNN: residual encoder-decoder for low-dose CT (Chen et al., IEEE TMI 2017)."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import nn

from pipeline.models.winograd.conv import Conv2d, ConvTranspose2d

LAYERS = 5


class REDCNN(nn.Module):
    """Five convolutions, five transposed convolutions, three skips.

    Input: [batch, inputs, rows, columns] of any height and width; output: the same with one
    channel. The defaults are the
    published network: 96 channels, 5 x 5, no padding (the transposed convolutions restore the
    size), 1,848,865 parameters. The skips join the input and the outputs of convolutions 2
    and 4; the order is deconvolution, add, ReLU (fig. 1 of the paper).

    padding keeps the size through every layer instead; final_relu belongs to inputs that are
    never negative and is off for zero-mean HU; input_skip=False learns the image directly
    instead of the correction to it, as it must where there are several inputs.
    """

    def __init__(
        self,
        channels: int = 96,
        kernel: int = 5,
        *,
        padding: bool = False,
        final_relu: bool = False,
        input_skip: bool = True,
        inputs: int = 1,
    ) -> None:
        super().__init__()
        if channels < 1 or kernel < 1 or kernel % 2 == 0:
            raise ValueError(
                f"channels must be positive and kernel odd, got {channels} and {kernel}"
            )
        if inputs < 1 or (inputs > 1 and input_skip):
            raise ValueError(f"with {inputs} inputs, input_skip must be off")
        self.final_relu = final_relu
        self.adds_input = input_skip
        pad = kernel // 2 if padding else 0
        widths = [inputs] + [channels] * LAYERS
        self.encoder = nn.ModuleList(
            Conv2d(into, out, kernel, padding=pad) for into, out in pairwise(widths)
        )
        widths = [channels] * LAYERS + [1]
        self.decoder = nn.ModuleList(
            ConvTranspose2d(into, out, kernel, padding=pad) for into, out in pairwise(widths)
        )

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """[batch, inputs, rows, columns] to one channel; at least 21 x 21 without padding."""
        hidden = image
        skips = [image if self.adds_input else None]
        for number, layer in enumerate(self.encoder, start=1):
            hidden = torch.relu_(layer(hidden))
            if number in (2, 4):
                skips.append(hidden)
        for number, layer in enumerate(self.decoder, start=1):
            hidden = layer(hidden)
            skip = skips.pop() if number in (1, 3, 5) else None
            if skip is not None:
                hidden += skip
            if number < LAYERS or self.final_relu:
                hidden = torch.relu_(hidden)
        return hidden
