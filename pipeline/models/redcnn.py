"""RED-CNN: residual encoder-decoder for low-dose CT (Chen et al., IEEE TMI 2017)."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import nn
from torch.nn import functional

LAYERS = 5


class REDCNN(nn.Module):
    """Five convolutions, five transposed convolutions, three skips.

    Input and output: [batch, 1, rows, columns] of any height and width. The defaults are the
    published network: 96 channels, 5 x 5, no padding (the transposed convolutions restore the
    size), 1,848,865 parameters. The skips join the input and the outputs of convolutions 2
    and 4; the order is deconvolution, add, ReLU (fig. 1 of the paper).

    padding keeps the size through every layer instead; final_relu belongs to inputs that are
    never negative and is off for zero-mean HU; input_skip=False learns the image directly
    instead of the correction to it. stride=2 lets the first convolution step by 2 and the last
    transposed one step back, both of kernel 4: a layer between costs a quarter and sees twice as
    far, which coarse noise needs (the published network has stride 1).
    """

    def __init__(
        self,
        channels: int = 96,
        kernel: int = 5,
        *,
        padding: bool = False,
        final_relu: bool = False,
        input_skip: bool = True,
        stride: int = 1,
    ) -> None:
        super().__init__()
        if channels < 1 or kernel < 1 or kernel % 2 == 0:
            raise ValueError(
                f"channels must be positive and kernel odd, got {channels} and {kernel}"
            )
        if stride not in (1, 2) or (stride == 2 and not padding):
            raise ValueError(f"stride must be 1, or 2 together with padding, got {stride}")
        self.stride = stride
        self.final_relu = final_relu
        self.adds_input = input_skip
        # Kernel, stride, padding.
        inner = (kernel, 1, kernel // 2 if padding else 0)
        outer = (4, 2, 1) if stride == 2 else inner
        widths = list(pairwise([1] + [channels] * LAYERS))
        shapes = [outer] + [inner] * (LAYERS - 1)
        self.encoder = nn.ModuleList(
            nn.Conv2d(into, out, *shape) for (into, out), shape in zip(widths, shapes, strict=True)
        )
        self.decoder = nn.ModuleList(
            nn.ConvTranspose2d(out, into, *shape)
            for (into, out), shape in zip(reversed(widths), reversed(shapes), strict=True)
        )

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        rows, columns = image.shape[-2:]
        # Two more at the end: with stride 2 an odd one out would be lost.
        more = 2 if self.stride == 2 else 0
        hidden = functional.pad(image, (0, more, 0, more), mode="replicate") if more else image
        skips = [image if self.adds_input else None]
        for number, layer in enumerate(self.encoder, start=1):
            hidden = torch.relu(layer(hidden))
            if number in (2, 4):
                skips.append(hidden)
        for number, layer in enumerate(self.decoder, start=1):
            hidden = layer(hidden)
            if number == LAYERS:
                hidden = hidden[..., :rows, :columns]
            skip = skips.pop() if number in (1, 3, 5) else None
            if skip is not None:
                hidden = hidden + skip
            if number < LAYERS or self.final_relu:
                hidden = torch.relu(hidden)
        return hidden
