"""Learning from single noisy images: hide a pixel, guess it from its surroundings."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch.nn.functional import max_pool2d

from pipeline.config.sections import Train
from pipeline.models.adapters.base import ModelAdapter
from pipeline.training.steps.base import Batch
from pipeline.training.steps.supervised import Supervised


class Masked(Supervised):
    """Supervised by a target that holds in some pixels of a batch and not in others."""

    supports_ddp = False

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


class BlindSpot(Masked):
    """Noise2Void (Krull et al., CVPR 2019): the target is the noisy input itself.

    A random `share_hidden` of the pixels is replaced, each by a pixel at random from the square
    of `reach` around it, and the loss counts there alone. Noise that is independent from pixel to
    pixel cannot be guessed, anatomy can. CT noise is not independent: filtered backprojection
    correlates neighbours. So a square of `hidden_radius` around each chosen pixel is replaced
    too (structN2V, Broaddus et al., ISBI 2020); noise correlated farther is learnt as if it were
    anatomy. Only "input" of a batch is used. A network without skip from its input suits it
    (`residual: false`, RED-CNN's `input_skip: false`): one with it has to learn first to take the
    copied pixel out again.
    """

    def __init__(
        self,
        model: ModelAdapter,
        loss: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
        settings: Train,
        *,
        residual: bool = False,
        share_hidden: float = 0.02,
        reach: int = 5,
        hidden_radius: int = 1,
    ) -> None:
        super().__init__(model, loss, settings, residual=residual)
        if not 0 < share_hidden < 1 or hidden_radius < 0 or reach <= hidden_radius:
            raise ValueError(
                "expected share_hidden in (0, 1) and reach > hidden_radius >= 0, got "
                f"{share_hidden}, {reach} and {hidden_radius}"
            )
        self.share_hidden, self.reach, self.hidden_radius = share_hidden, reach, hidden_radius
        self.generator = torch.Generator().manual_seed(settings.seed)

    def backward(self, batch: Batch, *, share: float) -> dict[str, float]:
        """Replace pixels of "input" [batch, 1, rows, columns] in HU; only they count."""
        noisy_hu = batch["input"]
        chosen = self._rand(noisy_hu) < self.share_hidden
        width = 2 * self.hidden_radius + 1
        hidden = max_pool2d(chosen.float(), width, stride=1, padding=self.hidden_radius) > 0
        masked_hu = torch.where(hidden, self._from_around(noisy_hu), noisy_hu)
        return self.descend(self.model(masked_hu), noisy_hu, chosen, share=share)

    def _from_around(self, image_hu: torch.Tensor) -> torch.Tensor:
        """Each pixel's replacement: one of the pixels within `reach`, beyond `hidden_radius`."""
        rows, columns = image_hu.shape[-2:]
        offsets = self._offsets().to(image_hu.device)
        which = (self._rand(image_hu) * len(offsets)).long()
        row = _moved(torch.arange(rows)[:, None].to(image_hu.device), offsets[which, 0], rows)
        column = _moved(torch.arange(columns).to(image_hu.device), offsets[which, 1], columns)
        place = (row * columns + column).flatten(2)
        return image_hu.flatten(2).gather(2, place).view_as(image_hu)

    def _offsets(self) -> torch.Tensor:
        steps = torch.arange(-self.reach, self.reach + 1)
        grid = torch.cartesian_prod(steps, steps)
        return grid[grid.abs().amax(dim=1) > self.hidden_radius]

    def _rand(self, like: torch.Tensor) -> torch.Tensor:
        """Uniform in [0, 1), the same on every device."""
        return torch.rand(like.shape, generator=self.generator).to(like.device)

    def state_dict(self) -> dict:
        """As Supervised, with the random state that chooses pixels."""
        return {**super().state_dict(), "generator": self.generator.get_state()}

    def load_state_dict(self, state: dict) -> None:
        """Restore what state_dict returned."""
        super().load_state_dict(state)
        self.generator.set_state(state["generator"].cpu())


def _moved(place: torch.Tensor, offset: torch.Tensor, length: int) -> torch.Tensor:
    """place + offset, or where that lies off the axis, as far in the other direction."""
    there = place + offset
    return torch.where((there < 0) | (there >= length), place - offset, there)
