"""The first CNN for low-dose CT (Chen et al., Biomedical Optics Express 2017), "CNN-10"."""

from __future__ import annotations

import torch
from torch import nn


class CNN10(nn.Module):
    """Three convolutions, 9 x 9, 3 x 3 and 5 x 5, with ReLU between them and no batch norm.

    Input and output: [batch, 1, rows, columns] of any height and width; the rim is padded with
    zeros. The defaults are the network as Eulig et al. 2024 measured it: 64 and 32 channels,
    24,513 parameters.
    """

    def __init__(self, wide: int = 64, narrow: int = 32) -> None:
        super().__init__()
        if wide < 1 or narrow < 1:
            raise ValueError(f"wide and narrow must be positive, got {wide} and {narrow}")
        self.layers = nn.Sequential(
            nn.Conv2d(1, wide, 9, padding=4),
            nn.ReLU(),
            nn.Conv2d(wide, narrow, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(narrow, 1, 5, padding=2),
        )

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """[batch, 1, rows, columns] of any size, normalised, in and out."""
        return self.layers(image)
