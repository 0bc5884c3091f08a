"""A picture from a label map: spatially adaptive normalisation (SPADE; Park et al., CVPR 2019).

Where a plain network washes labels out in its normalisations, here each normalisation is scaled
and shifted by the label map at its own size, and what differs from place to place within a label
comes from noise at every size (Karras et al., CVPR 2019). Without noise at the finest size, and
with pixels repeated from size to size, the only texture that such a network can draw is a grid of
its coarse pixels.

What labels do not say of a whole picture, its colours, contrast and kind of texture, is a style: a
code that an encoder finds in a photograph, beside which a network is a variational autoencoder
(section 3 of the paper). A picture is then drawn in the style of another one, or in a drawn one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from monai.networks.blocks.spade_norm import SPADE
from torch import nn
from torch.nn import functional

from pipeline.models.distributions import LOG_VARIANCE_RANGE, Posterior

#: What a channel's noise counts at first, against values of deviation 1.
FIRST_NOISE = 0.1
#: Channels of a style's encoder, each level with half the rows and columns of the one before.
STYLE_CHANNELS = (24, 48, 64, 64)


class StyleEncoder(nn.Module):
    """[batch, channels, rows, columns] of pictures, normalised -> [batch, 2 code] of statistics.

    What it sees is averaged over the whole picture, of any size: no place in it is in the code.
    """

    def __init__(self, channels: int, code: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for width in STYLE_CHANNELS:
            layers += [nn.Conv2d(channels, width, 3, stride=2, padding=1), nn.LeakyReLU(0.2)]
            channels = width
        self.layers = nn.Sequential(*layers)
        self.last = nn.Linear(channels, 2 * code)

    def forward(self, picture: torch.Tensor) -> torch.Tensor:
        """Mean and logarithm of the variance of each number of the code, in a row."""
        return self.last(self.layers(picture).mean(dim=(2, 3)))


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
    """[batch, frames, rows, columns] of labels -> [batch, outputs, rows, columns], both normalised.

    values: of the classes in the label map, in its own units, of which the network sees
    (value - centre) / scale; a pixel has the nearest. channels: of each level, the coarsest first;
    each is twice as large as the one before, the last as large as the map. noise: channels of it
    beside the labels at the coarsest level. In training noise differs from turn to turn;
    afterwards it is drawn from `seed`, so that a label map always gives the same picture.
    style: numbers of the style's code, which every normalisation sees beside the labels; 0 for a
    network that has one style. frames: label maps in a row, of which the middle one is drawn.
    padding: beyond the rim, as torch's convolutions have it. A piece of 64 x 64 pixels is eight
    coarse pixels wide, and the zeros beyond its rim are seen in half of them: with `replicate` a
    whole picture looks to the network as pieces did.
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
        style: int = 0,
        frames: int = 1,
        padding: Literal["zeros", "replicate"] = "zeros",
    ) -> None:
        super().__init__()
        if len(values) < 2 or not channels or min(noise, style) < 0 or frames % 2 == 0:
            raise ValueError(
                "expected two values, one level, noise and style >= 0 and odd frames, got "
                f"{list(values)}, {list(channels)}, {noise}, {style} and {frames}"
            )
        self.noise, self.multiple, self.seed = noise, 2 ** (len(channels) - 1), seed
        self.style, self.frames = style, frames
        self.values: torch.Tensor
        found = (torch.tensor(values, dtype=torch.float32) - centre) / scale
        self.register_buffer("values", found, persistent=False)
        labels = len(values) * frames
        self.first = nn.Conv2d(labels + noise, channels[0], 3, padding=1)
        into = [channels[0], *channels[:-1]]
        self.blocks = nn.ModuleList(
            SpadeBlock(one, out, labels + style) for one, out in zip(into, channels, strict=True)
        )
        self.encoder = StyleEncoder(outputs, style) if style else None
        self.last = nn.Conv2d(channels[-1], outputs, 3, padding=1)
        for part in self.modules():
            if isinstance(part, nn.Conv2d):
                part.padding_mode = padding

    def encode(self, picture: torch.Tensor) -> Posterior:
        """Styles of pictures, [batch, style]; ValueError for a network that has one style."""
        if self.encoder is None:
            raise ValueError("this network has one style; a code needs model.args.style")
        mean, log_variance = self.encoder(picture).float().chunk(2, dim=1)
        return Posterior(mean, log_variance.clamp(*LOG_VARIANCE_RANGE))

    def forward(self, labels: torch.Tensor, style: torch.Tensor | None = None) -> torch.Tensor:
        """A picture as large as the label map, of any size; style: [batch, style], by default the
        mean of all styles, 0."""
        rows, columns = labels.shape[-2:]
        missing = (0, -columns % self.multiple, 0, -rows % self.multiple)
        one_hot = self.one_hot(functional.pad(labels, missing, mode="replicate"))
        random = None if self.training else torch.Generator().manual_seed(self.seed)
        coarse = functional.avg_pool2d(one_hot, self.multiple)
        hidden = self.first(torch.cat([coarse, noise_like(coarse, self.noise, random)], dim=1))
        for number, block in enumerate(self.blocks):
            if number:
                hidden = functional.interpolate(
                    hidden, scale_factor=2, mode="bilinear", align_corners=False
                )
            # The share of each class in a pixel: thin lines are not lost at coarse levels.
            shares = functional.avg_pool2d(one_hot, self.multiple // 2**number)
            drawn = noise_like(shares, 2, random)
            if self.style:
                shares = torch.cat([shares, self._everywhere(style, shares)], dim=1)
            hidden = block(hidden, shares, drawn)
        return self.last(functional.leaky_relu(hidden, 0.2))[..., :rows, :columns]

    def one_hot(self, labels: torch.Tensor) -> torch.Tensor:
        """[batch, frames x classes, rows, columns], 1 for the class whose value is nearest."""
        nearest = (labels[:, :, None] - self.values[:, None, None]).abs().argmin(dim=2)
        shown = functional.one_hot(nearest, len(self.values)).movedim(-1, 2)
        return shown.flatten(1, 2).to(labels.dtype)

    def _everywhere(self, style: torch.Tensor | None, like: torch.Tensor) -> torch.Tensor:
        """[batch, style, rows, columns]: the code in every pixel of `like`."""
        if style is None:
            style = like.new_zeros(1, self.style)
        return style.to(like)[:, :, None, None].expand(len(like), -1, *like.shape[-2:])


def noise_like(like: torch.Tensor, channels: int, random: torch.Generator | None) -> torch.Tensor:
    """Normal numbers [batch, channels, rows, columns] of the size of `like`."""
    shape = (len(like), channels, *like.shape[-2:])
    return torch.randn(shape, generator=random).to(like)
