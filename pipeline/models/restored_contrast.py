"""Contrast that a whole image has lost, found from its levels; a network mends the rest.

Whether an image is faded shows in its darkest and lightest levels. A convolutional network sees a
neighbourhood, and cannot distinguish a faded image from one of mist.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from pipeline.config.component import build
from pipeline.config.sections import Component

#: Of the levels of an image, in ascending order, at which the network looks: shares of its pixels.
SHARES = (0.005, 0.01, 0.02, 0.05, *(tenth / 10 for tenth in range(1, 10)), 0.95, 0.98, 0.99, 0.995)
#: Units between the levels and what is found from them.
_HIDDEN = 64


class RestoredContrast(nn.Module):
    """What to add to [batch, channels, rows, columns], normalised, for the image as it was.

    The levels of the whole image, over all channels, give a factor and an offset: the same for
    every pixel. network: {"target", "args"}, as in a configuration, of as many channels as the
    image; it says what else to add. Untrained, factor and offset change nothing.
    """

    def __init__(self, network: dict[str, Any]) -> None:
        super().__init__()
        self.network = build(
            Component.model_validate(network), key="model.args.network", base=nn.Module
        )
        last = nn.Linear(_HIDDEN, 2)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
        self.tone = nn.Sequential(nn.Linear(len(SHARES), _HIDDEN), nn.ReLU(), last)

    def forward(self, image: torch.Tensor, of_whole: torch.Tensor | None = None) -> torch.Tensor:
        """[batch, channels, rows, columns] of any size; with `of_whole` it is a piece of the image
        that this is of."""
        levels = self.of_whole(image) if of_whole is None else of_whole
        more, offset = self.tone(levels).float()[..., None, None, None].unbind(dim=1)
        toned = image + more * image + offset
        return toned - image + self.network(toned)

    def of_whole(self, image: torch.Tensor) -> torch.Tensor:
        """What the answer needs to know of a whole image: its levels (`levels_of`)."""
        return levels_of(image)


@torch.no_grad()
def levels_of(image: torch.Tensor) -> torch.Tensor:
    """[batch, len(SHARES)]: the levels below which SHARES of the values of [batch, ...] lie."""
    ordered = image.float().flatten(1).sort(dim=1).values
    count = ordered.shape[1]
    places = torch.tensor([round(share * (count - 1)) for share in SHARES], device=image.device)
    return ordered[:, places]
