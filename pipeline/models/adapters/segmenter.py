"""The adapter of segmentation networks: HU in, a logit for each class out."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn
from torch.nn import functional

from pipeline.config.component import build
from pipeline.config.sections import Component
from pipeline.config.segmentation import Segmentation
from pipeline.config.task_runs import SegmentRun
from pipeline.core.errors import ConfigError
from pipeline.models.adapters.base import ModelAdapter


class SegmentationModel(ModelAdapter):
    """Takes HU [batch, 1, (slices,) rows, columns] in float32 of any size; gives logits
    [batch, classes, ...] of the same size, the background first.

    The intensity ranges are applied in here, so that no caller can do it differently: each is a
    channel of the network, HU clipped to [low, high], which become -1 and 1. `multiple`: sizes
    that the network halves on its way must divide by it; the rim is repeated up to such a size.
    """

    def __init__(
        self,
        network: nn.Module,
        *,
        ranges_hu: Sequence[tuple[float, float]],
        dimensions: int,
        channels: int,
        multiple: int = 1,
    ) -> None:
        super().__init__(network)
        size = [-1] * dimensions
        self.input_shape = (-1, 1, *size)
        self.output_shape = (-1, channels, *size)
        self.ranges_hu = tuple(ranges_hu)
        self.multiple = multiple

    def forward(self, image_hu: torch.Tensor) -> torch.Tensor:
        """Logits [batch, classes, (slices,) rows, columns] of HU [batch, 1, ...]."""
        channels = [_unit(image_hu, low, high) for low, high in self.ranges_hu]
        size = image_hu.shape[2:]
        padding = [n for length in reversed(size) for n in (0, -length % self.multiple)]
        logits = self.network(functional.pad(torch.cat(channels, 1), padding, mode="replicate"))
        inside = (..., *(slice(0, length) for length in size))
        return logits[inside].float()


def _unit(image_hu: torch.Tensor, low: float, high: float) -> torch.Tensor:
    return (image_hu.clamp(low, high) - (low + high) / 2) / ((high - low) / 2)


def build_segmenter(
    component: Component, settings: Segmentation, *, multiple: int = 16
) -> SegmentationModel:
    """A network in its adapter, freshly initialised from torch's global generator.

    Its dimensions and channels follow from the settings. Raises ConfigError where the network
    does not take them, or where the run names them a second time.
    """
    follows = {
        "spatial_dims": settings.dimensions,
        "in_channels": len(settings.ranges_hu),
        "out_channels": settings.channels,
    }
    for name in follows.keys() & component.args.keys():
        raise ConfigError(f"model.args.{name} follows from the segmentation: leave it out")
    network = build(component, key="model", base=nn.Module, **follows)
    return SegmentationModel(
        network,
        ranges_hu=settings.ranges_hu,
        dimensions=settings.dimensions,
        channels=settings.channels,
        multiple=multiple,
    )


def segmenter(config: SegmentRun) -> SegmentationModel:
    """The run's network in its adapter."""
    return build_segmenter(config.model, config.grid)
