"""The two distributions of a variational autoencoder: of codes, and of images given a code."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import nn
from torch.nn import functional

#: Outside this range exp overflows or the posterior is a point to float32.
LOG_VARIANCE_RANGE = (-20.0, 10.0)


class Posterior(NamedTuple):
    """q(z | image): independent normal distributions, both [batch, *latent_shape].

    The log of the variance is what a network gives: it may take any value.
    """

    mean: torch.Tensor
    log_variance: torch.Tensor

    def sample(self, generator: torch.Generator) -> torch.Tensor:
        """A code per image, differentiable in both parts (the reparameterisation trick).

        The noise is drawn on the CPU, so that it is the same on every device.
        """
        noise = torch.randn(self.mean.shape, generator=generator).to(self.mean)
        return self.mean + torch.exp(0.5 * self.log_variance) * noise

    def kl(self) -> torch.Tensor:
        """KL divergence in nats from the standard normal prior, of each latent of each image.

        0.5 * (var + mean^2 - 1 - log var) (Kingma & Welling 2014, appendix B).
        """
        variance = self.log_variance.exp()
        return 0.5 * (variance + self.mean.square() - 1 - self.log_variance)


class Gaussian(nn.Module):
    """p(image | z): a normal distribution of standard deviation `sigma` around each pixel.

    sigma is in normalised values: an error well below it counts as noise. A small sigma buys
    sharp reconstructions with many nats of KL; it acts as 1 / sqrt(beta) does. With `learn` it
    is fitted along (sigma-VAE, Rybkin et al., ICML 2021).
    """

    def __init__(self, sigma: float, *, learn: bool = False) -> None:
        super().__init__()
        if sigma <= 0:
            raise ValueError(f"sigma must be positive, got {sigma}")
        self.log_sigma = nn.Parameter(torch.tensor(math.log(sigma)), requires_grad=learn)

    def mean(self, raw: torch.Tensor) -> torch.Tensor:
        """The expected image of what the decoder gave."""
        return raw

    def log_prob(self, raw: torch.Tensor, image: torch.Tensor) -> torch.Tensor:
        """log p(image | z) in nats, [batch], a density over normalised values."""
        deviations = (image - raw.float()) / self.log_sigma.exp()
        per_pixel = -0.5 * (deviations.square() + math.log(2 * math.pi)) - self.log_sigma
        return per_pixel.flatten(1).sum(dim=1)


class Bernoulli(nn.Module):
    """p(image | z): each pixel white with some probability, black otherwise.

    A grey level in [0, 1] counts as a share of white, as is common; then it is a loss, and
    only for black and white images a probability.
    """

    def mean(self, raw: torch.Tensor) -> torch.Tensor:
        """The probability of white."""
        return raw.sigmoid()

    def log_prob(self, raw: torch.Tensor, image: torch.Tensor) -> torch.Tensor:
        """log p(image | z) in nats, [batch]; raises ValueError for values outside [0, 1]."""
        if image.min() < 0 or image.max() > 1:
            raise ValueError(
                "a Bernoulli likelihood needs normalised values in [0, 1], got "
                f"{image.min():.3g} to {image.max():.3g}: choose normalize_hu or a Gaussian one"
            )
        lost = functional.binary_cross_entropy_with_logits(raw.float(), image, reduction="none")
        return -lost.flatten(1).sum(dim=1)
