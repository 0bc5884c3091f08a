"""Update rules: what one iteration of the one training loop does."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar

import torch
from torch import nn

Batch = dict[str, torch.Tensor]


class Step(ABC):
    """One update rule. Owns its optimisers; the loop owns iteration, batches and checkpoints."""

    #: Whether several processes with a part of each batch do what one does with all of it: its
    #: gradients come of one call of the model, and its loss is a mean over the batch.
    supports_ddp: ClassVar[bool] = False
    #: Whether a batch's items are two neighbouring places of a sequence.
    takes_sequences: ClassVar[bool] = False

    @abstractmethod
    def networks(self) -> dict[str, nn.Module]:
        """What this rule trains, by the name that messages call it by."""

    @abstractmethod
    def backward(self, batch: Batch, *, share: float) -> dict[str, float]:
        """Add the gradient of `share` of this batch's loss; returns what to log."""

    @abstractmethod
    def update(self) -> dict[str, float]:
        """Apply the gathered gradient, once an iteration; returns what to log."""

    @abstractmethod
    def state_dict(self) -> dict[str, Any]:
        """Everything a resumed training needs besides the model."""

    @abstractmethod
    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what state_dict returned."""
