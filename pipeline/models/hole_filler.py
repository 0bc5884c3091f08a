"""Large holes filled: a smooth surface from all around first, then what a U-Net adds to it."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from monai.networks.nets import BasicUNet
from torch import nn
from torch.nn import functional


class HoleFiller(nn.Module):
    """[batch, outputs + 1, rows, columns], what is known last -> [batch, outputs, rows, columns].

    Values are normalised; unknown pixels may hold anything. MONAI's BasicUNet halves the sides four
    times: with 16 pixels to one at its coarsest, it sees beyond holes of 64. The network begins at
    the smooth surface, so that `residual` has to be false.
    """

    def __init__(
        self, *, outputs: int = 3, features: Sequence[int] = (32, 32, 48, 64, 96, 32)
    ) -> None:
        super().__init__()
        self.network = BasicUNet(
            spatial_dims=2,
            in_channels=outputs + 1,
            out_channels=outputs,
            features=tuple(features),
            norm="batch",
            upsample="nontrainable",
        )

    def forward(self, seen: torch.Tensor) -> torch.Tensor:
        """The picture, its holes filled; known pixels are close to what they were, not the same."""
        known = seen[:, -1:]
        smooth = smoothly_filled(seen[:, :-1], known)
        return smooth + self.network(torch.cat([smooth, known], dim=1))


def smoothly_filled(image: torch.Tensor, known: torch.Tensor) -> torch.Tensor:
    """Unknown pixels (0 in `known`) from the means of known ones at half the size, and so on
    (pull-push; Gortler et al., SIGGRAPH 1996). [batch, channels, rows, columns]; known:
    [batch, 1, rows, columns]."""
    if max(image.shape[-2:]) == 1:
        return image * known
    share = functional.avg_pool2d(known, 2, ceil_mode=True, count_include_pad=False)
    total = functional.avg_pool2d(image * known, 2, ceil_mode=True, count_include_pad=False)
    coarse = smoothly_filled(total / share.clamp(min=1e-6), (share > 0).to(known.dtype))
    fine = functional.interpolate(coarse, image.shape[-2:], mode="bilinear", align_corners=False)
    return torch.where(known > 0, image, fine)
