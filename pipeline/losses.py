"""Losses that MONAI and torch lack."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from monai.metrics import compute_ms_ssim
from torch import nn
from torch.nn import functional

#: MS-SSIM's weights without the coarsest scale's, brought to a sum of 1.
_FOUR_SCALES = tuple(weight / 0.8667 for weight in (0.0448, 0.2856, 0.3001, 0.2363))


class RangeWeightedMSE(nn.Module):
    """Mean square error that counts fully where the target lies in [low, high].

    Elsewhere (lung, air, bone, metal) an error counts `elsewhere` times as much. Values are
    normalised (HU / scale). A plain mean is ruled by the largest errors, and those are at
    bone and air edges; this one spends the network on the tissue that is read in narrow
    windows, and still ties the rest down.

    `mean_weight` adds the square of each patch's mean error within the range, or within each
    of `mean_ranges`, such as those of tissues: a constant offset hardly shows beside the noise
    in a square error, but it is a bias in HU. The range is told from the target smoothed over
    `mean_smoothing` pixels: told from single noisy pixels, a tissue would be made of the
    target's own noise, and the network would learn to follow it.
    """

    def __init__(
        self,
        low: float,
        high: float,
        *,
        elsewhere: float = 0.1,
        mean_weight: float = 0.0,
        mean_ranges: Sequence[tuple[float, float]] = (),
        mean_smoothing: int = 1,
    ) -> None:
        super().__init__()
        if any(first >= last for first, last in mean_ranges):
            raise ValueError(f"expected low < high in each of mean_ranges, got {mean_ranges}")
        if mean_weight < 0:
            raise ValueError(f"expected mean_weight >= 0, got {mean_weight}")
        if low >= high or not 0 <= elsewhere <= 1:
            raise ValueError(
                f"expected low < high and elsewhere in [0, 1], got {low}, {high}, {elsewhere}"
            )
        self.low, self.high = low, high
        self.elsewhere, self.mean_weight = elsewhere, mean_weight
        if mean_smoothing < 1 or mean_smoothing % 2 == 0:
            raise ValueError(f"expected an odd mean_smoothing, got {mean_smoothing}")
        self.mean_smoothing = mean_smoothing
        self.mean_ranges = tuple(mean_ranges) or ((low, high),)

    def forward(self, output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        inside = (target >= self.low) & (target <= self.high)
        weight = torch.where(inside, 1.0, self.elsewhere)
        error = output - target
        loss = (weight * error.square()).mean()
        if not self.mean_weight:
            return loss
        smooth = functional.avg_pool2d(
            target,
            self.mean_smoothing,
            stride=1,
            padding=self.mean_smoothing // 2,
            count_include_pad=False,
        )
        offsets = [_mean_square_offset(error, smooth, *range_) for range_ in self.mean_ranges]
        return loss + self.mean_weight * torch.stack(offsets).sum()


def _mean_square_offset(
    error: torch.Tensor, tissue: torch.Tensor, low: float, high: float
) -> torch.Tensor:
    """The square of each patch's mean error where `tissue` lies in the range, by the share of
    the patch that does, averaged over the batch."""
    inside = (tissue >= low) & (tissue <= high)
    voxels = inside.sum(dim=(1, 2, 3))
    offset = (error * inside).sum(dim=(1, 2, 3)) / voxels.clamp(min=1)
    return (voxels / inside[0].numel() * offset.square()).mean()


class MultiScaleSSIM(nn.Module):
    """share (1 - MS-SSIM) + (1 - share) mean absolute error, as Zhao et al., IEEE TCI 2017.

    The likeness of structure decides, the absolute error keeps levels. Values from low to high,
    normalised; the error counts in units of that range. MS-SSIM is MONAI's, at the four finest of
    its five scales, which patches of 99 pixels a side and more have room for.
    """

    def __init__(self, low: float = -1.0, high: float = 1.0, *, share: float = 0.84) -> None:
        super().__init__()
        if low >= high or not 0 <= share <= 1:
            raise ValueError(f"expected low < high, share in [0, 1], got {low}, {high}, {share}")
        self.low, self.high, self.share = low, high, share

    def forward(self, output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        one, other = ((image - self.low) / (self.high - self.low) for image in (output, target))
        alike = compute_ms_ssim(one, other, spatial_dims=2, weights=_FOUR_SCALES).mean()
        return self.share * (1 - alike) + (1 - self.share) * (one - other).abs().mean()


class CosineDistance(nn.Module):
    """1 - the cosine between output and target, each image a vector; mean over the batch.

    Tells patterns apart and not how strong they are: an image and its double are the same.
    For what is read by its shape, under any exposure or gain; HU are not, so there it serves
    beside another loss.
    """

    def forward(self, output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        likeness = functional.cosine_similarity(output.flatten(1), target.flatten(1), dim=1)
        return 1 - likeness.mean()
