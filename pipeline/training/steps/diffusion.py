"""Learning to take noise away, at every strength of it (Ho et al., NeurIPS 2020)."""

from __future__ import annotations

import copy
from collections.abc import Callable

import torch
from torch.nn.functional import mse_loss

from pipeline.config.sections import Train
from pipeline.core.errors import ConfigError
from pipeline.models.adapters.base import HUModel
from pipeline.models.diffusion import Diffusion
from pipeline.training.steps.base import Batch
from pipeline.training.steps.running_mean import follow, require_average
from pipeline.training.steps.supervised import Supervised


class DiffusionStep(Supervised):
    """Mean square error of what pipeline.models.diffusion.Diffusion predicts of noisy images.

    Each image of "target" gets normal noise of a timestep of its own. The timesteps of a batch lie
    evenly over all, from a random first one on, so that its loss varies less (Kingma et al.,
    NeurIPS 2021). For a conditional network "label" [batch] goes with them.

    The network that is trained belongs to the step. The loop's model follows as a running mean of
    its weights, which keeps `average` of itself at each update (less in the first), and is what
    gets registered: what it draws is smoother. average: 0 registers the network itself.
    """

    supports_ddp = False

    model: HUModel

    def __init__(
        self,
        model: HUModel,
        settings: Train,
        *,
        loss: Callable[[torch.Tensor, torch.Tensor], torch.Tensor] | None = None,
        average: float = 0.999,
    ) -> None:
        if loss is not None:
            raise ConfigError("loss: DiffusionStep has a mean square error; leave it out")
        if not isinstance(model.network, Diffusion):
            raise ConfigError("step: DiffusionStep needs pipeline.models.diffusion.Diffusion")
        self.kept, self.average = model, require_average(average)
        super().__init__(copy.deepcopy(model), mse_loss, settings, residual=False)
        self.random = torch.Generator().manual_seed(settings.seed)
        self.updates = 0

    @property
    def network(self) -> Diffusion:
        """The network that is trained."""
        assert isinstance(self.model.network, Diffusion)
        return self.model.network

    def backward(self, batch: Batch, *, share: float) -> dict[str, float]:
        """Add noise to "target" [batch, 1, rows, columns] in HU, and predict it."""
        image, network = self.model.normalised(batch["target"]), self.network
        noise = torch.randn(image.shape, generator=self.random).to(image.device)
        timestep = self.timesteps(len(image)).to(image.device)
        label = batch["label"] if network.labels else None
        predicted = network.predicted(network.noisy(image, noise, timestep), timestep, label)
        loss = self.loss(predicted, network.wanted(image, noise, timestep))
        (loss * share).backward()
        return {"loss": loss.item()}

    def timesteps(self, count: int) -> torch.Tensor:
        """[count], evenly over all timesteps from a random first one on."""
        places = (torch.rand((), generator=self.random) + torch.arange(count) / count) % 1
        return (places * self.network.timesteps).long().clamp(max=self.network.timesteps - 1)

    def update(self) -> dict[str, float]:
        """As Supervised; then the running mean follows."""
        logged = super().update()
        self.updates += 1
        follow(self.kept, self.model, turns=self.updates, average=self.average)
        return logged

    def state_dict(self) -> dict:
        """As Supervised, with the trained network, the random state and the number of updates."""
        own = {"random": self.random.get_state(), "updates": self.updates}
        return {**super().state_dict(), **own, "trained": self.model.state_dict()}

    def load_state_dict(self, state: dict) -> None:
        """Restore what state_dict returned."""
        super().load_state_dict(state)
        self.model.load_state_dict(state["trained"])
        self.random.set_state(state["random"].cpu())
        self.updates = state["updates"]
