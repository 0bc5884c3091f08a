"""A picture from a label map: spatially adaptive normalisation (SPADE; Park et al., CVPR 2019).

Where a plain network washes labels out in its normalisations, here each normalisation is scaled
and shifted by the label map at its own size, and what differs from place to place within a label
comes from noise.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from monai.networks.blocks.spade_norm import SPADE
from torch import nn
from torch.nn import functional


class SpadeBlock(nn.Module):
    """Two normalisations by labels, each before an activation and a convolution, and a skip."""

    def __init__(self, into: int, out: int, labels: int) -> None:
        super().__init__()
        self.norms = nn.ModuleList(
            SPADE(labels, width, hidden_channels=max(16, into // 2)) for width in (into, into)
        )
        self.convolutions = nn.ModuleList(
            nn.Conv2d(into, width, 3, padding=1) for width in (into, out)
        )
        self.skip = nn.Conv2d(into, out, 1, bias=False)

    def forward(self, hidden: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """[batch, into, rows, columns] to [batch, out, rows, columns]."""
        found = hidden
        for norm, convolution in zip(self.norms, self.convolutions, strict=True):
            found = convolution(functional.leaky_relu(norm(found, labels), 0.2))
        return found + self.skip(hidden)


class SpadeGenerator(nn.Module):
    """[batch, 1, rows, columns] of labels -> [batch, outputs, rows, columns], both normalised.

    values: of the classes in the label map, in its own units, of which the network sees
    (value - centre) / scale; a pixel has the nearest. channels: of each level, the coarsest first;
    each is twice as large as the one before, the last as large as the map. noise: channels of it
    beside the labels at the coarsest level: drawn in training, none afterwards, so that a label map
    always gives the same picture.
    """

    def __init__(
        self,
        values: Sequence[float],
        *,
        centre: float = 0.0,
        scale: float = 1.0,
        channels: Sequence[int] = (96, 64, 48, 32),
        noise: int = 8,
        outputs: int = 1,
    ) -> None:
        super().__init__()
        if len(values) < 2 or not channels or noise < 0:
            raise ValueError(
                f"expected two values, one level and noise >= 0, got {list(values)}, "
                f"{list(channels)} and {noise}"
            )
        self.noise, self.multiple = noise, 2 ** (len(channels) - 1)
        self.values: torch.Tensor
        found = (torch.tensor(values, dtype=torch.float32) - centre) / scale
        self.register_buffer("values", found, persistent=False)
        self.first = nn.Conv2d(len(values) + noise, channels[0], 3, padding=1)
        into = [channels[0], *channels[:-1]]
        self.blocks = nn.ModuleList(
            SpadeBlock(one, out, len(values)) for one, out in zip(into, channels, strict=True)
        )
        self.last = nn.Conv2d(channels[-1], outputs, 3, padding=1)

    def forward(self, labels: torch.Tensor) -> torch.Tensor:
        """A picture as large as the label map, of any size."""
        rows, columns = labels.shape[-2:]
        missing = (0, -columns % self.multiple, 0, -rows % self.multiple)
        one_hot = self.one_hot(functional.pad(labels, missing, mode="replicate"))
        coarse = functional.avg_pool2d(one_hot, self.multiple)
        shape = (len(coarse), self.noise, *coarse.shape[-2:])
        draw = torch.randn if self.training else torch.zeros
        noise = draw(shape, device=coarse.device)
        hidden = self.first(torch.cat([coarse, noise], dim=1))
        for number, block in enumerate(self.blocks):
            if number:
                hidden = functional.interpolate(hidden, scale_factor=2, mode="nearest")
            hidden = block(hidden, one_hot)
        return self.last(functional.leaky_relu(hidden, 0.2))[..., :rows, :columns]

    def one_hot(self, labels: torch.Tensor) -> torch.Tensor:
        """[batch, classes, rows, columns], 1 for the class whose value is nearest."""
        nearest = (labels - self.values[:, None, None]).abs().argmin(dim=1)
        return functional.one_hot(nearest, len(self.values)).movedim(-1, 1).to(labels.dtype)
