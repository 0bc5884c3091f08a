"""The plain update: what its loss sees."""

from __future__ import annotations

import torch
from helpers.training import settings
from torch.nn.functional import mse_loss

from pipeline.config.sections import Normalize
from pipeline.models.adapters.base import HUModel, Identity
from pipeline.training.steps.supervised import Supervised


class Gain(Identity):
    """One weight, so that there is something to learn."""

    def __init__(self) -> None:
        super().__init__()
        self.gain = torch.nn.Parameter(torch.tensor(1.0))

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return self.gain * image


def test_the_loss_is_taken_on_normalised_values_and_its_gradient_shared_out() -> None:
    """Ranges of a loss, such as those of RangeWeightedMSE, are in HU / scale."""
    seen: list[tuple[torch.Tensor, torch.Tensor]] = []

    def loss(output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        seen.append((output.detach(), target))
        return mse_loss(output, target)

    model = HUModel(Gain(), normalize=Normalize(centre=40.0, scale=500.0), residual=False)
    step = Supervised(model, loss, settings(), residual=False)
    batch = {
        "input": torch.full((2, 1, 4, 4), 300.0),
        "target": torch.full((2, 1, 4, 4), -200.0),
    }
    logged = step.backward(batch, share=0.25)
    output, target = seen[0]
    torch.testing.assert_close(output, torch.full_like(output, 300 / 500))
    torch.testing.assert_close(target, torch.full_like(target, -200 / 500))
    assert logged == {"loss": 1.0}, "of the whole batch"
    # d/dgain of the mean of (0.52 gain + 0.08 + 0.4)^2, 0.52 being (300 - 40) / 500.
    torch.testing.assert_close(model.network.gain.grad, torch.tensor(0.25 * 2 * 1.0 * 0.52))
