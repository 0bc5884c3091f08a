"""A loss that counts in chosen pixels alone: what the self-supervised updates share."""

from __future__ import annotations

import torch

from pipeline.training.steps.supervised import Supervised


class Masked(Supervised):
    """Supervised by a target that holds in some pixels of a batch and not in others."""

    spreads = False

    def descend(
        self,
        output_hu: torch.Tensor,
        target_hu: torch.Tensor,
        counts: torch.Tensor,
        *,
        share: float,
    ) -> dict[str, float]:
        """Add the gradient of the mean loss over the pixels that count.

        All [batch, 1, rows, columns], `counts` bool. Elsewhere the output is its own target, so
        that any loss that is a mean over pixels gives neither value nor gradient there.
        """
        fraction = counts.float().mean()
        target_hu = torch.where(counts, target_hu, output_hu.detach())
        loss = self.loss(output_hu / self.scale, target_hu / self.scale)
        loss = loss / fraction.clamp(min=1 / counts.numel())
        (loss * share).backward()
        return {"loss": loss.item()}
