"""The ways in which a network of convolutions is computed on a CPU, and how far they are from fp32.

fp32 is the reference: what figures of held-back patients are measured with. By Winograd's algorithm
where a layer has it. bf16 rounds to 8 binary digits: under autocast all of a network, which moves
single voxels by several HU, or only those convolutions whose rounding hardly reaches the output:
the inner, small levels of a U-Net, which have half of its operations.
"""

from __future__ import annotations

import copy
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import nn

from pipeline.config.names import digest
from pipeline.core.types import ImageHU, Json
from pipeline.metrics.image import tissue_masks
from pipeline.models.adapters.base import ModelAdapter
from pipeline.models.winograd.conv import Conv2d, ConvTranspose2d

Name = Literal["fp32", "fp32_direct", "bf16", "bf16_layers"]
CONVOLUTIONS = (nn.Conv2d, nn.ConvTranspose2d)
#: A tissue of fewer voxels says nothing of its mean.
MIN_VOXELS = 500


@dataclass(frozen=True)
class Way:
    """name: one of the ways of the module; fp32_direct is without Winograd's algorithm. layers: the
    convolutions in bf16, of bf16_layers alone; layers_in_all: how many the network has."""

    name: Name = "fp32"
    layers: tuple[str, ...] = ()
    layers_in_all: int = 0

    @property
    def description(self) -> str:
        """For a header and for people."""
        return {
            "fp32": "fp32",
            "fp32_direct": "fp32, without Winograd's algorithm",
            "bf16": "bf16",
            "bf16_layers": f"fp32, {len(self.layers)} of {self.layers_in_all} convolutions in bf16",
        }[self.name]

    @property
    def identity(self) -> str:
        """Distinguishes results; empty for the reference."""
        if self.name == "fp32":
            return ""
        return self.name + (f"-{digest(list(self.layers))[:8]}" if self.layers else "")

    def to_dict(self) -> Json:
        """As report.json and the cache have it."""
        return {**asdict(self), "layers": list(self.layers)}

    @classmethod
    def from_dict(cls, kept: Json) -> Way:
        """From to_dict. Raises ValueError for a name that is none of the ways."""
        way = cls(kept["name"], tuple(map(str, kept["layers"])), int(kept["layers_in_all"]))
        if way.name not in ("fp32", "fp32_direct", "bf16", "bf16_layers"):
            raise ValueError(f"there is no way {way.name}")
        return way


FP32 = Way()


def convolutions(model: nn.Module) -> list[str]:
    """The names of a model's two-dimensional convolutions."""
    return [name for name, layer in model.named_modules() if isinstance(layer, CONVOLUTIONS)]


def has_winograd(model: nn.Module) -> bool:
    """Whether some layer may be computed by Winograd's algorithm."""
    return any(isinstance(layer, Conv2d | ConvTranspose2d) for layer in model.modules())


def computed_by(model: ModelAdapter, way: Way) -> ModelAdapter:
    """The model computed in this way; the model itself is left as it is. Raises AttributeError
    where it has no layer of a name in `way`."""
    if way.name == "fp32":
        return model
    other = copy.deepcopy(model)
    if way.name == "bf16":
        other.network = _UnderAutocast(other.network)
        return other
    if way.name == "fp32_direct":
        for layer in other.modules():
            if isinstance(layer, Conv2d | ConvTranspose2d):
                layer.direct = True
        return other
    for name in way.layers:
        parent, _, own = name.rpartition(".")
        setattr(other.get_submodule(parent), own, _InBf16(other.get_submodule(name)))
    return other


class _UnderAutocast(nn.Module):
    """A network whose operations are in bf16 where PyTorch's autocast takes it for safe."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """As the network's, in whatever precision it ends with."""
        with torch.autocast(image.device.type, torch.bfloat16):
            return self.network(image)


class _InBf16(nn.Module):
    """One convolution in bf16, float32 in and out."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer.to(torch.bfloat16)

    def forward(self, image: torch.Tensor, *rest: Any) -> torch.Tensor:
        """As the convolution's."""
        return self.layer(image.to(torch.bfloat16), *rest).float()


@dataclass(frozen=True)
class Difference:
    """How far an output lies from that of fp32, in HU: the most of any voxel, and the most of any
    tissue's mean (core.units.TISSUE_RANGES_HU). Infinite where it is not finite."""

    voxel_hu: float
    tissue_mean_hu: float

    def within(self, limit: Difference, share: float = 1.0) -> bool:
        """Whether both are at most this share of the limit's."""
        return (
            self.voxel_hu <= share * limit.voxel_hu
            and self.tissue_mean_hu <= share * limit.tissue_mean_hu
        )


#: How far from fp32 a result may be.
LIMIT = Difference(voxel_hu=0.5, tissue_mean_hu=0.05)


def difference(output_hu: ImageHU, reference_hu: ImageHU) -> Difference:
    """Of two outputs [rows, columns]; infinite where one is not finite."""
    difference_hu = output_hu.astype(np.float64) - reference_hu
    if not np.isfinite(difference_hu).all():
        return Difference(np.inf, np.inf)
    masks = tissue_masks(reference_hu, np.ones(reference_hu.shape, dtype=bool))
    means = [abs(difference_hu[mask].mean()) for mask in masks.values() if mask.sum() > MIN_VOXELS]
    return Difference(float(np.abs(difference_hu).max()), float(max(means, default=0.0)))
