"""The adapter of networks that encode and draw images."""

from __future__ import annotations

from math import prod
from typing import Any

import torch
from torch import nn

from pipeline.config.component import build
from pipeline.config.task_runs import GenerateRun
from pipeline.core.errors import ConfigError
from pipeline.models.adapters.base import HUModel
from pipeline.models.gan import VAEGAN
from pipeline.models.vae import VAE


class Generative(HUModel):
    """Autoencoders and generators: images in HU or grey levels, in and out.

    pipeline.generative.latent has what can be done with one. Called as a module, an autoencoder
    takes images and reconstructs them. A network that has codes alone, or that needs a
    label, takes [batch, codes + labels], each code flat and its label one-hot behind it, and draws.
    """

    def __init__(self, network: nn.Module, *, config: GenerateRun) -> None:
        super().__init__(network, normalize=config.normalize_hu, residual=False)
        rows, columns = getattr(network, "image_size", (-1, -1))
        if self.draws_from_codes:
            self.input_shape = (-1, prod(self.latent_shape) + self.labels)
        else:
            self.input_shape = (-1, 1, rows, columns)
        self.output_shape = (-1, 1, rows, columns)

    @property
    def labels(self) -> int:
        """How many labels the network is conditional on; 0: none."""
        return int(getattr(self.network, "labels", 0))

    @property
    def latent_shape(self) -> tuple[int, ...]:
        """Of one code; raises ConfigError where codes have no fixed shape."""
        found = getattr(self.network, "latent_shape", None)
        if found is None:
            raise ConfigError(f"{type(self.network).__name__} has no space of codes to draw from")
        return tuple(found)

    @property
    def encodes(self) -> bool:
        """Whether images have codes."""
        return hasattr(self.network, "encode")

    @property
    def has_prior(self) -> bool:
        """Whether standard normal codes give images like the training's."""
        return not self.encodes or isinstance(self.network, VAE | VAEGAN)

    @property
    def draws_from_codes(self) -> bool:
        """Whether the module takes codes, with labels if any, in place of images."""
        return not self.encodes or self.labels > 0

    def forward(self, given: torch.Tensor) -> torch.Tensor:
        """Images [batch, 1, rows, columns] of images or of flat codes; see the class."""
        network: Any = self.network
        if not self.draws_from_codes:
            return super().forward(given)
        code = given[:, : prod(self.latent_shape)].unflatten(1, self.latent_shape)
        if self.labels:
            return self.in_hu(network.drawn(code, given[:, -self.labels :]).float())
        return self.in_hu(network.decode(code).float())


def generative(config: GenerateRun) -> Generative:
    """The run's network in its adapter."""
    return Generative(build(config.model, key="model", base=nn.Module), config=config)
