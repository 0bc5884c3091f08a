"""Learning from two noisy images of the same anatomy (Lehtinen et al., ICML 2018)."""

from __future__ import annotations

from collections.abc import Callable

import torch

from pipeline.config.sections import Train
from pipeline.core.errors import ConfigError
from pipeline.models.adapters.base import ModelAdapter
from pipeline.training.steps.base import Batch
from pipeline.training.steps.supervised import Supervised


class Noise2Noise(Supervised):
    """Minimise loss(model(input), a second noisy image); a mean-seeking loss finds the clean one.

    By default the second image is the batch's "partner" (`data: {partner: draw, realisations:
    2}`): two independent draws of inserted noise. What both share, the noise that the stored
    image had already, is kept; the same holds for supervised training on simulated pairs.

    With `mirror_dose`, the degradation's dose fraction a, the partner is made of the input:
    x - a / (1 - a) * n, where the input is x + n. If the inserted noise n is as strong as the
    physics says, the noise of x and n cancel in their covariance, so that both images are
    independent and the noise of x is removed too (Recorrupted-to-Recorrupted, Pang et al.,
    CVPR 2021). At half dose these are two halves of one scan. It needs `noise_scale: [1, 1]`.
    """

    def __init__(
        self,
        model: ModelAdapter,
        loss: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
        settings: Train,
        *,
        residual: bool = True,
        mirror_dose: float | None = None,
    ) -> None:
        super().__init__(model, loss, settings, residual=residual)
        if mirror_dose is not None and not 0 < mirror_dose < 1:
            raise ValueError(f"mirror_dose must lie in (0, 1), got {mirror_dose}")
        self.mirror_dose = mirror_dose

    def backward(self, batch: Batch, *, share: float) -> dict[str, float]:
        """Compare with the second noisy image. Raises ConfigError for a batch without one."""
        seen = {"input": batch["input"], "target": self._partner_hu(batch)}
        return super().backward(seen, share=share)

    def _partner_hu(self, batch: Batch) -> torch.Tensor:
        if self.mirror_dose is not None:
            inserted_hu = batch["input"] - batch["target"]
            return batch["target"] - self.mirror_dose / (1 - self.mirror_dose) * inserted_hu
        if "partner" not in batch:
            raise ConfigError("step: Noise2Noise needs data.partner: draw, or its own mirror_dose")
        return batch["partner"]
