"""White noise off pictures by thresholds in a sliding DCT, which nothing has to learn."""

from __future__ import annotations

import math

import torch
from torch.nn import functional

#: Pixels along a block.
BLOCK = 8
#: In standard deviations of the noise: coefficients below are taken for noise (Dabov et al. 2007).
THRESHOLD = 2.7
#: Blocks begin so many pixels beyond the image.
_RIM = BLOCK - 1


def cosines(count: int) -> torch.Tensor:
    """[count, count]: the orthonormal DCT-II, a frequency a row."""
    place = torch.arange(count, dtype=torch.float32)
    rows = torch.cos(math.pi * (2 * place + 1) * place[:, None] / (2 * count))
    rows[0] /= math.sqrt(2)
    return rows * math.sqrt(2 / count)


#: [BLOCK ** 2, BLOCK ** 2]: a frequency of a block a row, the mean first.
OF_BLOCKS = torch.kron(cosines(BLOCK), cosines(BLOCK))


@torch.no_grad()
def estimated(noisy: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
    """[batch, channels, rows, columns] with less of its white noise of standard deviation sigma
    ([batch, 1, 1, 1]), as Yu and Sapiro (Image Processing On Line 1 (2011) 292) remove it.

    Each block of BLOCK x BLOCK pixels, at every place, loses what is below THRESHOLD in its DCT;
    blocks are averaged, those of few coefficients most. That estimate then weighs the coefficients
    of the noisy image as Wiener's filter does, which are averaged again (Dabov et al., IEEE TIP 16
    (2007) 2080, without their grouping). Channels are decorrelated by a DCT across them.
    """
    across = cosines(noisy.shape[1]).to(noisy)
    planes = torch.einsum("ij,bjyx->biyx", across, noisy)
    variance = sigma.expand((*planes.shape[:2], 1, 1)).flatten(0, 1).square()
    size = (noisy.shape[2] + 2 * _RIM, noisy.shape[3] + 2 * _RIM)
    coefficients = _analysed(planes.flatten(0, 1))
    kept = (coefficients.square() > THRESHOLD**2 * variance).to(noisy)
    power = _analysed(_averaged(coefficients, kept, size)).square_()
    found = _averaged(coefficients, wiener_(power, variance), size).reshape(planes.shape)
    return torch.einsum("ij,biyx->bjyx", across, found)


def _analysed(planes: torch.Tensor) -> torch.Tensor:
    """[planes, BLOCK ** 2, blocks]: the DCT of every block, also of those beyond the rim, of
    [planes, rows, columns]."""
    padded = functional.pad(planes[:, None], (_RIM,) * 4, mode="reflect")
    return in_blocks(padded)


def in_blocks(planes: torch.Tensor) -> torch.Tensor:
    """[planes, BLOCK ** 2, blocks]: the DCT of the block at every place within each of
    [planes, 1, rows, columns]."""
    return OF_BLOCKS.to(planes) @ functional.unfold(planes, BLOCK)


def wiener_(power: torch.Tensor, variance: torch.Tensor) -> torch.Tensor:
    """Wiener's weights for coefficients of that power in noise of that variance; 0 where both are.
    `power` is overwritten."""
    return power.div_((power + variance).clamp_min_(torch.finfo(power.dtype).tiny))


def _averaged(
    coefficients: torch.Tensor, weights: torch.Tensor, size: tuple[int, int]
) -> torch.Tensor:
    """[planes, rows, columns] of weighted coefficients; the blocks' means are kept. size: with the
    rim. `weights` are overwritten, since much of the time goes into new memory."""
    weights[:, 0] = 1
    share = 1 / weights.square().sum(dim=1, keepdim=True)
    pixels = (OF_BLOCKS.to(weights).T @ weights.mul_(coefficients)).mul_(share)
    total = functional.fold(pixels, size, BLOCK)
    of_blocks = share.reshape(-1, 1, size[0] - _RIM, size[1] - _RIM)
    covered = functional.avg_pool2d(functional.pad(of_blocks, (_RIM,) * 4), BLOCK, 1) * BLOCK**2
    return (total / covered)[:, 0, _RIM:-_RIM, _RIM:-_RIM]
