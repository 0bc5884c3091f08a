"""Sequences with texture: a discriminator beside the change from one place to the next."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.nn.functional import l1_loss

from pipeline.training.steps.adversarial import Logged
from pipeline.training.steps.base import Batch
from pipeline.training.steps.paired_adversarial import Drawn, PairedAdversarial


class AdversarialFrames(PairedAdversarial):
    """PairedAdversarial, on two neighbouring places of a video or a stack of slices at once.

    Batches are those of pipeline.training.steps.temporal_consistency. Both places are drawn from
    the same noise and in the same style, as those of a sequence are when a model is applied, and
    the discriminator sees one at a time. consistency: what the mean absolute error of the step
    from one output to the next counts, beside `loss`, against that of the targets.
    """

    takes_sequences = True

    def __init__(self, *args: Any, consistency: float = 0.5, **options: Any) -> None:
        super().__init__(*args, **options)
        if consistency < 0:
            raise ValueError(f"consistency must not be negative, got {consistency}")
        self.consistency = consistency

    def backward(self, batch: Batch, *, share: float) -> Logged:
        """As PairedAdversarial, on the first places of all items and then the second ones."""
        frames, target = batch["input"], batch["target"]
        reach = getattr(self.kept, "neighbours", 0)
        both = {
            "input": torch.cat([frames[:, :-1], frames[:, 1:]]),
            "target": torch.cat([target[:, reach : reach + 1], target[:, reach + 1 : reach + 2]]),
        }
        return super().backward(both, share=share)

    def drawn(self, batch: Batch) -> Drawn:
        """Both places, one after the other, from the same random numbers."""
        first, second = (
            {name: batch[name].chunk(2)[place] for name in ("input", "target")}
            for place in range(2)
        )
        with self._drawn_again():
            before = super().drawn(first)
        # The style is the sequence's: the second place has that of the first.
        after = super().drawn({**second, "target": first["target"]})
        return Drawn(torch.cat([before.output_hu, after.output_hu]), after.divergence)

    def content_loss(self, output_hu: torch.Tensor, batch: Batch) -> torch.Tensor:
        """By `loss`, and by the step from one place to the next."""
        own, targets = (
            (after - before) / self.kept.scale
            for before, after in (output_hu.chunk(2), batch["target"].chunk(2))
        )
        return super().content_loss(output_hu, batch) + self.consistency * l1_loss(own, targets)

    @contextmanager
    def _drawn_again(self) -> Iterator[None]:
        """What is drawn within is drawn once more after it."""
        own, of_networks = self.random.get_state(), torch.random.get_rng_state()
        yield
        self.random.set_state(own)
        torch.random.set_rng_state(of_networks)
