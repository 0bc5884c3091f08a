"""Learning from the adjacent slice: nearly the same anatomy, other noise."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch.nn.functional import avg_pool2d

from pipeline.config.sections import Train
from pipeline.core.errors import ConfigError
from pipeline.models.adapters.base import ModelAdapter
from pipeline.training.steps.base import Batch
from pipeline.training.steps.blind_spot import Masked


class Neighbour(Masked):
    """After Noise2Sim (Niu et al. 2022): the target is the adjacent slice where it is similar.

    Takes the batch's "partner" (`data: {partner: neighbour}`). A pixel counts where the means of
    both slices over a square of `window` pixels differ by at most `similar_hu`: elsewhere the
    anatomy has changed from one slice to the next. The original searches for the most similar
    pixel; here it is the one at the same place or none.

    Thin slices suit it. The noise of thick slices that overlap, or of a smooth kernel in z, is
    shared by neighbours and stays. The choice depends on the noise a little, more with a small
    window and a narrow `similar_hu`, which should be some times the noise's deviation over the
    window.
    """

    def __init__(
        self,
        model: ModelAdapter,
        loss: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
        settings: Train,
        *,
        residual: bool = True,
        similar_hu: float = 60.0,
        window: int = 7,
    ) -> None:
        super().__init__(model, loss, settings, residual=residual)
        if similar_hu <= 0 or window < 1 or window % 2 == 0:
            raise ValueError(
                f"expected similar_hu > 0 and an odd window, got {similar_hu} and {window}"
            )
        self.similar_hu, self.window = similar_hu, window

    def backward(self, batch: Batch, *, share: float) -> dict[str, float]:
        """Compare with "partner" where it is similar; ConfigError for a batch without one."""
        if "partner" not in batch:
            raise ConfigError("step: Neighbour needs data.partner: neighbour")
        similar = self.similar(batch["input"], batch["partner"])
        output_hu = self.model(batch["input"])
        logged = self.descend(output_hu, batch["partner"], similar, share=share)
        return {**logged, "similar_fraction": similar.float().mean().item()}

    def similar(self, image_hu: torch.Tensor, beside_hu: torch.Tensor) -> torch.Tensor:
        """Where two slices [batch, 1, rows, columns] show the same; bool of that shape."""
        difference_hu = avg_pool2d(
            image_hu - beside_hu,
            self.window,
            stride=1,
            padding=self.window // 2,
            count_include_pad=False,
        )
        return difference_hu.abs() <= self.similar_hu
