"""White noise off pictures: thresholds in a sliding DCT, and a network that mends what they leave.

Thresholds need no training and reach what a network learns in minutes; one that starts from there
learns what they lack.
"""

from __future__ import annotations

import math
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from pipeline.config.component import build
from pipeline.config.sections import Component
from pipeline.models.noise_level import noise_level

#: Pixels along a block.
BLOCK = 8
#: In standard deviations of the noise: coefficients below are taken for noise (Dabov et al. 2007).
THRESHOLD = 2.7
#: Added to the noise's strength where that divides, in units of the network: 0.02 grey levels.
_LEAST = 2e-4
#: Blocks begin so many pixels beyond the image.
_RIM = BLOCK - 1


def _cosines(count: int) -> torch.Tensor:
    """[count, count]: the orthonormal DCT-II, a frequency a row."""
    place = torch.arange(count, dtype=torch.float32)
    cosines = torch.cos(math.pi * (2 * place + 1) * place[:, None] / (2 * count))
    cosines[0] /= math.sqrt(2)
    return cosines * math.sqrt(2 / count)


#: [BLOCK ** 2, BLOCK ** 2]: a frequency of a block a row, the mean first.
_BLOCKS = torch.kron(_cosines(BLOCK), _cosines(BLOCK))


class RefinedDct(nn.Module):
    """What to add to a noisy [batch, channels, rows, columns], normalised, for one without noise.

    The noise's standard deviation is estimated from each image (pipeline.models.noise_level).
    network: {"target", "args"}, as in a configuration, of [batch, 2 channels + 1, rows, columns]:
    the DCT's estimate, what that removed in standard deviations of the noise, and that deviation;
    its answer, [batch, channels, rows, columns], is taken in standard deviations too. An image in
    which no noise is found is therefore left as it is, whatever the network was trained on.
    """

    def __init__(self, network: dict[str, Any]) -> None:
        super().__init__()
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
            estimate = estimated(noisy, sigma)
        removed = (noisy - estimate) / (sigma + _LEAST)
        strength = sigma.expand(-1, 1, *image.shape[2:])
        found = self.network(torch.cat([estimate, removed, strength], dim=1).to(image.dtype))
        return estimate - noisy + sigma * found

    def of_whole(self, image: torch.Tensor) -> torch.Tensor:
        """What the answer needs to know of a whole image: its noise (`noise_level`), [batch]."""
        return noise_level(image)


def _in_full(device: str) -> AbstractContextManager[object]:
    """Without autocast, which torch.export cannot take where there is none."""
    is_on = torch.is_autocast_enabled(device)
    return torch.autocast(device, enabled=False) if is_on else nullcontext()


@torch.no_grad()
def estimated(noisy: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
    """[batch, channels, rows, columns] with less of its white noise of standard deviation sigma
    ([batch, 1, 1, 1]), as Yu and Sapiro (Image Processing On Line 1 (2011) 292) remove it.

    Each block of BLOCK x BLOCK pixels, at every place, loses what is below THRESHOLD in its DCT;
    blocks are averaged, those of few coefficients most. That estimate then weighs the coefficients
    of the noisy image as Wiener's filter does, which are averaged again (Dabov et al., IEEE TIP 16
    (2007) 2080, without their grouping). Channels are decorrelated by a DCT across them.
    """
    across = _cosines(noisy.shape[1]).to(noisy)
    planes = torch.einsum("ij,bjyx->biyx", across, noisy)
    variance = sigma.expand((*planes.shape[:2], 1, 1)).flatten(0, 1).square()
    size = (noisy.shape[2] + 2 * _RIM, noisy.shape[3] + 2 * _RIM)
    coefficients = _analysed(planes.flatten(0, 1))
    kept = (coefficients.square() > THRESHOLD**2 * variance).to(noisy)
    power = _analysed(_averaged(coefficients, kept, size)).square_()
    power /= (power + variance).clamp_min_(torch.finfo(noisy.dtype).tiny)
    found = _averaged(coefficients, power, size).reshape(planes.shape)
    return torch.einsum("ij,biyx->bjyx", across, found)


def _analysed(planes: torch.Tensor) -> torch.Tensor:
    """[planes, BLOCK ** 2, blocks]: the DCT of every block, also of those beyond the rim, of
    [planes, rows, columns]."""
    padded = functional.pad(planes[:, None], (_RIM,) * 4, mode="reflect")
    return _BLOCKS.to(planes) @ functional.unfold(padded, BLOCK)


def _averaged(
    coefficients: torch.Tensor, weights: torch.Tensor, size: tuple[int, int]
) -> torch.Tensor:
    """[planes, rows, columns] of weighted coefficients; the blocks' means are kept. size: with the
    rim. `weights` are overwritten, since much of the time goes into new memory."""
    weights[:, 0] = 1
    share = 1 / weights.square().sum(dim=1, keepdim=True)
    pixels = (_BLOCKS.to(weights).T @ weights.mul_(coefficients)).mul_(share)
    total = functional.fold(pixels, size, BLOCK)
    of_blocks = share.reshape(-1, 1, size[0] - _RIM, size[1] - _RIM)
    covered = functional.avg_pool2d(functional.pad(of_blocks, (_RIM,) * 4), BLOCK, 1) * BLOCK**2
    return (total / covered)[:, 0, _RIM:-_RIM, _RIM:-_RIM]
