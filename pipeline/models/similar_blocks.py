"""White noise off pictures by groups of blocks that look alike: what they share is kept.

Block matching and 3-D filtering (Dabov et al., IEEE TIP 16 (2007) 2080; Lebrun, Image Processing On
Line 2 (2012) 175), but that transforms are DCTs, that neighbouring blocks are compared with one
region, which makes it a product of matrices, and that some of the noise stays in the picture which
the second groups are found in.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch.nn import functional

from pipeline.models.sliding_dct import BLOCK, OF_BLOCKS, THRESHOLD, cosines, in_blocks, wiener_

#: Blocks in a group.
GROUP = 16
#: A group is made for a block at every so many pixels along rows and columns.
STEP = 4
#: Blocks of a tile, TILE x TILE of those, are compared with all that begin up to REACH pixels
#: beyond the tile.
TILE, REACH = 4, 10
#: Of the picture that the second groups are found in, the share that is the noisy one: in a smooth
#: estimate the blocks most alike overlap, and have the same noise.
NOISY_SHARE = 0.25
#: Blocks in the regions that are compared at once.
_AT_ONCE = 2**17


@torch.no_grad()
def grouped(noisy: torch.Tensor, sigma: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Two estimates of [batch, channels, rows, columns] without white noise of standard deviation
    sigma, [batch, 1, 1, 1].

    The first keeps the coefficients of a group that are above THRESHOLD; by it, the second weighs
    them as Wiener's filter does. Channels are decorrelated by a DCT across them; groups are those
    of their mean.
    """
    across = cosines(noisy.shape[1]).to(noisy)
    planes = torch.einsum("ij,bjyx->biyx", across, noisy)
    both = [torch.stack(_twice(*image)) for image in zip(planes, sigma[:, 0, 0, 0], strict=True)]
    first, second = torch.einsum("ij,bkiyx->kbjyx", across, torch.stack(both))
    return first, second


def _twice(planes: torch.Tensor, sigma: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Both estimates of [planes, rows, columns]."""
    noisy, size = _blocks(planes), (planes.shape[1], planes.shape[2])
    first = _filtered(noisy, noisy[0], None, sigma, size)
    basic = _blocks(first)
    guide = torch.lerp(basic[0], noisy[0], NOISY_SHARE)
    return first, _filtered(noisy, guide, basic, sigma, size)


def _blocks(planes: torch.Tensor) -> torch.Tensor:
    """[planes, blocks, BLOCK ** 2]: the DCT of the block at every place in each plane."""
    return in_blocks(planes[:, None]).mT.contiguous()


def _filtered(
    noisy: torch.Tensor,
    guide: torch.Tensor,
    basic: torch.Tensor | None,
    sigma: torch.Tensor,
    size: tuple[int, int],
) -> torch.Tensor:
    """[planes, rows, columns] of the blocks in `noisy`, as [planes, blocks, BLOCK ** 2].

    guide: [blocks, BLOCK ** 2], which groups are found in. basic: the first estimate of the blocks,
    which weighs their coefficients; None for thresholds.
    """
    total, weight = torch.zeros_like(noisy), torch.zeros_like(noisy[..., :1])
    for group in _groups(guide, size):
        along = cosines(group.shape[1]).to(noisy)
        found = along @ noisy[:, group]
        if basic is None:
            kept = (found.abs() > THRESHOLD * sigma).to(noisy)
        else:
            kept = wiener_((along @ basic[:, group]).square_(), sigma**2)
        share = 1 / kept.square().sum(dim=(2, 3), keepdim=True).clamp_min(1)
        answer = along.T @ found.mul_(kept).mul_(share)
        places = group.flatten()
        total.index_add_(1, places, answer.flatten(1, 2))
        weight.index_add_(1, places, share.expand(-1, -1, group.shape[1], -1).flatten(1, 2))
    pixels = functional.fold(OF_BLOCKS.to(noisy).T @ total.mT, size, BLOCK)
    return (pixels / functional.fold(weight.mT.expand(-1, BLOCK**2, -1), size, BLOCK))[:, 0]


def _groups(guide: torch.Tensor, size: tuple[int, int]) -> Iterator[torch.Tensor]:
    """Places of the GROUP blocks most alike, [groups, GROUP], some tiles at a time. The one that a
    group is made for is always in it, so that every pixel is in some group."""
    (rows, near_rows), (columns, near_columns) = (_tiles(side - BLOCK + 1) for side in size)
    across = size[1] - BLOCK + 1
    tiles = _pairs(rows, columns, across).to(guide.device)
    regions = _pairs(near_rows, near_columns, across).to(guide.device)
    itself = _pairs(
        rows - near_rows[:, :1], columns - near_columns[:, :1], near_columns.shape[1]
    ).to(guide.device)
    squared, at_once = guide.square().sum(dim=1), max(1, _AT_ONCE // regions.shape[1])
    some = (each.split(at_once) for each in (tiles, regions, itself))
    for tile, region, own in zip(*some, strict=True):
        # The square of a difference, less what is the same for a whole row.
        unlike = torch.baddbmm(squared[region][:, None], guide[tile], guide[region].mT, alpha=-2)
        unlike.scatter_(2, own[..., None], -torch.inf)
        nearest = unlike.topk(min(GROUP, region.shape[1]), dim=2, largest=False).indices
        yield region.gather(1, nearest.flatten(1)).reshape(-1, nearest.shape[2])


def _tiles(places: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Along one side with so many blocks: where those of each tile begin, [tiles, TILE], and all
    of its region, [tiles, side of a region]. The last block is always among them."""
    begins = torch.arange(0, places - 1 + STEP, STEP).clamp_max(places - 1)
    filled = -(-len(begins) // TILE) * TILE
    tiles = torch.cat([begins, begins[-1:].expand(filled - len(begins))]).reshape(-1, TILE)
    side = min(places, (TILE - 1) * STEP + 1 + 2 * REACH)
    first = (tiles[:, :1] - REACH).clamp(0, places - side)
    return tiles, first + torch.arange(side)


def _pairs(rows: torch.Tensor, columns: torch.Tensor, across: int) -> torch.Tensor:
    """[tiles, places]: each tile's row places with its column places, counted through the image."""
    return (rows[:, None, :, None] * across + columns[:, None]).flatten(2).flatten(0, 1)
