"""RED-Net: convolutions, transposed convolutions and skips (Mao et al., NIPS 2016)."""

from __future__ import annotations

import torch
from torch import nn


class REDNet(nn.Module):
    """[batch, in_channels, rows, columns] -> [batch, out_channels, rows, columns], any size.

    Half of the `layers` are 3 x 3 convolutions, half transposed ones that mirror them; the
    paper has 10, 20 and 30 of 64 channels. Every second feature of the first half is added to
    the transposed convolution that undoes what came after it, before its ReLU; the last layer
    has none. The paper's skip from input to output is the adapter's: `residual` of the step.
    skips: False leaves the inner ones out, to see what they are for.
    """

    def __init__(
        self,
        layers: int = 10,
        channels: int = 64,
        *,
        in_channels: int = 1,
        out_channels: int = 1,
        skips: bool = True,
    ) -> None:
        super().__init__()
        if layers < 4 or layers % 2:
            raise ValueError(f"layers must be even and at least 4, got {layers}")
        half, self.skips = layers // 2, skips
        self.encoder = nn.ModuleList(
            nn.Conv2d(channels if number else in_channels, channels, 3, padding=1)
            for number in range(half)
        )
        self.decoder = nn.ModuleList(
            nn.ConvTranspose2d(
                channels, channels if number < half - 1 else out_channels, 3, padding=1
            )
            for number in range(half)
        )
        for layer in [*self.encoder, *self.decoder]:
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            nn.init.zeros_(layer.bias)
        # The correction starts small, so that thirty layers do not start with large outputs.
        nn.init.normal_(self.decoder[-1].get_parameter("weight"), 0.0, 1e-3)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """[batch, in_channels, rows, columns] to [batch, out_channels, rows, columns]."""
        features = []
        hidden = image
        for layer in self.encoder:
            hidden = torch.relu(layer(hidden))
            features.append(hidden)
        half = len(self.decoder)
        for number, layer in enumerate(self.decoder, start=1):
            hidden = layer(hidden)
            mirrored = half - number
            if self.skips and mirrored and mirrored % 2 == 0:
                hidden = hidden + features[mirrored - 1]
            if number < half:
                hidden = torch.relu(hidden)
        return hidden
