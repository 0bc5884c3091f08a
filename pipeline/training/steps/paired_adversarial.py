"""A discriminator beside a paired loss, which restores texture that a mean square error removes.

The mean square error makes a denoiser answer with the mean of all images that the input may
have come from, which is smooth. A generator that must also pass for full dose keeps a texture,
and pays for it in PSNR.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any

import torch
from pydantic import Field
from torch import nn
from torch.nn.functional import l1_loss, mse_loss

from pipeline.config.component import build
from pipeline.config.sections import Component, Strict, Train
from pipeline.core.errors import ConfigError
from pipeline.core.units import Window
from pipeline.models.adapters.base import HUModel
from pipeline.models.distributions import Posterior
from pipeline.training.steps.adversarial import Adversarial, Logged, Player
from pipeline.training.steps.base import Batch
from pipeline.training.steps.gan_objectives import Judge

Weight = Annotated[float, Field(ge=0)]


class Weights(Strict):
    """What each part counts in the generator's loss."""

    content: Weight = 1.0
    perceptual: Weight = 0.0
    adversarial: Weight = 1.0
    feature_matching: Weight = 0.0
    style: Weight = 0.05


@dataclass(frozen=True)
class Drawn:
    """What the generator makes of a batch's input.

    output_hu: [batch, channels, rows, columns], in HU or grey levels. divergence: of the styles'
    codes from normal numbers, in nats, a mean over the batch; None of one style.
    """

    output_hu: torch.Tensor
    divergence: torch.Tensor | None = None


class PairedAdversarial(Adversarial):
    """The model's output against the target: by `loss`, by features, by a discriminator.

    conditional: the discriminator sees the input beside the image and so judges pairs, two
    channels (pix2pix, Isola et al., CVPR 2017, with MONAI's PatchDiscriminator); otherwise the
    image alone, one channel. Of an input with holes it sees what is known in place of it, in one
    channel: beside the holes image and input are the same.

    `loss` is taken on normalised values, as in Supervised. Discriminator and features see
    `window`, (centre, width) in HU, scaled to [-1, 1]: texture of 20 HU would be lost beside
    bone and air. Without one they see all, normalised.

    The first `rehearsal` iterations are the generator's alone, by `loss`. A perceptual weight
    needs them, and `features`: a network with a part named `encode`, such as MONAI's
    AutoEncoder, which in those iterations learns to rebuild the targets, and is frozen then. The
    mean square distance of what it encodes is the perceptual loss (Yang et al., IEEE TMI 2018,
    with a Wasserstein critic; they took VGG, which has seen photographs), in units of
    the features' variance in the targets.

    A weight of feature_matching holds what the discriminator's inner layers give of the output to
    what they give of the target (pix2pixHD, Wang et al., CVPR 2018): the mean absolute difference,
    a mean over layers.

    A generator with a code for the style (pipeline.models.spade) gets that of the target, drawn as
    a variational autoencoder draws it; the weight `style` is of the codes' divergence from normal
    numbers, so that one may be drawn without a picture (Park et al., CVPR 2019, section 3).
    """

    def __init__(
        self,
        model: HUModel,
        loss: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
        settings: Train,
        *,
        discriminator: dict[str, Any],
        objective: dict[str, Any],
        weights: dict[str, float],
        conditional: bool = False,
        window: tuple[float, float] | None = None,
        features: dict[str, Any] | None = None,
        rehearsal: int = 0,
        residual: bool = True,
        **options: Any,
    ) -> None:
        self.weights = Weights.model_validate(weights)
        self.conditional, self.rehearsal = conditional, rehearsal
        self.window = None if window is None else Window(*window)
        if self.weights.perceptual and not (features and rehearsal):
            raise ConfigError(
                "step.args: a perceptual weight needs features and a rehearsal to train them in"
            )
        super().__init__(
            model, settings, discriminator=discriminator, objective=objective, **options
        )
        self.loss = loss
        self.features: Any = None
        if self.weights.perceptual and features:
            component = Component.model_validate(features)
            network = build(component, key="step.args.features", base=nn.Module)
            self.features = network.to(next(model.parameters()).device)
            self.players["features"] = Player.of(
                self.features, settings, turns=rehearsal, lr=settings.lr, momentum=0.9
            )

    @property
    def pretraining(self) -> bool:
        """Whether the first `rehearsal` iterations are not over."""
        return self.done < self.rehearsal

    def generator_turns(self, iterations: int) -> int:
        """How many of the first `iterations` are the generator's: all of the rehearsal."""
        game = max(0, iterations - self.rehearsal)
        return min(iterations, self.rehearsal) + super().generator_turns(game)

    def fake(self, batch: Batch) -> torch.Tensor:
        """The model's output for "input", as the discriminator sees it."""
        return self.seen(self.drawn(batch).output_hu)

    def drawn(self, batch: Batch) -> Drawn:
        """The generator's output for "input", in the style of "target" where it has styles."""
        network: Any = self.generator.network
        if not getattr(network, "style", 0):
            return Drawn(self.generator(batch["input"]))
        found: Posterior = network.encode(self.kept.normalised(batch["target"]))
        output_hu = self.generator(batch["input"], found.sample(self.random))
        return Drawn(output_hu, found.kl().sum(dim=1).mean())

    def real(self, batch: Batch) -> torch.Tensor:
        """ "target", as the discriminator sees it."""
        return self.seen(batch["target"])

    def seen(self, image_hu: torch.Tensor) -> torch.Tensor:
        """Images as discriminator and features see them."""
        if self.window is None:
            return self.kept.normalised(image_hu)
        return ((image_hu - self.window.centre) * (2 / self.window.width)).clamp(-1, 1)

    def judge(self, batch: Batch) -> Judge:
        """From images as the discriminator sees them to scores, with "input" if conditional."""
        return lambda image: self.scores(self.judged(batch, image))

    def judged(self, batch: Batch, image: torch.Tensor) -> torch.Tensor:
        """What the discriminator gets of an image: "input" beside it if conditional."""
        if not self.conditional:
            return image
        return torch.cat([image, self.condition(batch)], dim=1)

    def condition(self, batch: Batch) -> torch.Tensor:
        """ "input" as the discriminator sees it; of one with holes, which pixels are known."""
        if getattr(self.kept, "hides", False):
            return batch["input"][:, :1].isfinite().to(batch["target"].dtype)
        return self.seen(batch["input"])

    def generator_loss(self, batch: Batch) -> tuple[torch.Tensor, Logged]:
        """Content, perceptual and adversarial loss, weighted; content alone in the rehearsal."""
        drawn = self.drawn(batch)
        fake, real = self.seen(drawn.output_hu), self.real(batch)
        content = self.content_loss(drawn.output_hu, batch)
        logged = {"loss": content.item()}
        if self.pretraining:
            return content + self._features_loss(real), logged
        loss = self.weights.content * content
        if drawn.divergence is not None:
            loss = loss + self.weights.style * drawn.divergence
            logged["style_divergence"] = drawn.divergence.item()
        if self.features is not None:
            perceptual = self.perceptual(fake, real)
            loss = loss + self.weights.perceptual * perceptual
            logged["perceptual_loss"] = perceptual.item()
        if self.weights.feature_matching:
            matching = self.feature_matching(batch, fake, real)
            loss = loss + self.weights.feature_matching * matching
            logged["feature_matching_loss"] = matching.item()
        adversarial = self.objective.generator(self.judge(batch)(fake))
        logged["adversarial_loss"] = adversarial.item()
        self.monitor.see_images(real, fake)
        return loss + self.weights.adversarial * adversarial, logged

    def content_loss(self, output_hu: torch.Tensor, batch: Batch) -> torch.Tensor:
        """The output against "target" by `loss`."""
        return self.loss(output_hu / self.kept.scale, batch["target"] / self.kept.scale)

    def _features_loss(self, real: torch.Tensor) -> torch.Tensor:
        if self.features is None:
            return real.new_zeros(())
        return mse_loss(self.features(real).float(), real)

    def perceptual(self, fake: torch.Tensor, real: torch.Tensor) -> torch.Tensor:
        """Mean square distance of features, in the variance of the real ones."""
        self.features.requires_grad_(False)
        of_fake, of_real = (self.features.encode(image).float() for image in (fake, real))
        return mse_loss(of_fake, of_real) / of_real.var().clamp(min=1e-12)

    def feature_matching(
        self, batch: Batch, fake: torch.Tensor, real: torch.Tensor
    ) -> torch.Tensor:
        """Mean absolute difference of the discriminator's features, a mean over its layers."""
        of_fake = self.discriminator(self.judged(batch, fake))
        if not isinstance(of_fake, list):
            kind = type(self.discriminator).__name__
            raise ConfigError(f"step.args.weights.feature_matching: {kind} gives its scores alone")
        with torch.no_grad():
            of_real = self.discriminator(self.judged(batch, real))
        layers = zip(of_fake[:-1], of_real[:-1], strict=True)
        return torch.stack([l1_loss(one.float(), other.float()) for one, other in layers]).mean()

    def update(self) -> Logged:
        """As Adversarial; in the rehearsal the feature network moves too."""
        if self.pretraining and self.features is not None:
            self.players["features"].update(self.settings.clip_gradient_norm)
        return super().update()
