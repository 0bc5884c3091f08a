"""Sequences: each image against its target, and its change to the next against the target's."""

from __future__ import annotations

from typing import Any

import torch
from torch.nn.functional import l1_loss

from pipeline.training.steps.base import Batch
from pipeline.training.steps.supervised import Supervised


class Consistent(Supervised):
    """Supervised, on two neighbouring places of a video or a stack of slices at once.

    The batch's "input" and "target" hold both places with their neighbours, in a row:
    [batch, 2 + 2 neighbours, rows, columns]. consistency: what the mean absolute error of the step
    from one output to the next counts, against that of the targets: motion may be seen, flicker
    may not.
    """

    takes_sequences = True

    def __init__(self, *args: Any, consistency: float = 0.5, **options: Any) -> None:
        super().__init__(*args, **options)
        if consistency < 0:
            raise ValueError(f"consistency must not be negative, got {consistency}")
        self.consistency = consistency

    def backward(self, batch: Batch, *, share: float) -> dict[str, float]:
        """Logs the loss, and as "unsteady" the mean absolute error of the change."""
        frames, reach = batch["input"], getattr(self.model, "neighbours", 0)
        target = batch["target"][:, reach : frames.shape[1] - reach] / self.scale
        both = [self.model(frames[:, :-1]), self.model(frames[:, 1:])]
        output = torch.cat(both, dim=1) / self.scale
        loss = self.loss(output, target)
        unsteady = l1_loss(output.diff(dim=1), target.diff(dim=1))
        ((loss + self.consistency * unsteady) * share).backward()
        return {"loss": loss.item(), "unsteady": unsteady.item()}
