"""Variational autoencoders (Kingma & Welling, ICLR 2014): images from codes, codes from images.

All take normalised images [batch, 1, rows, columns] of the size they were made for, and with
`labels` are conditional (Sohn et al., NeurIPS 2015): encoder and decoder get a label, so
that the code need not contain it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from math import prod

import torch
from torch import nn
from torch.nn.functional import one_hot

from pipeline.models.distributions import LOG_VARIANCE_RANGE, Bernoulli, Gaussian, Posterior

Halves = tuple[torch.Tensor, torch.Tensor]


class VAE(nn.Module, ABC):
    """What every variational autoencoder can do; how it encodes and decodes is a subclass's.

    likelihood: `gaussian` with `sigma` in normalised values, fitted along with `learn_sigma`,
    or `bernoulli`, for values in [0, 1]. labels: how many there are; 0 is unconditional.
    """

    def __init__(
        self,
        image_size: tuple[int, int],
        latent_shape: tuple[int, ...],
        *,
        labels: int = 0,
        likelihood: str = "gaussian",
        sigma: float = 0.1,
        learn_sigma: bool = False,
    ) -> None:
        super().__init__()
        if min(*image_size, *latent_shape) < 1 or labels < 0:
            raise ValueError(
                "image_size and latents must be positive and labels not negative, got "
                f"{image_size}, {latent_shape} and {labels}"
            )
        if likelihood not in ("gaussian", "bernoulli"):
            raise ValueError(f"likelihood: expected gaussian or bernoulli, got {likelihood!r}")
        self.image_size, self.latent_shape, self.labels = tuple(image_size), latent_shape, labels
        self.likelihood: Gaussian | Bernoulli = (
            Bernoulli() if likelihood == "bernoulli" else Gaussian(sigma, learn=learn_sigma)
        )

    def encode(self, image: torch.Tensor, label: torch.Tensor | None = None) -> Posterior:
        """The codes that an image may have; label [batch] of integers where conditional."""
        if image.shape[1:] != (1, *self.image_size):
            raise ValueError(
                f"this network was made for images of {self.image_size}, got "
                f"{tuple(image.shape[1:])}: resample them"
            )
        mean, log_variance = self._encoded(image, self._condition(label, image))
        return Posterior(mean.float(), log_variance.float().clamp(*LOG_VARIANCE_RANGE))

    def decode(self, latent: torch.Tensor, label: torch.Tensor | None = None) -> torch.Tensor:
        """The expected image of each code [batch, *latent_shape]."""
        return self.likelihood.mean(self.raw(latent, label))

    def drawn(self, latent: torch.Tensor, condition: torch.Tensor) -> torch.Tensor:
        """The same for labels that are one-hot already [batch, labels]."""
        return self.likelihood.mean(self._decoded(latent, condition))

    def raw(self, latent: torch.Tensor, label: torch.Tensor | None = None) -> torch.Tensor:
        """What the likelihood takes: the expected image, or its logits for Bernoulli."""
        return self._decoded(latent, self._condition(label, latent))

    def forward(self, image: torch.Tensor, label: torch.Tensor | None = None) -> torch.Tensor:
        """The reconstruction from the mean code: without any randomness."""
        return self.decode(self.encode(image, label).mean, label)

    def _condition(self, label: torch.Tensor | None, like: torch.Tensor) -> torch.Tensor:
        """One-hot labels [batch, labels]."""
        if (label is None) != (self.labels == 0):
            expected = f"a label in 0 ... {self.labels - 1}" if self.labels else "no label"
            raise ValueError(f"this network takes {expected} with each image")
        if label is None:
            return like.new_zeros(len(like), 0)
        return one_hot(label, self.labels).to(like)

    @abstractmethod
    def _encoded(self, image: torch.Tensor, condition: torch.Tensor) -> Halves:
        """Mean and log variance, each [batch, *latent_shape]."""

    @abstractmethod
    def _decoded(self, latent: torch.Tensor, condition: torch.Tensor) -> torch.Tensor:
        """[batch, 1, rows, columns], any real value."""


class DenseVAE(VAE):
    """Fully connected, for small pictures: every pixel may depend on every other.

    hidden: widths from image to code; the decoder has them the other way round.
    """

    def __init__(
        self,
        image_size: tuple[int, int],
        latents: int,
        *,
        hidden: Sequence[int] = (256, 256),
        labels: int = 0,
        likelihood: str = "gaussian",
        sigma: float = 0.1,
        learn_sigma: bool = False,
    ) -> None:
        super().__init__(
            image_size,
            (latents,),
            labels=labels,
            likelihood=likelihood,
            sigma=sigma,
            learn_sigma=learn_sigma,
        )
        from monai.networks.nets import FullyConnectedNet  # MONAI takes seconds to import

        pixels = prod(image_size)
        self.encoder = FullyConnectedNet(pixels + labels, 2 * latents, hidden)
        self.decoder = FullyConnectedNet(latents + labels, pixels, hidden[::-1])

    def _encoded(self, image: torch.Tensor, condition: torch.Tensor) -> Halves:
        mean, log_variance = self.encoder(torch.cat([image.flatten(1), condition], 1)).chunk(2, 1)
        return mean, log_variance

    def _decoded(self, latent: torch.Tensor, condition: torch.Tensor) -> torch.Tensor:
        pixels = self.decoder(torch.cat([latent, condition], dim=1))
        return pixels.unflatten(1, (1, *self.image_size))


class ConvVAE(VAE):
    """Convolutions down to one code for the whole image and up again: MONAI's VarAutoEncoder.

    channels: one convolution of stride 2 each, so that the sides must be multiples of
    2 ** len(channels). MONAI's own forward draws its noise from the global generator and is
    not used.
    """

    def __init__(
        self,
        image_size: tuple[int, int],
        latents: int,
        *,
        channels: Sequence[int] = (16, 32, 64, 128),
        norm: str | None = "batch",
        labels: int = 0,
        likelihood: str = "gaussian",
        sigma: float = 0.1,
        learn_sigma: bool = False,
    ) -> None:
        super().__init__(
            image_size,
            (latents,),
            labels=labels,
            likelihood=likelihood,
            sigma=sigma,
            learn_sigma=learn_sigma,
        )
        from monai.networks.nets import VarAutoEncoder  # MONAI takes seconds to import

        _require_multiples(image_size, 2 ** len(channels))
        self.body = VarAutoEncoder(
            spatial_dims=2,
            in_shape=(1 + labels, *image_size),
            out_channels=1,
            latent_size=latents,
            channels=channels,
            strides=[2] * len(channels),
            norm=norm,
        )
        # The decoder gets the label beside the code.
        self.body.decodeL = nn.Linear(latents + labels, self.body.decodeL.out_features)

    def _encoded(self, image: torch.Tensor, condition: torch.Tensor) -> Halves:
        planes = condition[:, :, None, None].expand(-1, -1, *self.image_size)
        # MONAI's own encode_forward takes the channels-first layout alone.
        hidden = self.body.intermediate(self.body.encode(torch.cat([image, planes], dim=1)))
        flat = hidden.flatten(1)
        return self.body.mu(flat), self.body.logvar(flat)

    def _decoded(self, latent: torch.Tensor, condition: torch.Tensor) -> torch.Tensor:
        return self.body.decode_forward(torch.cat([latent, condition], dim=1), use_sigmoid=False)


class SpatialVAE(VAE):
    """A small map of codes, each for a region of the image: MONAI's AutoencoderKL.

    As latent diffusion has it (Rombach et al., CVPR 2022), without attention and adversary. A
    code knows its own surroundings alone: reconstructions of patients never seen are good,
    samples from the prior are pieces that do not fit together. latents: channels of the map,
    2 ** (len(channels) - 1) times smaller than the image a side.
    """

    def __init__(
        self,
        image_size: tuple[int, int],
        latents: int,
        *,
        channels: Sequence[int] = (16, 32, 64, 64),
        groups: int = 8,
        likelihood: str = "gaussian",
        sigma: float = 0.1,
        learn_sigma: bool = False,
    ) -> None:
        reduction = 2 ** (len(channels) - 1)
        rows, columns = image_size
        super().__init__(
            image_size,
            (latents, rows // reduction, columns // reduction),
            likelihood=likelihood,
            sigma=sigma,
            learn_sigma=learn_sigma,
        )
        from monai.networks.nets import AutoencoderKL  # MONAI takes seconds to import

        _require_multiples(image_size, reduction)
        self.body = AutoencoderKL(
            spatial_dims=2,
            channels=channels,
            latent_channels=latents,
            num_res_blocks=1,
            norm_num_groups=groups,
            attention_levels=[False] * len(channels),
            with_encoder_nonlocal_attn=False,
            with_decoder_nonlocal_attn=False,
        )

    def _encoded(self, image: torch.Tensor, condition: torch.Tensor) -> Halves:
        mean, sigma = self.body.encode(image)
        return mean, 2 * sigma.log()

    def _decoded(self, latent: torch.Tensor, condition: torch.Tensor) -> torch.Tensor:
        return self.body.decode(latent)


def _require_multiples(image_size: tuple[int, int], factor: int) -> None:
    if any(side % factor for side in image_size):
        raise ValueError(f"image_size: expected multiples of {factor}, got {tuple(image_size)}")
