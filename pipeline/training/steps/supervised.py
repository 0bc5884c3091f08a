"""The plain update: output against target."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from torch import nn

from pipeline.config.sections import Train
from pipeline.core.errors import ConfigError
from pipeline.models.adapters.base import ModelAdapter
from pipeline.training.steps.base import Batch, Step


class Supervised(Step):
    """Minimise loss(model(input), target) with Adam and a warmed-up cosine decay, if any.

    Owns the optimiser and the schedule. The loss is taken on normalised values (HU / scale),
    so that a learning rate means the same for every normalisation. `residual` is read by the
    model's adapter (pipeline.models.adapters.base).
    """

    supports_ddp = True

    def __init__(
        self,
        model: ModelAdapter,
        loss: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
        settings: Train,
        *,
        residual: bool = True,
        decay: Literal["cosine", "none"] = "cosine",
    ) -> None:
        if decay not in ("cosine", "none"):
            raise ValueError(f"decay must be cosine or none, got {decay}")
        if getattr(model.network, "style", 0):
            raise ConfigError(
                "model.args.style: nothing teaches it by this step; take paired_adversarial, or "
                "adversarial_frames for sequences"
            )
        self.model = model
        self.loss = loss
        self.settings = settings
        self.scale = model.scale
        self.optimiser = torch.optim.Adam(model.parameters(), lr=settings.lr)
        self.schedule = warmed_cosine(self.optimiser, settings, decay)

    def networks(self) -> dict[str, nn.Module]:
        """The model alone."""
        return {"model": self.model}

    def backward(self, batch: Batch, *, share: float) -> dict[str, float]:
        """Compare the output for "input" with "target", both [batch, 1, rows, columns] in HU.

        "dose_ratio" [batch], where items have it, goes to the model.
        """
        conditions = [batch[name] for name in ("dose_ratio",) if name in batch]
        output_hu = self.model(batch["input"], *conditions)
        loss = self.loss(output_hu / self.scale, batch["target"] / self.scale)
        (loss * share).backward()
        return {"loss": loss.item()}

    def update(self) -> dict[str, float]:
        """Clip the gradient, move the weights and the learning rate; logs the rate before it."""
        if self.settings.clip_gradient_norm is not None:
            nn.utils.clip_grad_norm_(self.model.parameters(), self.settings.clip_gradient_norm)
        rate = float(self.schedule.get_last_lr()[0])
        self.optimiser.step()
        self.optimiser.zero_grad(set_to_none=True)
        self.schedule.step()
        return {"learning_rate": rate}

    def state_dict(self) -> dict:
        """The states of the optimiser and the schedule."""
        return {"optimiser": self.optimiser.state_dict(), "schedule": self.schedule.state_dict()}

    def load_state_dict(self, state: dict) -> None:
        """Restore what state_dict returned."""
        self.optimiser.load_state_dict(state["optimiser"])
        self.schedule.load_state_dict(state["schedule"])


def warmed_cosine(
    optimiser: torch.optim.Optimizer, settings: Train, decay: str = "cosine"
) -> torch.optim.lr_scheduler.LRScheduler:
    """The rate over settings.iterations updates: a ramp of settings.warmup, then `decay`."""
    warmup = min(settings.warmup, settings.iterations - 1)
    lowest = 1e-3 if decay == "cosine" else 1.0  # a cosine that ends where it starts is constant
    cosine = torch.optim.lr_scheduler.CosineAnnealingLR(
        optimiser, settings.iterations - warmup, eta_min=settings.lr * lowest
    )
    if not warmup:
        return cosine
    ramp = torch.optim.lr_scheduler.LinearLR(optimiser, 1 / (warmup + 1), 1.0, warmup)
    return torch.optim.lr_scheduler.SequentialLR(optimiser, [ramp, cosine], [warmup])
