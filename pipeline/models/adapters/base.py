"""The adapter around every registered network: HU in, the task's output out."""

from __future__ import annotations

import importlib
from collections.abc import Callable

import torch
from torch import nn

from pipeline.config.component import build
from pipeline.config.run import RunConfig
from pipeline.config.sections import Component, Normalize
from pipeline.core.units import HIGHEST_CT_HU
from pipeline.models.adapters.inference_transforms import InferenceTransforms


class ModelAdapter(nn.Module):
    """What is trained, registered and applied: a network behind the units that people use.

    input_shape, output_shape: of a batch, -1 where any size will do. scale: what losses
    divide by. strength: the share of what the network would change that is changed, above 0
    and at most 1. seen_through: transforms around the network once it is trained, if any.
    """

    input_shape: tuple[int, ...] = (-1, 1, -1, -1)
    output_shape: tuple[int, ...] = (-1, 1, -1, -1)
    scale: float = 1.0
    strength: float = 1.0
    seen_through: InferenceTransforms | None = None

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network


class HUModel(ModelAdapter):
    """Takes and gives HU, [batch, 1, rows, columns] in float32, any size.

    Normalisation is done in here, so that no caller can do it differently. With
    `residual` the network predicts the degradation and the input is added in full precision
    (DnCNN, Zhang et al. 2017), once: a network with an input skip of its own, which says so
    by `adds_input`, has done it already.

    What lies above HIGHEST_CT_HU, metal on the extended CT scale, the network sees as
    HIGHEST_CT_HU, since no training shows it more, and the output has it as it was.

    At a `strength` below 1 the output is input + strength * (denoised - input).
    """

    def __init__(
        self,
        network: nn.Module,
        *,
        normalize: Normalize,
        residual: bool,
        strength: float = 1.0,
    ) -> None:
        super().__init__(network)
        self.strength = strength
        self.centre = normalize.centre
        self.scale = normalize.scale
        self.adds_input = residual and not getattr(network, "adds_input", False)

    def forward(self, image_hu: torch.Tensor) -> torch.Tensor:
        """HU [batch, 1, rows, columns] in and out, float32."""
        if self.seen_through is not None and not self.training:
            return self.seen_through.through(self._denoised, image_hu)
        return self._denoised(image_hu)

    def _denoised(self, image_hu: torch.Tensor) -> torch.Tensor:
        seen_hu = image_hu.clamp(max=HIGHEST_CT_HU)
        predicted = self.network(self.normalised(seen_hu)).float()
        denoised_hu = seen_hu + predicted * self.scale if self.adds_input else self.in_hu(predicted)
        # Exact at 1: lerp then gives its second image bit for bit.
        mixed_hu = torch.lerp(image_hu, denoised_hu, self.strength)
        return torch.where(image_hu > HIGHEST_CT_HU, image_hu, mixed_hu)

    def normalised(self, image_hu: torch.Tensor) -> torch.Tensor:
        """HU in the network's units: (HU - centre) / scale."""
        return (image_hu - self.centre) / self.scale

    def in_hu(self, normalised: torch.Tensor) -> torch.Tensor:
        """The network's output in HU."""
        return normalised * self.scale + self.centre


class Identity(nn.Module):
    """Returns its input, with a residual adapter too: for tests of the adapter."""

    adds_input = True

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """The image itself, of any shape."""
        return image


def build_model(config: RunConfig) -> ModelAdapter:
    """The run's network behind its task's adapter, freshly initialised from torch's global
    generator. Raises ConfigError where the network does not take its arguments."""
    module, _, name = config.adapter.rpartition(".")
    return getattr(importlib.import_module(module), name)(config)


def place(model: ModelAdapter, device: str, *, channels_last: bool) -> ModelAdapter:
    """Move a model to a device and lay out its weights; channels_last suits convolutions."""
    last = torch.channels_last_3d if len(model.input_shape) == 5 else torch.channels_last
    layout = last if channels_last else torch.contiguous_format
    return model.to(device=device, memory_format=layout)  # type: ignore[call-overload]


def build_loss(component: Component) -> Callable[[torch.Tensor, torch.Tensor], torch.Tensor]:
    """The configuration's loss (output, target) -> scalar; ConfigError if it cannot be built."""
    return build(component, key="loss", base=nn.Module)
