"""An autoencoder whose reconstruction error is measured in a discriminator's features."""

from __future__ import annotations

from typing import Any

import torch
from torch.nn.functional import mse_loss

from pipeline.config.sections import Strict, Train
from pipeline.core.errors import ConfigError
from pipeline.models.adapters.base import HUModel
from pipeline.models.gan import VAEGAN
from pipeline.training.steps.adversarial import Adversarial, Logged
from pipeline.training.steps.base import Batch
from pipeline.training.steps.paired_adversarial import Weight


class Weights(Strict):
    """What each part counts. divergence: of KL, in nats an image; features: of the mean square
    distance of features."""

    divergence: Weight = 1e-3
    features: Weight = 1.0
    adversarial: Weight = 1.0


class VAEGANStep(Adversarial):
    """VAE-GAN (Larsen et al., ICML 2016) for pipeline.models.gan.VAEGAN.

    Encoder and decoder minimise the divergence of the codes from normal and the distance
    between an image and its reconstruction in the discriminator's layer before the scores. The
    decoder alone also plays the generator, with reconstructions and images from random codes;
    no gradient of the game reaches the encoder, and none of the reconstruction the discriminator.
    """

    def __init__(
        self,
        model: HUModel,
        settings: Train,
        *,
        weights: dict[str, float] | None = None,
        **options: Any,
    ) -> None:
        if not isinstance(model.network, VAEGAN):
            raise ConfigError("step: VAEGANStep needs pipeline.models.gan.VAEGAN")
        super().__init__(model, settings, **options)
        self.weights = Weights.model_validate(weights or {})
        self.network: Any = self.generator.network

    def generator_loss(self, batch: Batch) -> tuple[torch.Tensor, Logged]:
        """Divergence, feature distance and adversarial loss, each by its weight."""
        image, network = self.real(batch), self.network
        posterior = network.encode(image)
        divergence = posterior.kl().sum(dim=1).mean()
        code = posterior.sample(self.random)
        rebuilt = network.decode(code)
        features = mse_loss(self.features(rebuilt), self.features(image))
        played = network.decode(torch.cat([code.detach(), self._random_like(code)]))
        self.monitor.see_images(image, played[len(image) :])
        adversarial = self.objective.generator(self.scores(played))
        loss = (
            self.weights.divergence * divergence
            + self.weights.features * features
            + self.weights.adversarial * adversarial
        )
        return loss, {
            "loss": features.item(),
            "divergence": divergence.item(),
            "adversarial_loss": adversarial.item(),
        }

    def fake(self, batch: Batch) -> torch.Tensor:
        """Reconstructions of half the batch, and as many images from random codes."""
        network = self.network
        codes = network.encode(self.real(batch)).sample(self.random)
        half = len(codes) // 2
        return network.decode(torch.cat([codes[:half], self._random_like(codes[half:])]))

    def features(self, image: torch.Tensor) -> torch.Tensor:
        """The discriminator's last layer before the scores."""
        return self.discriminator(image)[-2].float()

    def _random_like(self, codes: torch.Tensor) -> torch.Tensor:
        return self.draw(*codes.shape).to(codes.device)
