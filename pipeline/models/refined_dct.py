"""White noise off pictures: an estimate that needs no training, and a network that mends it.

Thresholds in a sliding DCT, and more so groups of blocks that look alike, reach what a network
learns in minutes; one that starts from there learns what they lack.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import nn

from pipeline.config.component import build
from pipeline.config.sections import Component
from pipeline.core.errors import ConfigError
from pipeline.models.noise_level import noise_level
from pipeline.models.similar_blocks import grouped
from pipeline.models.sliding_dct import estimated

#: Added to the noise's strength where that divides, in units of the network: 0.02 grey levels.
_LEAST = 2e-4


class RefinedDct(nn.Module):
    """What to add to a noisy [batch, channels, rows, columns], normalised, for one without noise.

    The noise's standard deviation is estimated from each image (pipeline.models.noise_level).
    network: {"target", "args"}, as in a configuration, of [batch, 2 channels + 1, rows, columns]:
    the DCT's estimate, what that removed in standard deviations of the noise, and that deviation;
    its answer, [batch, channels, rows, columns], is taken in standard deviations too. An image in
    which no noise is found is therefore left as it is, whatever the network was trained on.
    similar_blocks: the estimate is the second of pipeline.models.similar_blocks in place of the
    DCT's, and how far the first is from it goes in as well: 3 channels + 1 in all.
    """

    def __init__(self, network: dict[str, Any], *, similar_blocks: bool = False) -> None:
        super().__init__()
        self.similar_blocks = similar_blocks
        self.network = build(
            Component.model_validate(network), key="model.args.network", base=nn.Module
        )

    def forward(self, image: torch.Tensor, of_whole: torch.Tensor | None = None) -> torch.Tensor:
        """[batch, channels, rows, columns] of 10 x 10 pixels and more; with `of_whole` it is a
        piece of the image that this is of."""
        noisy = image.float()
        with _in_full(noisy.device.type):
            level = self.of_whole(noisy) if of_whole is None else of_whole
            sigma = level[:, None, None, None]
            estimate, *others = self._estimates(noisy, sigma)
        differences = [(other - estimate) / (sigma + _LEAST) for other in (noisy, *others)]
        strength = sigma.expand(-1, 1, *image.shape[2:])
        seen = torch.cat([estimate, *differences, strength], dim=1)
        found = self.network(seen.to(image.dtype))
        return estimate - noisy + sigma * found

    def _estimates(self, noisy: torch.Tensor, sigma: torch.Tensor) -> list[torch.Tensor]:
        """The best first."""
        if not self.similar_blocks:
            return [estimated(noisy, sigma)]
        if torch.compiler.is_exporting():
            raise ConfigError(
                "a model with model.args.similar_blocks cannot be exported: which blocks are alike "
                "is decided from the picture; use `ldct apply`"
            )
        first, second = grouped(noisy, sigma)
        return [second, first]

    def of_whole(self, image: torch.Tensor) -> torch.Tensor:
        """What the answer needs to know of a whole image: its noise (`noise_level`), [batch]."""
        return noise_level(image)


def _in_full(device: str) -> AbstractContextManager[object]:
    """Without autocast, which torch.export cannot take where there is none."""
    is_on = torch.is_autocast_enabled(device)
    return torch.autocast(device, enabled=False) if is_on else nullcontext()
