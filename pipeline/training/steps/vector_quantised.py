"""Learning a code book: reconstruction, commitment, and reviving codes that are not used."""

from __future__ import annotations

from collections.abc import Callable

import torch

from pipeline.config.sections import Train
from pipeline.core.errors import ConfigError
from pipeline.models.adapters.base import HUModel
from pipeline.models.vqvae import VQVAE
from pipeline.training.steps.base import Batch
from pipeline.training.steps.supervised import Supervised


class VectorQuantised(Supervised):
    """Minimise loss(reconstruction, target) + commitment, for pipeline.models.vqvae.VQVAE.

    The code book follows its codes' running means (MONAI's EMAQuantizer). Every `revive_every`
    iterations a code whose running use is less than `alive` of the mean is placed on what the
    encoder gave somewhere in the batch, with the mean for its use (Dhariwal et al. 2020, section
    3.2): else a few codes do all the work. An unused code must fall below `alive` within
    one such period, so it belongs to the network's decay: 0.95^30 is 0.21.

    In the last `counted` part of the training, when the rate is nearly nothing, it counts which
    code stands beside which: what pipeline.generative.codec expects of an image.
    """

    supports_ddp = False

    model: HUModel

    def __init__(
        self,
        model: HUModel,
        loss: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
        settings: Train,
        *,
        revive_every: int = 30,
        alive: float = 0.3,
        counted: float = 0.1,
    ) -> None:
        if not isinstance(model.network, VQVAE):
            raise ConfigError("step: VectorQuantised needs a model of pipeline.models.vqvae")
        super().__init__(model, loss, settings, residual=False)
        self.network: VQVAE = model.network
        self.revive_every, self.alive = revive_every, alive
        self.counts_from = round((1 - counted) * settings.iterations)
        self.random = torch.Generator().manual_seed(settings.seed)
        self.done = 0

    def backward(self, batch: Batch, *, share: float) -> dict[str, float]:
        """Reconstruct "target"; revive idle codes, or count neighbours, when it is time."""
        image = self.model.normalised(batch["target"])
        if self.done % self.revive_every == 0 and self.done < self.counts_from:
            self._revive(image)
        if self.done >= self.counts_from:
            self._count(image)
        rebuilt, commitment = self.network.rebuild(image)
        loss = self.loss(rebuilt.float(), image)
        ((loss + commitment) * share).backward()
        return {
            "loss": loss.item(),
            "commitment": commitment.item(),
            "codes_in_use": float(self.network.quantizer.perplexity),
        }

    @torch.no_grad()
    def _count(self, image: torch.Tensor) -> None:
        # In training mode asking for codes would move the book.
        self.network.eval()
        self.network.count(self.network.codes(image))
        self.network.train()

    @torch.no_grad()
    def _revive(self, image: torch.Tensor) -> None:
        book = self.network.quantizer.quantizer
        sizes = book.ema_cluster_size
        idle = torch.nonzero(sizes <= self.alive * sizes.mean()).flatten()
        encoded = (
            self.network.encode(self.network.padded(image)).movedim(1, -1).flatten(0, -2).float()
        )
        chosen = torch.randint(len(encoded), (len(idle),), generator=self.random)
        fresh = encoded[chosen.to(encoded.device)]
        size = sizes.mean() if self.done else len(encoded) / len(sizes)
        book.embedding.weight[idle] = fresh
        book.ema_w[idle] = fresh * size
        sizes[idle] = size

    def update(self) -> dict[str, float]:
        """As Supervised; counts updates for reviving and counting codes."""
        self.done += 1
        return super().update()

    def state_dict(self) -> dict:
        """As Supervised, with the random state and the number of updates."""
        own = {"random": self.random.get_state(), "done": self.done}
        return {**super().state_dict(), **own}

    def load_state_dict(self, state: dict) -> None:
        """Restore what state_dict returned."""
        super().load_state_dict(state)
        self.random.set_state(state["random"].cpu())
        self.done = state["done"]
