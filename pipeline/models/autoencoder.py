"""Autoencoders without a distribution of codes: an image through a bottleneck and back.

A convolutional one needs no module: name `monai.networks.nets.AutoEncoder` in the YAML. A
denoising one (Vincent et al., ICML 2008) is any of them whose input is corrupted and whose
target is not, under the plain supervised step.

Which loss: `torch.nn.MSELoss` seeks the mean of what may be there, so that it blurs where the
code does not say, and is what PCA minimises; `torch.nn.L1Loss` seeks the median, keeps edges
sharper and is not ruled by a few large errors such as metal or bone; `pipeline.losses.image.
CosineDistance` compares patterns whatever their strength, and is blind to HU.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import torch
from monai.networks.nets import FullyConnectedNet
from torch import nn


class DenseAutoencoder(nn.Module):
    """Fully connected, [batch, 1, rows, columns] of `image_size` in and out, normalised values.

    `hidden: []` makes it linear: one layer to the code and one back, which trained with a mean
    square error spans the subspace of PCA (Baldi & Hornik, Neural Networks 1989). With fewer
    `codes` than pixels it is undercomplete and must choose what to keep. With more it is
    overcomplete and could copy: corrupt its input, or let only the `active` codes of largest
    magnitude through (k-sparse, Makhzani & Frey, ICLR 2014).
    """

    def __init__(
        self,
        image_size: tuple[int, int],
        codes: int,
        *,
        hidden: Sequence[int] = (128,),
        active: int | None = None,
    ) -> None:
        super().__init__()
        passing = codes if active is None else active
        if min(*image_size, codes) < 1 or not 1 <= passing <= codes:
            raise ValueError(
                "image_size and codes must be positive and active between 1 and codes, got "
                f"{image_size}, {codes} and {active}"
            )
        self.image_size, self.active = tuple(image_size), active
        self.latent_shape = (codes,)
        pixels = prod(image_size)
        self.encoder = FullyConnectedNet(pixels, codes, hidden)
        self.decoder = FullyConnectedNet(codes, pixels, hidden[::-1])

    def encode(self, image: torch.Tensor) -> torch.Tensor:
        """The code of each image, [batch, codes]."""
        if image.shape[1:] != (1, *self.image_size):
            raise ValueError(
                f"this network was made for images of {self.image_size}, got "
                f"{tuple(image.shape[1:])}: resample them"
            )
        code = self.encoder(image.flatten(1))
        if self.active is None:
            return code
        kept = code.abs().topk(self.active, dim=1).indices
        return torch.zeros_like(code).scatter(1, kept, code.gather(1, kept))

    def decode(self, code: torch.Tensor) -> torch.Tensor:
        """The image of each code."""
        return self.decoder(code).unflatten(1, (1, *self.image_size))

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """The reconstruction [batch, 1, rows, columns] of normalised images."""
        return self.decode(self.encode(image))
