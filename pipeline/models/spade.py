"""A picture from a label map: spatially adaptive normalisation (SPADE; Park et al., CVPR 2019).

Where a plain network washes labels out in its normalisations, here each normalisation is scaled
and shifted by the label map at its own size, and what differs from place to place within a label
comes from noise at every size (Karras et al., CVPR 2019). Without noise at the finest size, and
with pixels repeated from size to size, the only texture that such a network can draw is a grid of
its coarse pixels.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from monai.networks.blocks.spade_norm import SPADE
from torch import nn
from torch.nn import functional

#: What a channel's noise counts at first, against values of deviation 1.
FIRST_NOISE = 0.1


class SpadeBlock(nn.Module):
    """Two normalisations by labels, each before an activation and a convolution, and a skip.

    Noise is added to what is normalised, as strongly as each channel learns. Batch norm below the
    labels, as in the paper: the statistics of a piece of a picture are not those of the whole.
    """

    def __init__(self, into: int, out: int, labels: int) -> None:
        super().__init__()
        self.norms = nn.ModuleList(
            SPADE(
                labels,
                into,
                hidden_channels=max(16, into // 2),
                norm="BATCH",
                norm_params={"affine": False},
            )
            for _ in range(2)
        )
        self.convolutions = nn.ModuleList(
            nn.Conv2d(into, width, 3, padding=1) for width in (into, out)
        )
        self.noise = nn.Parameter(torch.full((2, into, 1, 1), FIRST_NOISE))
        self.skip = nn.Conv2d(into, out, 1, bias=False)

    def forward(
        self, hidden: torch.Tensor, labels: torch.Tensor, noise: torch.Tensor
    ) -> torch.Tensor:
        """[batch, into, rows, columns], labels and noise [batch, 2, ...] of the same size to
        [batch, out, rows, columns]."""
        found = hidden
        for number, (norm, convolution) in enumerate(
            zip(self.norms, self.convolutions, strict=True)
        ):
            drawn = self.noise[number] * noise[:, number : number + 1]
            found = convolution(functional.leaky_relu(norm(found + drawn, labels), 0.2))
        return found + self.skip(hidden)


class SpadeGenerator(nn.Module):
    """[batch, 1, rows, columns] of labels -> [batch, outputs, rows, columns], both normalised.

    values: of the classes in the label map, in its own units, of which the network sees
    (value - centre) / scale; a pixel has the nearest. channels: of each level, the coarsest first;
    each is twice as large as the one before, the last as large as the map. noise: channels of it
    beside the labels at the coarsest level. In training noise differs from turn to turn;
    afterwards it is drawn from `seed`, so that a label map always gives the same picture.
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
        seed: int = 0,
    ) -> None:
        super().__init__()
        if len(values) < 2 or not channels or noise < 0:
            raise ValueError(
                f"expected two values, one level and noise >= 0, got {list(values)}, "
                f"{list(channels)} and {noise}"
            )
        self.noise, self.multiple, self.seed = noise, 2 ** (len(channels) - 1), seed
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
        random = None if self.training else torch.Generator().manual_seed(self.seed)
        coarse = functional.avg_pool2d(one_hot, self.multiple)
        hidden = self.first(torch.cat([coarse, _noise(coarse, self.noise, random)], dim=1))
        for number, block in enumerate(self.blocks):
            if number:
                hidden = functional.interpolate(
                    hidden, scale_factor=2, mode="bilinear", align_corners=False
                )
            # The share of each class in a pixel: thin lines are not lost at coarse levels.
            shares = functional.avg_pool2d(one_hot, self.multiple // 2**number)
            hidden = block(hidden, shares, _noise(shares, 2, random))
        return self.last(functional.leaky_relu(hidden, 0.2))[..., :rows, :columns]

    def one_hot(self, labels: torch.Tensor) -> torch.Tensor:
        """[batch, classes, rows, columns], 1 for the class whose value is nearest."""
        nearest = (labels - self.values[:, None, None]).abs().argmin(dim=1)
        return functional.one_hot(nearest, len(self.values)).movedim(-1, 1).to(labels.dtype)


def _noise(like: torch.Tensor, channels: int, random: torch.Generator | None) -> torch.Tensor:
    """Normal numbers [batch, channels, rows, columns] of the size of `like`."""
    shape = (len(like), channels, *like.shape[-2:])
    return torch.randn(shape, generator=random).to(like)
