"""Losses that MONAI and torch lack."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn
from torch.nn import functional

from pipeline.metrics.image import SSIM_K1, SSIM_K2, SSIM_WINDOW_PIXELS

#: MS-SSIM's weights without the coarsest scale's, brought to a sum of 1.
_FOUR_SCALES = tuple(weight / 0.8667 for weight in (0.0448, 0.2856, 0.3001, 0.2363))

#: Square error below which RangeWeightedLogMSE asks for no less, normalised.
LOG_FLOOR = 1e-6


class RangeWeightedMSE(nn.Module):
    """Mean square error that counts fully where the target lies in [low, high].

    Elsewhere (lung, air, bone, metal) an error counts `elsewhere` times as much. Values are
    normalised (HU / scale). A plain mean is dominated by the largest errors, which are at
    bone and air edges; this one weights the tissue that is read in narrow windows, and still
    constrains the rest.

    `mean_weight` adds the square of each patch's mean error within the range, or within each
    of `mean_ranges`, such as those of tissues: a constant offset hardly shows beside the noise
    in a square error, but it is a bias in HU. The range is found in the target smoothed over
    `mean_smoothing` pixels: in single noisy pixels, a tissue would be made of the
    target's own noise, and the network would learn to follow it. Rims, where smoothing passes
    through one tissue's values between two others, are left out, as in the metrics.

    `similarity_weight` adds 1 - SSIM of output and target, both clipped to [low, high], as
    pipeline.metrics.image.ssim has it: a square error alone gives fine structure away for
    smoothness.
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
        similarity_weight: float = 0.0,
    ) -> None:
        super().__init__()
        if any(first >= last for first, last in mean_ranges):
            raise ValueError(f"expected low < high in each of mean_ranges, got {mean_ranges}")
        if mean_weight < 0 or similarity_weight < 0:
            raise ValueError(f"expected weights >= 0, got {mean_weight} and {similarity_weight}")
        if low >= high or not 0 <= elsewhere <= 1:
            raise ValueError(
                f"expected low < high and elsewhere in [0, 1], got {low}, {high}, {elsewhere}"
            )
        self.low, self.high = low, high
        self.elsewhere = elsewhere
        self.mean_weight, self.similarity_weight = mean_weight, similarity_weight
        if mean_smoothing < 1 or mean_smoothing % 2 == 0:
            raise ValueError(f"expected an odd mean_smoothing, got {mean_smoothing}")
        self.mean_smoothing = mean_smoothing
        self.mean_ranges = tuple(mean_ranges) or ((low, high),)

    def forward(self, output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """A scalar for output and target [batch, 1, rows, columns], normalised."""
        inside = (target >= self.low) & (target <= self.high)
        weight = torch.where(inside, 1.0, self.elsewhere)
        error = output - target
        of_items = (weight * self._counted(error)).mean(dim=(1, 2, 3))
        if self.mean_weight:
            of_items = of_items + self.mean_weight * self._offsets(error, target)
        loss = self._of_batch(of_items)
        if self.similarity_weight:
            similarity = _mean_similarity(output, target, self.low, self.high)
            loss = loss + self.similarity_weight * (1 - similarity)
        return loss

    def _counted(self, error: torch.Tensor) -> torch.Tensor:
        """What an error counts as."""
        return error.square()

    def _of_batch(self, of_items: torch.Tensor) -> torch.Tensor:
        """The loss of a batch, of those of its items [batch]."""
        return of_items.mean()

    def _offsets(self, error: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        smooth = functional.avg_pool2d(
            target,
            self.mean_smoothing,
            stride=1,
            padding=self.mean_smoothing // 2,
            count_include_pad=False,
        )
        return sum(
            (self._offset(error, self._within(smooth, *r)) for r in self.mean_ranges),
            start=error.new_zeros(len(error)),
        )

    def _offset(self, error: torch.Tensor, inside: torch.Tensor) -> torch.Tensor:
        """What each patch's mean error where `inside` is 1 counts as, by the share of the patch
        that it is, [batch]."""
        voxels = inside.sum(dim=(1, 2, 3))
        offset = (error * inside).sum(dim=(1, 2, 3)) / voxels.clamp(min=1)
        return voxels / inside[0].numel() * self._counted(offset)

    def _within(self, smooth: torch.Tensor, low: float, high: float) -> torch.Tensor:
        """Where a smoothed target lies in a range, without rims: see metrics.tissue_masks."""
        inside = ((smooth >= low) & (smooth <= high)).float()
        if self.mean_smoothing == 1:
            return inside
        core = 1 - functional.max_pool2d(1 - inside, 3, stride=1, padding=1)
        return functional.max_pool2d(core, 3, stride=1, padding=1)


class RangeWeightedL1(RangeWeightedMSE):
    """The same with absolute errors and offsets in place of square ones."""

    def _counted(self, error: torch.Tensor) -> torch.Tensor:
        return error.abs()


class RangeWeightedLogMSE(RangeWeightedMSE):
    """The mean over the batch of each item's logarithm of the same.

    An item counts for the share of its error that goes, however noisy it is, where a mean would
    be ruled by the noisiest: PSNR as a loss (Chen et al., NAFNet, ECCV 2022). Errors far below
    the floor, 1 HU at a scale of 1000, are left alone.
    """

    def _of_batch(self, of_items: torch.Tensor) -> torch.Tensor:
        return (of_items + LOG_FLOOR).log().mean()


def _mean_similarity(
    output: torch.Tensor, target: torch.Tensor, low: float, high: float
) -> torch.Tensor:
    """Mean SSIM of a batch, both clipped to the range and counted from its lower end."""
    with torch.autocast(output.device.type, enabled=False):  # variances of bf16 are all rounding
        shown = (image.float().clamp(low, high) - low for image in (output, target))
        from monai.metrics.regression import compute_ssim_and_cs  # seconds, if nothing else did

        similarity, _ = compute_ssim_and_cs(
            *shown,
            spatial_dims=2,
            kernel_type="uniform",
            kernel_size=(SSIM_WINDOW_PIXELS, SSIM_WINDOW_PIXELS),
            kernel_sigma=(0.0, 0.0),
            data_range=high - low,
            k1=SSIM_K1,
            k2=SSIM_K2,
        )
    return similarity.mean()


class MultiScaleSSIM(nn.Module):
    """share (1 - MS-SSIM) + (1 - share) mean absolute error, as Zhao et al., IEEE TCI 2017.

    The similarity of structure dominates, the absolute error keeps levels. Values from low to high,
    normalised; the error counts in units of that range. MS-SSIM is MONAI's, at the four finest of
    its five scales, which patches of 99 pixels a side and more have room for.
    """

    def __init__(self, low: float = -1.0, high: float = 1.0, *, share: float = 0.84) -> None:
        super().__init__()
        if low >= high or not 0 <= share <= 1:
            raise ValueError(f"expected low < high, share in [0, 1], got {low}, {high}, {share}")
        self.low, self.high, self.share = low, high, share

    def forward(self, output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """A scalar for output and target [batch, 1, rows, columns], normalised."""
        one, other = ((image - self.low) / (self.high - self.low) for image in (output, target))
        from monai.metrics import compute_ms_ssim  # seconds, if nothing else did

        alike = compute_ms_ssim(one, other, spatial_dims=2, weights=_FOUR_SCALES).mean()
        return self.share * (1 - alike) + (1 - self.share) * (one - other).abs().mean()


class CosineDistance(nn.Module):
    """1 - the cosine between output and target, each image a vector; mean over the batch.

    Compares patterns, not how strong they are: an image and its double are the same.
    For what is read by its shape, under any exposure or gain; HU are not, so there it serves
    beside another loss.
    """

    def forward(self, output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """A scalar from 0 to 2 for output and target [batch, ...]."""
        likeness = functional.cosine_similarity(output.flatten(1), target.flatten(1), dim=1)
        return 1 - likeness.mean()


class PooledL1(nn.Module):
    """Mean absolute error of the means over squares of `pixels` a side.

    Levels and shapes are held to the target; what is finer than the squares is left to another
    part of the loss, such as a discriminator, which an error of every pixel would smooth out.
    """

    def __init__(self, pixels: int) -> None:
        super().__init__()
        if pixels < 1:
            raise ValueError(f"expected squares of 1 pixel or more, got {pixels}")
        self.pixels = pixels

    def forward(self, output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """A scalar for output and target [batch, channels, rows, columns]."""
        return functional.avg_pool2d(output - target, self.pixels).abs().mean()
