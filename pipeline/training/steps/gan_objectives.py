"""What the two players of a generative adversarial network minimise.

On a discriminator's scores, logits of any shape: higher means more real.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable

import torch
from torch.nn.functional import relu, softplus

Judge = Callable[[torch.Tensor], torch.Tensor]


class Objective(ABC):
    """The losses of both players.

    vanishes: whether a discriminator that is always right leaves the generator without
    gradient, so that the step should warn of it.
    """

    vanishes = False

    @abstractmethod
    def discriminator(self, real: torch.Tensor, fake: torch.Tensor) -> torch.Tensor:
        """The discriminator's loss, a scalar."""

    @abstractmethod
    def generator(self, fake: torch.Tensor) -> torch.Tensor:
        """The generator's loss, a scalar."""

    def penalty(
        self,
        judge: Judge,
        real: torch.Tensor,
        fake: torch.Tensor,
        *,
        random: torch.Generator,
    ) -> torch.Tensor:
        """An additional loss of the discriminator, a scalar; 0 unless a subclass redefines it."""
        return real.new_zeros(())


class NonSaturating(Objective):
    """-log D(x) - log(1 - D(G(z))) against -log D(G(z)) (Goodfellow et al. 2014, section 3).

    MONAI's PatchAdversarialLoss has this (`bce`) through a sigmoid and a logarithm, which loses
    the gradient of confident scores; softplus keeps it.
    """

    vanishes = True

    def discriminator(self, real: torch.Tensor, fake: torch.Tensor) -> torch.Tensor:
        """-log D(real) - log(1 - D(fake)), the mean over scores."""
        return softplus(-real).mean() + softplus(fake).mean()

    def generator(self, fake: torch.Tensor) -> torch.Tensor:
        """-log D(fake), the mean over scores."""
        return softplus(-fake).mean()


class Minimax(NonSaturating):
    """The zero-sum game of Goodfellow et al. 2014, equation 1: the generator minimises
    log(1 - D(G(z))), whose gradient vanishes where the discriminator is certain. For study."""

    def generator(self, fake: torch.Tensor) -> torch.Tensor:
        """log(1 - D(fake)), the mean over scores."""
        return -softplus(fake).mean()


class Hinge(Objective):
    """Lim & Ye 2017, as in Miyato et al. 2018; goes with spectral norm.

    MONAI's `hinge` bounds scores by tanh first, which is another loss.
    """

    def discriminator(self, real: torch.Tensor, fake: torch.Tensor) -> torch.Tensor:
        """max(0, 1 - real) + max(0, 1 + fake), the mean over scores."""
        return relu(1 - real).mean() + relu(1 + fake).mean()

    def generator(self, fake: torch.Tensor) -> torch.Tensor:
        """Minus the mean score."""
        return -fake.mean()


class Wasserstein(Objective):
    """Wasserstein distance with a gradient penalty (Gulrajani et al., NeurIPS 2017).

    The penalty, `weight` (||gradient|| - 1)^2, is taken at random places between real and fake
    images, in full precision. A critic of patches counts by the mean of its scores.
    """

    def __init__(self, weight: float = 10.0) -> None:
        if weight < 0:
            raise ValueError(f"expected weight >= 0, got {weight}")
        self.weight = weight

    def discriminator(self, real: torch.Tensor, fake: torch.Tensor) -> torch.Tensor:
        """The mean score of fake less that of real images."""
        return fake.mean() - real.mean()

    def generator(self, fake: torch.Tensor) -> torch.Tensor:
        """Minus the mean score."""
        return -fake.mean()

    def penalty(
        self,
        judge: Judge,
        real: torch.Tensor,
        fake: torch.Tensor,
        *,
        random: torch.Generator,
    ) -> torch.Tensor:
        """weight (||gradient|| - 1)^2 at points between real and fake images; [batch, ...] each."""
        with torch.autocast(real.device.type, enabled=False):
            share = torch.rand(len(real), 1, 1, 1, generator=random).to(real.device)
            between = torch.lerp(fake.float(), real.float(), share).requires_grad_()
            scores = judge(between).flatten(1).mean(dim=1)
            (gradient,) = torch.autograd.grad(scores.sum(), between, create_graph=True)
            return self.weight * (gradient.flatten(1).norm(dim=1) - 1).square().mean()
