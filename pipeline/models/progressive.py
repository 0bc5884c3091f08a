"""Progressive growing (Karras et al., ICLR 2018): small images first, larger ones faded in.

Both networks have a level. At 0 they work on `smallest` pixels a side, at 1 on twice as many;
at 0.3 the larger images have the weight 0.3, mixed with enlarged small ones. The step sets the
level, which is saved with the weights.
"""

from __future__ import annotations

import math
from itertools import pairwise

import torch
from torch import nn
from torch.nn import functional

LEAK = 0.2


class Levels(nn.Module):
    """What both networks share: the level, and as many channels at each as the budget has."""

    def __init__(self, smallest: int, largest: int, *, channels: int, most_channels: int) -> None:
        super().__init__()
        if smallest < 4 or largest < smallest or smallest & (smallest - 1):
            raise ValueError(f"expected powers of 2, 4 or more, got {smallest} and {largest}")
        self.last = int(math.log2(largest / smallest))
        if smallest * 2**self.last != largest:
            raise ValueError(f"largest must be smallest times a power of 2, got {largest}")
        self.smallest = smallest
        #: From 4 x 4 upwards, one for each doubling.
        self.widths = [
            min(most_channels, channels * largest // side)
            for side in (4 * 2**n for n in range(int(math.log2(largest / 4)) + 1))
        ]
        self.register_buffer("level", torch.tensor(float(self.last)))
        self.level: torch.Tensor
        # The same as a number: torch.export cannot trace a branch on a tensor.
        self._at = float(self.last)
        self.register_load_state_dict_post_hook(_take_level)

    def to_level(self, level: float) -> None:
        """Set the level, from 0 to `last`; a fraction fades the next size in."""
        self.level.fill_(level)
        self._at = level

    @property
    def stage(self) -> tuple[int, float]:
        """The larger of the sizes at work, as doublings of the smallest, and its share."""
        doublings = math.ceil(self._at)
        return doublings, 1 - (doublings - self._at)


def _take_level(network: nn.Module, _keys: object) -> None:
    """The level of weights that were just loaded."""
    assert isinstance(network, Levels)
    network._at = float(network.level)


class ProgressiveGenerator(Levels):
    """[batch, latent] -> [batch, image_channels, side, side] for the side of the level.

    channels: at the largest side; each halving of the side doubles them, up to most_channels.
    Nearest-neighbour enlargement, two 3 x 3 convolutions a block, features brought to unit
    length in each pixel, and layers scaled to equal learning rates. tanh, which the paper has
    not, keeps the images in [-1, 1].
    """

    def __init__(
        self,
        latent: int = 64,
        smallest: int = 16,
        largest: int = 128,
        *,
        channels: int = 16,
        most_channels: int = 128,
        image_channels: int = 1,
    ) -> None:
        super().__init__(smallest, largest, channels=channels, most_channels=most_channels)
        self.latent_shape = (latent,)
        self.image_size = (largest, largest)
        widths = self.widths
        self.first = Scaled(nn.ConvTranspose2d(latent, widths[0], 4), fan_in=latent)
        self.blocks = nn.ModuleList(Block(into, out) for into, out in pairwise(widths))
        self.to_image = nn.ModuleList(
            Scaled(nn.Conv2d(width, image_channels, 1), fan_in=width)
            for width in widths[len(widths) - 1 - self.last :]
        )

    def forward(self, latent: torch.Tensor) -> torch.Tensor:
        """Images [batch, image_channels, side, side] in [-1, 1] of codes [batch, latent]."""
        doublings, share = self.stage
        hidden = unit_length(self.first(unit_length(latent)[:, :, None, None]))
        before = hidden
        for block in self.blocks[: len(self.blocks) - self.last + doublings]:
            before, hidden = hidden, block(enlarged(hidden))
        image = self.to_image[doublings](hidden)
        if share < 1:
            image = torch.lerp(enlarged(self.to_image[doublings - 1](before)), image, share)
        return torch.tanh(image)

    def decode(self, latent: torch.Tensor) -> torch.Tensor:
        """The same, by the name that pipeline.generative.latent asks for."""
        return self(latent)


class ProgressiveDiscriminator(Levels):
    """The generator's mirror: images of the level's side to scores [batch, 1, 1, 1].

    One more feature map holds how much the batch varies (minibatch standard deviation), so that
    a collapse can be seen.
    """

    def __init__(
        self,
        smallest: int = 16,
        largest: int = 128,
        *,
        channels: int = 16,
        most_channels: int = 128,
        image_channels: int = 1,
    ) -> None:
        super().__init__(smallest, largest, channels=channels, most_channels=most_channels)
        widths = self.widths
        self.from_image = nn.ModuleList(
            Scaled(nn.Conv2d(image_channels, width, 1), fan_in=image_channels)
            for width in widths[len(widths) - 1 - self.last :]
        )
        self.blocks = nn.ModuleList(
            Block(into, out, normalise=False) for out, into in pairwise(widths)
        )
        self.final = nn.Sequential(
            Scaled(nn.Conv2d(widths[0] + 1, widths[0], 3, padding=1), fan_in=9 * (widths[0] + 1)),
            nn.LeakyReLU(LEAK),
            Scaled(nn.Conv2d(widths[0], 1, 4), fan_in=16 * widths[0]),
        )

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Scores [batch, 1, 1, 1] of images of the level's side."""
        doublings, share = self.stage
        hidden = self._read(image, doublings)
        at_work = self.blocks[: len(self.blocks) - self.last + doublings]
        for number, block in enumerate(reversed(at_work)):
            hidden = reduced(block(hidden))
            if number == 0 and share < 1:
                hidden = torch.lerp(self._read(reduced(image), doublings - 1), hidden, share)
        return self.final(with_batch_spread(hidden))

    def _read(self, image: torch.Tensor, doublings: int) -> torch.Tensor:
        return functional.leaky_relu(self.from_image[doublings](image), LEAK)


class Block(nn.Module):
    """Two 3 x 3 convolutions with leaky ReLU; the second changes the width."""

    def __init__(self, into: int, out: int, *, normalise: bool = True) -> None:
        super().__init__()
        self.normalise = normalise
        self.layers = nn.ModuleList(
            Scaled(nn.Conv2d(one, other, 3, padding=1), fan_in=9 * one)
            for one, other in ((into, into), (into, out))
        )

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        """[batch, into, rows, columns] to [batch, out, rows, columns]."""
        for layer in self.layers:
            hidden = functional.leaky_relu(layer(hidden), LEAK)
            hidden = unit_length(hidden) if self.normalise else hidden
        return hidden


class Scaled(nn.Module):
    """A layer with normal weights, scaled as it runs by He's constant (section 4.1), so that
    Adam moves all layers at one rate."""

    def __init__(self, layer: nn.Conv2d | nn.ConvTranspose2d, *, fan_in: int) -> None:
        super().__init__()
        self.layer = layer
        self.scale = math.sqrt(2 / fan_in)
        nn.init.normal_(layer.weight)
        assert layer.bias is not None
        nn.init.zeros_(layer.bias)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """The layer's result for the input times sqrt(2 / fan_in)."""
        return self.layer(image * self.scale)


def enlarged(image: torch.Tensor) -> torch.Tensor:
    """Twice the side, each pixel four times."""
    return functional.interpolate(image, scale_factor=2.0, mode="nearest")


def reduced(image: torch.Tensor, times: int = 1) -> torch.Tensor:
    """Half the side, `times` over, by means of 2 x 2 pixels."""
    return functional.avg_pool2d(image, 2**times) if times else image


def unit_length(features: torch.Tensor) -> torch.Tensor:
    """Features [batch, channels, ...] with a mean square of 1 over channels."""
    exact = features.float()  # in bf16 a sum of squares is all rounding
    return exact * torch.rsqrt(exact.square().mean(dim=1, keepdim=True) + 1e-8)


def with_batch_spread(features: torch.Tensor) -> torch.Tensor:
    """One map more: the standard deviation over the batch, mean over features and pixels."""
    features = features.float()  # variances of bf16 are all rounding
    spread = (features.var(dim=0, unbiased=False) + 1e-8).sqrt().mean()
    batch, _, rows, columns = features.shape
    return torch.cat([features, spread.expand(batch, 1, rows, columns)], dim=1)
