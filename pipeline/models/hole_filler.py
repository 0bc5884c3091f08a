"""Large holes filled: a smooth surface from all around first, then what a U-Net adds to it."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from monai.networks.nets import BasicUNet
from torch import nn
from torch.nn import functional

from pipeline.models.spade import noise_like

#: Of the noise that a trained network is given.
SEED = 0


class HoleFiller(nn.Module):
    """[batch, outputs + 1, rows, columns], what is known last -> [batch, outputs, rows, columns].

    Values are normalised; unknown pixels may hold anything. MONAI's BasicUNet halves the sides four
    times: with 16 pixels to one at its coarsest, it sees beyond holes of 64. The network begins at
    the smooth surface (`smoothly_filled`, with its `sweeps`), so that `residual` has to be false.

    noise: channels of it within the holes, of which texture can be made; where there is none, a
    discriminator makes the network put one and the same shape into every hole. In training it
    differs from turn to turn; afterwards it is the same each time.
    """

    def __init__(
        self,
        *,
        outputs: int = 3,
        features: Sequence[int] = (32, 32, 48, 64, 96, 32),
        sweeps: int = 0,
        norm: str | None = "batch",
        noise: int = 0,
    ) -> None:
        super().__init__()
        self.sweeps, self.noise = sweeps, noise
        self.network = BasicUNet(
            spatial_dims=2,
            in_channels=outputs + 1 + noise,
            out_channels=outputs,
            features=tuple(features),
            norm=norm,
            upsample="nontrainable",
        )

    def forward(self, seen: torch.Tensor) -> torch.Tensor:
        """The picture, its holes filled; known pixels are close to what they were, not the same."""
        known = seen[:, -1:]
        smooth = smoothly_filled(seen[:, :-1], known, sweeps=self.sweeps)
        random = None if self.training else torch.Generator().manual_seed(SEED)
        drawn = noise_like(known, self.noise, random) * (1 - known)
        return smooth + self.network(torch.cat([smooth, known, drawn], dim=1))


def smoothly_filled(image: torch.Tensor, known: torch.Tensor, *, sweeps: int = 0) -> torch.Tensor:
    """Unknown pixels (0 in `known`) from the means of known ones at half the size, and so on
    (pull-push; Gortler et al., SIGGRAPH 1996). [batch, channels, rows, columns]; known:
    [batch, 1, rows, columns].

    sweeps: how often, at each size, an unknown pixel becomes the mean of its four neighbours. With
    more of them the surface nears the harmonic one, which spans the hole like a soap film
    (cascadic multigrid; Bornemann and Deuflhard, Numerische Mathematik 75, 1996).
    """
    if max(image.shape[-2:]) == 1:
        return image * known
    share = functional.avg_pool2d(known, 2, ceil_mode=True, count_include_pad=False)
    total = functional.avg_pool2d(image * known, 2, ceil_mode=True, count_include_pad=False)
    coarse = smoothly_filled(
        total / share.clamp(min=1e-6), (share > 0).to(known.dtype), sweeps=sweeps
    )
    fine = functional.interpolate(coarse, image.shape[-2:], mode="bilinear", align_corners=False)
    filled = torch.where(known > 0, image, fine)
    for _ in range(sweeps):
        filled = torch.where(known > 0, image, mean_of_neighbours(filled))
    return filled


def mean_of_neighbours(image: torch.Tensor) -> torch.Tensor:
    """Of the four beside each pixel of [batch, channels, rows, columns]; at the rim its own value
    stands for the one outside."""
    wide = functional.pad(image, (1, 1, 1, 1), mode="replicate")
    above, below = wide[..., :-2, 1:-1], wide[..., 2:, 1:-1]
    left, right = wide[..., 1:-1, :-2], wide[..., 1:-1, 2:]
    return (above + below + left + right) / 4
