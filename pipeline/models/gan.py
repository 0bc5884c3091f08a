"""Images from random codes: DCGAN (Radford et al., ICLR 2016) and VAE-GAN's pair of networks.

Values are normalised; pipeline/models/adapters/base.py converts HU. A generator ends in tanh, so
`normalize_hu` must bring the images into [-1, 1].
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn.utils.parametrizations import spectral_norm

from pipeline.models.distributions import Posterior

#: The side of a generator's first and a discriminator's last feature map: 4, as DCGAN has it, or 7,
#: which two doublings bring to the 28 of MNIST.
FIRST_SIDES = (4, 7)


class Generator(nn.Module):
    """[batch, latent] -> [batch, image_channels, size, size] in [-1, 1].

    A projection to 4 x 4 or 7 x 7, then transposed convolutions that double the side, each with
    batch norm and ReLU, and tanh at the end. `channels` belongs to the layer before the last; each
    layer before that has twice as many. size: 8, 16, 32, ..., or 14, 28, 56, ... depth:
    convolutions of 3 x 3 before each doubling, which DCGAN does without: small images have few
    doublings, and else too few layers.
    """

    def __init__(
        self,
        latent: int = 64,
        size: int = 64,
        *,
        channels: int = 32,
        depth: int = 0,
        image_channels: int = 1,
    ) -> None:
        super().__init__()
        first_side, doublings = _growth(size)
        self.latent_shape = (latent,)
        self.image_size = (size, size)
        width = channels * 2 ** (doublings - 1)
        layers: list[nn.Module] = [nn.ConvTranspose2d(latent, width, first_side, bias=False)]
        for left in reversed(range(doublings)):
            for _ in range(depth):
                same = nn.Conv2d(width, width, 3, padding=1, bias=False)
                layers += [nn.BatchNorm2d(width), nn.ReLU(), same]
            out = width // 2 if left else image_channels
            double = nn.ConvTranspose2d(width, out, 4, stride=2, padding=1, bias=not left)
            layers += [nn.BatchNorm2d(width), nn.ReLU(), double]
            width = out
        self.layers = nn.Sequential(*layers)
        self.apply(initialise)

    def forward(self, latent: torch.Tensor) -> torch.Tensor:
        """Images [batch, image_channels, size, size] in [-1, 1] of codes [batch, latent]."""
        return torch.tanh(self.layers(latent[:, :, None, None]))

    def decode(self, latent: torch.Tensor) -> torch.Tensor:
        """The same, by the name that pipeline.generative.latent asks for."""
        return self(latent)


class Discriminator(nn.Module):
    """[batch, image_channels, size, size] -> the features of each layer, and last the scores.

    The generator's mirror: strided convolutions that halve the side down to 4 x 4 or 7 x 7,
    leaky ReLU, and one score an image, [batch, outputs, 1, 1], without a sigmoid. The list is what
    MONAI's PatchDiscriminator gives too. Batch norm is for the logistic losses alone: it mixes
    images, and a gradient penalty is a matter of each. depth: convolutions of 3 x 3 after each
    halving.
    """

    def __init__(
        self,
        size: int = 64,
        *,
        channels: int = 32,
        depth: int = 0,
        image_channels: int = 1,
        batch_norm: bool = False,
        outputs: int = 1,
    ) -> None:
        super().__init__()
        last_side, halvings = _growth(size)
        blocks: list[nn.Module] = []
        into, width = image_channels, channels
        for number in range(halvings):
            layers: list[nn.Module] = [nn.Conv2d(into, width, 4, stride=2, padding=1)]
            if batch_norm and number:
                layers.append(nn.BatchNorm2d(width))
            layers.append(nn.LeakyReLU(0.2))
            for _ in range(depth):
                layers += [nn.Conv2d(width, width, 3, padding=1), nn.LeakyReLU(0.2)]
            blocks.append(nn.Sequential(*layers))
            into, width = width, 2 * width
        blocks.append(nn.Conv2d(into, outputs, last_side))
        self.blocks = nn.ModuleList(blocks)
        self.apply(initialise)

    def forward(self, image: torch.Tensor) -> list[torch.Tensor]:
        """The features after each block, the scores [batch, outputs, 1, 1] last."""
        features = [image]
        for block in self.blocks:
            features.append(block(features[-1]))
        return features[1:]


class VAEGAN(nn.Module):
    """An autoencoder of codes with a mean and a variance, whose decoder is a GAN's generator.

    Larsen et al., ICML 2016. Input and output: [batch, image_channels, size, size]; `forward`
    reconstructs through the mean.
    """

    def __init__(
        self, latent: int = 64, size: int = 64, *, channels: int = 32, image_channels: int = 1
    ) -> None:
        super().__init__()
        shape = {"channels": channels, "image_channels": image_channels}
        self.latent_shape = (latent,)
        self.image_size = (size, size)
        self.encoder = Discriminator(size, **shape, batch_norm=True, outputs=2 * latent)
        self.decoder = Generator(latent, size, **shape)

    def encode(self, image: torch.Tensor) -> Posterior:
        """The codes that an image may have, [batch, latent]."""
        mean, log_variance = self.encoder(image)[-1].flatten(1).chunk(2, dim=1)
        return Posterior(mean, log_variance)

    def decode(self, latent: torch.Tensor) -> torch.Tensor:
        """Images [batch, image_channels, size, size] in [-1, 1] of codes [batch, latent]."""
        return self.decoder(latent)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """The reconstruction from the mean code, of the input's shape."""
        return self.decode(self.encode(image).mean)


def with_spectral_norm(network: nn.Module) -> nn.Module:
    """Hold every layer's largest singular value at 1 (Miyato et al., ICLR 2018), in place."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
            spectral_norm(module)
    return network


def initialise(module: nn.Module) -> None:
    """DCGAN's start: weights of deviation 0.02, the gains of batch norm about 1."""
    if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
        nn.init.normal_(module.weight, 0.0, 0.02)
    elif isinstance(module, nn.BatchNorm2d):
        nn.init.normal_(module.weight, 1.0, 0.02)


def _growth(size: int) -> tuple[int, int]:
    """The side of the smallest feature map, one of FIRST_SIDES, and how often it is doubled."""
    for first in FIRST_SIDES:
        doublings = (size // first).bit_length() - 1
        if doublings >= 1 and size == first * 2**doublings:
            return first, doublings
    raise ValueError(f"size must be 8, 16, 32, ..., or 14, 28, 56, ..., got {size}")
