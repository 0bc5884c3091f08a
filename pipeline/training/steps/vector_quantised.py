"""Learning a code book: reconstruction, commitment, and reviving codes that are not used."""

from __future__ import annotations

from collections.abc import Callable

import torch

from pipeline.config.sections import Train
from pipeline.core.errors import ConfigError
from pipeline.models.adapters.base import HUModel
from pipeline.models.code_book import CodeBook
from pipeline.models.vqvae import VQVAE
from pipeline.training.steps.base import Batch
from pipeline.training.steps.supervised import Supervised


class VectorQuantised(Supervised):
    """Minimise loss(reconstruction, target) + commitment, for pipeline.models.vqvae.VQVAE.

    Of several stages, each image is rebuilt from the first few, their number drawn evenly, so that
    one decoder learns all of them (Zeghidour et al. 2022, section III-C).

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
            self.network.count(self.network.codes(image))
        rebuilt, commitment = self.network.rebuild(image, self._kept(len(image)))
        with torch.autocast(image.device.type, enabled=False):
            loss = self.loss(rebuilt.float(), image)
        ((loss + commitment) * share).backward()
        return {
            "loss": loss.item(),
            "commitment": commitment.item(),
            "codes_in_use": float(self.network.quantizer.perplexity),
        }

    def _kept(self, images: int) -> torch.Tensor | None:
        """From how many stages each image is rebuilt."""
        stages = self.network.stages
        if stages == 1:
            return None
        drawn = torch.randint(1, stages + 1, (images,), generator=self.random)
        return drawn.to(self.network.follows.device)

    @torch.no_grad()
    def _revive(self, image: torch.Tensor) -> None:
        inputs = self.network.inputs_of_stages(image)
        for book, given in zip(self.network.books, inputs, strict=True):
            self._revive_codes(book.quantizer, given.movedim(1, -1).flatten(0, -2))

    def _revive_codes(self, book: CodeBook, encoded: torch.Tensor) -> None:
        """Place a book's idle codes on some of what it was given, [places, dimensions]."""
        sizes = book.ema_cluster_size
        idle = torch.nonzero(sizes <= self.alive * sizes.mean()).flatten()
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
