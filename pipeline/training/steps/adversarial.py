"""Generator against discriminator, in turns (Goodfellow et al., NeurIPS 2014)."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any

import torch
from pydantic import Field
from torch import nn

from pipeline.config.component import build
from pipeline.config.sections import Component, Train
from pipeline.core.errors import ConfigError
from pipeline.models.adapters.base import HUModel
from pipeline.models.gan import with_spectral_norm
from pipeline.training.steps.base import Batch, Step
from pipeline.training.steps.gan_health import GanMonitor
from pipeline.training.steps.gan_objectives import Judge, Objective
from pipeline.training.steps.running_mean import follow, require_average
from pipeline.training.steps.supervised import warmed_cosine

Logged = dict[str, float]


class DiscriminatorConfig(Component):
    """The discriminator: its network, which is no part of the model that is registered, and how
    it learns. `steps` are its turns for each of the generator's; without an lr of its own it has
    train.lr."""

    steps: Annotated[int, Field(ge=1)] = 1
    lr: Annotated[float, Field(gt=0)] | None = None
    spectral_norm: bool = False


@dataclass
class Player:
    """One side's weights and what moves them."""

    network: nn.Module
    optimiser: torch.optim.Optimizer
    schedule: torch.optim.lr_scheduler.LRScheduler

    @classmethod
    def of(
        cls, network: nn.Module, settings: Train, *, turns: int, lr: float, momentum: float
    ) -> Player:
        """A network with Adam, first beta `momentum`, and a warmed cosine over `turns` updates."""
        optimiser = torch.optim.Adam(network.parameters(), lr=lr, betas=(momentum, 0.999))
        own = settings.model_copy(update={"iterations": max(turns, 1), "lr": lr})
        return cls(network, optimiser, warmed_cosine(optimiser, own))

    def update(self, clip_gradient_norm: float | None) -> None:
        """One step of the optimiser and the schedule, the gradient's norm clipped if asked."""
        if clip_gradient_norm is not None:
            nn.utils.clip_grad_norm_(self.network.parameters(), clip_gradient_norm)
        self.optimiser.step()
        self.optimiser.zero_grad(set_to_none=True)
        self.schedule.step()

    def state_dict(self) -> dict[str, Any]:
        """Weights, optimiser and schedule of this side."""
        return {
            "network": self.network.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "schedule": self.schedule.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what state_dict returned."""
        self.network.load_state_dict(state["network"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.schedule.load_state_dict(state["schedule"])


class Adversarial(Step):
    """Learn to draw images like the batch's "target" from random codes.

    One iteration of the loop is one turn of one player, on a batch of its own: the generator's,
    then `discriminator.steps` of the discriminator's, so `train.iterations` counts the turns of
    both. Each has Adam, with `momentum` as its first beta, and a warmed-up cosine over its own
    turns. `objective` names a class of pipeline.training.steps.gan_objectives.

    The generator that is trained belongs to the step. The loop's model follows as a running
    mean of its weights, which keeps `average` of itself at each of the generator's turns (less
    in the first), and is what gets registered. average: 0 registers
    the generator itself.
    """

    def __init__(
        self,
        model: HUModel,
        settings: Train,
        *,
        discriminator: dict[str, Any],
        objective: dict[str, Any],
        loss: Callable[[torch.Tensor, torch.Tensor], torch.Tensor] | None = None,
        average: float = 0.999,
        momentum: float = 0.5,
    ) -> None:
        if loss is not None:
            raise ConfigError("loss: the players' losses are the objective's; leave it out")
        self.average, self.settings = require_average(average), settings
        self.discriminator_config = DiscriminatorConfig.model_validate(discriminator)
        self.objective: Objective = build(
            Component.model_validate(objective), key="step.args.objective", base=Objective
        )
        self.kept = model
        self.generator = copy.deepcopy(model)
        self.discriminator = self._build_discriminator(model)
        turns = self.generator_turns(settings.iterations)
        self.players = {
            "generator": Player.of(
                self.generator, settings, turns=turns, lr=settings.lr, momentum=momentum
            ),
            "discriminator": Player.of(
                self.discriminator,
                settings,
                turns=settings.iterations - turns,
                lr=self.discriminator_config.lr or settings.lr,
                momentum=momentum,
            ),
        }
        self.random = torch.Generator().manual_seed(settings.seed)
        self.monitor = GanMonitor(vanishes=self.objective.vanishes)
        self.done = 0
        self.latest: Logged = {}

    def _build_discriminator(self, model: HUModel) -> nn.Module:
        network = build(self.discriminator_config, key="step.args.discriminator", base=nn.Module)
        if self.discriminator_config.spectral_norm:
            network = with_spectral_norm(network)
        device = next(model.parameters()).device
        return network.to(device)

    def generator_turns(self, iterations: int) -> int:
        """How many of the first `iterations` are the generator's."""
        return math.ceil(iterations / (1 + self.discriminator_config.steps))

    @property
    def generates(self) -> bool:
        """Whether this iteration is the generator's turn."""
        return self.generator_turns(self.done + 1) > self.generator_turns(self.done)

    def networks(self) -> dict[str, nn.Module]:
        """Every player's, by its name."""
        return {name: player.network for name, player in self.players.items()}

    def backward(self, batch: Batch, *, share: float) -> Logged:
        """The turn of the player whose it is; logs the latest figures of both players."""
        generates = self.generates
        self.discriminator.requires_grad_(not generates)
        loss, logged = (self.generator_loss if generates else self.discriminator_loss)(batch)
        (loss * share).backward()
        # Each turn has figures of one player, and the log should show both.
        self.latest |= logged | self.monitor.figures()
        return dict(self.latest)

    def generator_loss(self, batch: Batch) -> tuple[torch.Tensor, Logged]:
        """The generator's loss with its graph, and what to log."""
        fake = self.fake(batch)
        self.monitor.see_images(self.real(batch), fake)
        loss = self.objective.generator(self.judge(batch)(fake))
        return loss, {"loss": loss.item()}

    def discriminator_loss(self, batch: Batch) -> tuple[torch.Tensor, Logged]:
        """The discriminator's loss with its graph, and what to log."""
        with torch.no_grad():
            fake = self.fake(batch)
        real, judge = self.real(batch), self.judge(batch)
        of_real, of_fake = judge(real), judge(fake)
        self.monitor.see_scores(of_real, of_fake)
        loss = self.objective.discriminator(of_real, of_fake)
        penalty = self.objective.penalty(judge, real, fake, random=self.random)
        return loss + penalty, {"discriminator_loss": loss.item(), "penalty": penalty.item()}

    def fake(self, batch: Batch) -> torch.Tensor:
        """As many images as the batch has, normalised, from the generator as it is."""
        network: Any = self.generator.network
        latent = self.draw(len(batch["target"]), *network.latent_shape)
        return network(latent.to(batch["target"].device))

    def draw(self, *shape: int) -> torch.Tensor:
        """Normal numbers from the step's own generator, the same on every device."""
        return torch.randn(shape, generator=self.random)

    def real(self, batch: Batch) -> torch.Tensor:
        """The batch's images as the discriminator sees them."""
        return self.kept.normalised(batch["target"])

    def judge(self, batch: Batch) -> Judge:
        """From normalised images to scores."""
        return self.scores

    def scores(self, image: torch.Tensor) -> torch.Tensor:
        """The discriminator's scores of normalised images [batch, 1, rows, columns]."""
        # MONAI's discriminators, and ours, give the features of every layer, the scores last.
        features = self.discriminator(image)
        scores = features[-1] if isinstance(features, list) else features
        return scores.float()  # or the means of an objective would be rounded to bf16

    def update(self) -> Logged:
        """Move the player whose turn it is; after the generator's, the running mean too."""
        generates = self.generates
        player = self.players["generator" if generates else "discriminator"]
        player.update(self.settings.clip_gradient_norm)
        self.done += 1
        if generates:
            turns = self.generator_turns(self.done)
            follow(self.kept, self.generator, turns=turns, average=self.average)
        rate = self.players["generator"].schedule.get_last_lr()[0]
        return {"learning_rate": float(rate)}

    def state_dict(self) -> dict[str, Any]:
        """Both players, the random state, the running means and the last figures."""
        return {
            "players": {name: player.state_dict() for name, player in self.players.items()},
            "random": self.random.get_state(),
            "watch": dict(self.monitor.means),
            "done": self.done,
            "latest": dict(self.latest),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what state_dict returned."""
        for name, player in self.players.items():
            player.load_state_dict(state["players"][name])
        self.random.set_state(state["random"].cpu())
        self.monitor.restore(state["watch"])
        self.done = state["done"]
        self.latest = dict(state["latest"])
