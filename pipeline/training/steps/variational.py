"""Maximising the evidence lower bound: reconstruction against regularity."""

from __future__ import annotations

from collections.abc import Callable
from math import prod

import torch

from pipeline.config.sections import Train
from pipeline.core.errors import ConfigError
from pipeline.models.adapters.base import HUModel
from pipeline.models.vae import VAE
from pipeline.training.steps.base import Batch
from pipeline.training.steps.supervised import Supervised


class Variational(Supervised):
    """Maximise E[log p(target | z)] - beta * KL(q(z | input) || N(0, 1)), z drawn once an image.

    Kingma & Welling, ICLR 2014; beta other than 1 is the beta-VAE (Higgins et al., ICLR 2017):
    more of it leaves fewer latents active. The network's own likelihood is the reconstruction
    term, so `loss` stays out of the configuration: a Gaussian one is a mean square error.

    warmup: the KL term grows from nothing over so many updates (Bowman et al., CoNLL 2016), lest
    latents switch off before the decoder has learnt to use them; or from `beta_from`. Where that
    is above beta the weight falls: at first a latent is worth its cost only for what matters most
    in an image, such as place, which so gets latents of its own, and the rest comes later
    (Burgess et al. 2018, arXiv:1804.03599, let the capacity of the code grow instead).

    `reconstruction: 0` and `beta: 0` train on one term alone, to see what each is for. Takes
    "input", "target" and, for a conditional network, "label" [batch]. Logs nats per image; `elbo`
    is with beta 1 and fully warmed up, whatever is trained on.
    """

    supports_ddp = False

    model: HUModel

    def __init__(
        self,
        model: HUModel,
        settings: Train,
        *,
        loss: Callable[[torch.Tensor, torch.Tensor], torch.Tensor] | None = None,
        beta: float = 1.0,
        reconstruction: float = 1.0,
        warmup: int = 0,
        beta_from: float = 0.0,
    ) -> None:
        if loss is not None:
            raise ConfigError("loss: Variational has the likelihood of its network; leave it out")
        if not isinstance(model.network, VAE):
            raise ConfigError("step: Variational needs a model of pipeline.models.vae")
        if min(beta, reconstruction, warmup, beta_from) < 0 or beta == reconstruction == 0:
            raise ValueError(
                "expected beta, reconstruction, warmup and beta_from of at least 0 and not both "
                f"terms off, got {beta}, {reconstruction}, {warmup} and {beta_from}"
            )
        if beta_from and not warmup:
            raise ValueError(f"beta_from {beta_from} needs a warmup, over which it becomes beta")
        self.network = model.network
        super().__init__(model, self.network.likelihood.log_prob, settings, residual=False)
        self.beta, self.reconstruction, self.warmup = beta, reconstruction, warmup
        self.beta_from = beta_from
        self.updates = 0
        self.generator = torch.Generator().manual_seed(settings.seed)

    def backward(self, batch: Batch, *, share: float) -> dict[str, float]:
        """Encode "input", draw one code an image, and compare its decoding with "target"."""
        label = batch["label"] if self.network.labels else None
        posterior = self.network.encode(self.model.normalised(batch["input"]), label)
        raw = self.network.raw(posterior.sample(self.generator), label)
        log_likelihood = self.loss(raw, self.model.normalised(batch["target"])).mean()
        kl = posterior.kl().flatten(1).sum(dim=1).mean()
        weight = self.kl_weight()
        # By the pixel, so that clipping and rates mean the same at every image size.
        objective = (weight * kl - self.reconstruction * log_likelihood) / prod(raw.shape[1:])
        (objective * share).backward()
        return {
            "loss": objective.item(),
            "reconstruction": -log_likelihood.item(),
            "kl": kl.item(),
            "elbo": (log_likelihood - kl).item(),
            "kl_weight": weight,
        }

    def kl_weight(self) -> float:
        """beta; while warming up, on the way there from `beta_from`."""
        share = min(1.0, (self.updates + 1) / max(1, self.warmup))
        return self.beta_from + (self.beta - self.beta_from) * share

    def update(self) -> dict[str, float]:
        """As Supervised; counts updates for the KL term's warm-up."""
        self.updates += 1
        return super().update()

    def state_dict(self) -> dict:
        """As Supervised, with the random state and the number of updates."""
        own = {"updates": self.updates, "generator": self.generator.get_state()}
        return {**super().state_dict(), **own}

    def load_state_dict(self, state: dict) -> None:
        """Restore what state_dict returned."""
        super().load_state_dict(state)
        self.updates = state["updates"]
        self.generator.set_state(state["generator"].cpu())
