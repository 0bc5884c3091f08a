"""The adversarial update while both networks grow (Karras et al., ICLR 2018)."""

from __future__ import annotations

from typing import Any

import torch

from pipeline.config.sections import Train
from pipeline.models.adapters.base import HUModel
from pipeline.models.progressive import Levels, enlarged, reduced
from pipeline.training.steps.adversarial import Adversarial, Logged
from pipeline.training.steps.base import Batch


class Progressive(Adversarial):
    """Adversarial for pipeline.models.progressive: the level rises from 0 to the last.

    The training is cut into as many equal parts as there are sizes and transitions: a size
    holds for one part, the next is faded in over one. The real images are reduced to the size at
    work, and mixed like the generated ones while the next is faded in. Batches keep their
    number of images at all sizes.
    """

    def __init__(
        self,
        model: HUModel,
        settings: Train,
        **options: Any,
    ) -> None:
        super().__init__(model, settings, **options)
        networks = (self.kept.network, self.generator.network, self.discriminator)
        self.growing = [network for network in networks if isinstance(network, Levels)]
        if len(self.growing) != len(networks):
            raise ValueError("model and discriminator must be those of pipeline.models.progressive")

    def backward(self, batch: Batch, *, share: float) -> Logged:
        """As Adversarial, with both networks at the level of this iteration; logs it."""
        level = level_at(self.done, self.settings.iterations, last=self.growing[0].last)
        for network in self.growing:
            network.to_level(level)
        return {**super().backward(batch, share=share), "level": level}

    def real(self, batch: Batch) -> torch.Tensor:
        """The batch's images [batch, 1, side, side], normalised, at the size of the level."""
        images, network = self.kept.normalised(batch["target"]), self.growing[0]
        doublings, share = network.stage
        at_work = reduced(images, network.last - doublings)
        if share == 1:
            return at_work
        return torch.lerp(enlarged(reduced(at_work)), at_work, share)


def level_at(iteration: int, iterations: int, *, last: int) -> float:
    """0 for one part of the training, to 1 over the next, and so on up to `last`."""
    part, within = divmod(iteration * (2 * last + 1) / iterations, 1.0)
    return part // 2 + (within if part % 2 else 0.0)
