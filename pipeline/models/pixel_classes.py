"""Pictures by classes: each pixel gets scores of classes, and the picture is made of their values.

A network that answers with values answers with the mean of all that its input may mean: brown for
red or green, a level between two labels. Scores of classes keep each alternative.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import nn

from pipeline.config.component import build
from pipeline.config.sections import Component
from pipeline.core.types import Picture
from pipeline.io.colour import lab_of

#: Grey levels of each channel between which the colours of sRGB are looked for.
_SAMPLED = np.linspace(0, 255, 33, dtype=np.float32)


class PixelClasses(nn.Module):
    """[batch, inputs, rows, columns] -> [batch, channels, rows, columns], both normalised.

    network: {"target", "args"} of one whose outputs are as many as there are classes. values: what
    each class is, in the picture's own units [classes, channels], of which the network sees
    (value - centre) / scale. temperature: of the scores before the mean of the values is taken, the
    annealed mean of Zhang et al. (ECCV 2016); None: the likeliest class alone.
    """

    def __init__(
        self,
        network: dict[str, Any],
        values: Sequence[Sequence[float]],
        *,
        centre: float = 0.0,
        scale: float = 1.0,
        temperature: float | None = None,
    ) -> None:
        super().__init__()
        if temperature is not None and temperature <= 0:
            raise ValueError(f"temperature must be positive, got {temperature}")
        self.network = build(
            Component.model_validate(network), key="model.args.network", base=nn.Module
        )
        self.temperature = temperature
        self.values: torch.Tensor
        found = (torch.tensor(values, dtype=torch.float32) - centre) / scale
        self.register_buffer("values", found, persistent=False)

    def scores(self, image: torch.Tensor) -> torch.Tensor:
        """[batch, classes, rows, columns], before the softmax."""
        scores = self.network(image).float()
        if scores.shape[1] != len(self.values):
            raise ValueError(
                f"model.args.network: {scores.shape[1]} outputs for {len(self.values)} classes"
            )
        return scores

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """The picture of the likeliest classes, or of the annealed means."""
        scores = self.scores(image)
        if self.temperature is None:
            return self.values[scores.argmax(dim=1)].movedim(-1, 1)
        share = (scores / self.temperature).softmax(dim=1)
        return torch.einsum("bkrc,kv->bvrc", share, self.values)


class ColourClasses(PixelClasses):
    """a* and b* of CIE L*a*b* by classes: squares of `step` that hold colours of sRGB.

    Zhang et al., ECCV 2016: 10, and a temperature of 0.38. The output has three channels, of which
    the lightness is 0: the adapter keeps the input's.
    """

    def __init__(
        self,
        network: dict[str, Any],
        *,
        step: float = 10.0,
        scale: float = 100.0,
        temperature: float = 0.38,
    ) -> None:
        values = [(0.0, *ab) for ab in colour_squares(step)]
        super().__init__(network, values, scale=scale, temperature=temperature)


@lru_cache(maxsize=4)
def colour_squares(step: float) -> tuple[tuple[float, float], ...]:
    """(a*, b*) of the middles of the squares that hold colours of sRGB, in ascending order."""
    levels = np.stack(np.meshgrid(_SAMPLED, _SAMPLED, _SAMPLED, indexing="ij"))
    colours: Picture = lab_of(levels.reshape(3, -1, 1))[1:].reshape(2, -1)
    squares = np.unique(np.rint(colours / step), axis=1).T * step
    return tuple((float(a), float(b)) for a, b in squares)
