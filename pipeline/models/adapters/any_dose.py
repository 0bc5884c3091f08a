"""The adapter around a dose-conditioned denoiser: how much dose it makes up for is an input."""

from __future__ import annotations

import torch
from torch import nn

from pipeline.config.sections import Normalize
from pipeline.core.units import HIGHEST_CT_HU
from pipeline.models.adapters.base import ModelAdapter

#: The ratio where none is given: the input is taken for a quarter of the dose.
DOSE_RATIO = 4.0
#: The lowest ratio that the network is shown. N does not hang on the ratio, and pairs of nearly the
#: same dose say next to nothing of it: left to them, it came out a tenth too strong.
LEAST_RATIO_SHOWN = 2.0


class AnyDoseModel(ModelAdapter):
    """Takes and gives HU: the image as if it had been scanned with `dose_ratio` times its dose.

    For a ratio k the output is input - (1 - 1/k) N, where N is what the network takes for the
    input's noise. The noise of k times the dose is a part of the input's, of which N / k is the
    best estimate: so much stays (pipeline.data.nested). At k = 1 nothing changes, bit for bit, and
    from there on what goes grows with k. The network sees the normalised image and, as a second
    image, 1 - 1/k everywhere, k taken as LEAST_RATIO_SHOWN at least. Above HIGHEST_CT_HU as in
    HUModel.
    """

    def __init__(
        self,
        network: nn.Module,
        *,
        normalize: Normalize,
        strength: float = 1.0,
        dose_ratio: float = DOSE_RATIO,
    ) -> None:
        super().__init__(network)
        self.centre, self.scale = normalize.centre, normalize.scale
        self.strength, self.dose_ratio = strength, dose_ratio

    def forward(
        self, image_hu: torch.Tensor, dose_ratio: torch.Tensor | None = None
    ) -> torch.Tensor:
        """HU [batch, 1, rows, columns] in and out, float32.

        dose_ratio: [batch], at least 1; by default `self.dose_ratio` for all.
        """
        if dose_ratio is None:
            dose_ratio = image_hu.new_full((image_hu.shape[0],), self.dose_ratio)
        removable = (1 - 1 / dose_ratio.float()).view(-1, 1, 1, 1)
        normalised = (image_hu.clamp(max=HIGHEST_CT_HU) - self.centre) / self.scale
        shown = removable.clamp(min=1 - 1 / LEAST_RATIO_SHOWN).expand_as(normalised)
        seen = torch.cat((normalised, shown), dim=1)
        noise_hu = self.network(seen)[:, :1].float() * self.scale
        output_hu = image_hu - self.strength * removable * noise_hu
        return torch.where(image_hu > HIGHEST_CT_HU, image_hu, output_hu)


class _AtDoseRatio(nn.Module):
    """A model at one ratio, for whatever asks for images alone."""

    def __init__(self, model: AnyDoseModel, dose_ratio: float) -> None:
        super().__init__()
        self.model, self.dose_ratio = model, dose_ratio

    def forward(self, image_hu: torch.Tensor) -> torch.Tensor:
        """HU [batch, 1, rows, columns] in and out."""
        return self.model(image_hu, image_hu.new_full((image_hu.shape[0],), self.dose_ratio))


def at_dose_ratio(model: nn.Module, dose_ratio: float) -> nn.Module:
    """A dose-conditioned model at this ratio; any other model as it is."""
    return _AtDoseRatio(model, dose_ratio) if isinstance(model, AnyDoseModel) else model
