"""The adapter of segmentation networks: HU in, a logit for each class out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from pipeline.config.component import build
from pipeline.config.sections import Component, Normalize
from pipeline.config.segmentation import WORKING_AXES, WORKING_AXIS, Segmentation
from pipeline.config.task_runs import SegmentRun
from pipeline.core.errors import ConfigError
from pipeline.models.adapters.base import ModelAdapter


class SegmentationModel(ModelAdapter):
    """Takes HU [batch, 1, (slices,) rows, columns] in float32 of any size; gives logits
    [batch, classes, ...] of the same size, the background first.

    The intensity ranges are applied in here, so that no caller can do it differently: each is a
    channel of the network, HU clipped to [low, high], which become -1 and 1, or are normalised by
    `normalize`. `multiple`: sizes that the network halves on its way must divide by it; the rim is
    repeated up to such a size. axes: where the axes of the network's own images run to, by
    default as those of the working grid (Segmentation.axes).
    """

    def __init__(
        self,
        network: nn.Module,
        *,
        ranges_hu: Sequence[tuple[float, float]],
        dimensions: int,
        channels: int,
        multiple: int = 1,
        normalize: Normalize | None = None,
        axes: str | None = None,
    ) -> None:
        super().__init__(network)
        size = [-1] * dimensions
        self.input_shape = (-1, 1, *size)
        self.output_shape = (-1, channels, *size)
        self.ranges_hu = tuple(ranges_hu)
        self.multiple, self.normalize = multiple, normalize
        working = WORKING_AXES[-dimensions:]
        own = axes or working
        self.order = [2 + working.index(WORKING_AXIS[letter]) for letter in own]
        self.mirrored = [2 + n for n, letter in enumerate(own) if letter not in working]
        self.is_turned = own != working

    def forward(self, image_hu: torch.Tensor) -> torch.Tensor:
        """Logits [batch, classes, (slices,) rows, columns] of HU [batch, 1, ...]."""
        channels = [self.units(image_hu, low, high) for low, high in self.ranges_hu]
        size = image_hu.shape[2:]
        padding = [n for length in reversed(size) for n in (0, -length % self.multiple)]
        padded = functional.pad(torch.cat(channels, 1), padding, mode="replicate")
        logits = self._from_own_axes(self.network(self._to_own_axes(padded)))
        inside: tuple[Any, ...] = (..., *(slice(0, length) for length in size))
        return logits[inside].float()

    def units(self, image_hu: torch.Tensor, low: float, high: float) -> torch.Tensor:
        clipped_hu = image_hu.clamp(low, high)
        if self.normalize is not None:
            return (clipped_hu - self.normalize.centre) / self.normalize.scale
        return (clipped_hu - (low + high) / 2) / ((high - low) / 2)

    def _to_own_axes(self, image: torch.Tensor) -> torch.Tensor:
        if not self.is_turned:
            return image
        return image.permute(0, 1, *self.order).flip(self.mirrored)

    def _from_own_axes(self, image: torch.Tensor) -> torch.Tensor:
        if not self.is_turned:
            return image
        back = sorted(range(len(self.order)), key=self.order.__getitem__)
        return image.flip(self.mirrored).permute(0, 1, *(2 + n for n in back))


def build_segmenter(component: Component, settings: Segmentation) -> SegmentationModel:
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
        multiple=settings.multiple,
        normalize=settings.normalize_hu,
        axes=settings.axes,
    )


def segmenter(config: SegmentRun) -> SegmentationModel:
    """The run's network in its adapter."""
    return build_segmenter(config.model, config.grid)
