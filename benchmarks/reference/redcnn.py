"""RED-CNN as everybody writes it: Chen et al., IEEE TMI 2017, fig. 1, in PyTorch's own layers."""

from __future__ import annotations

import torch
from torch import nn


class PlainREDCNN(nn.Module):
    """[batch, 1, rows, columns] of any size; 96 channels, 5 x 5, no padding."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.ModuleList(nn.Conv2d(1 if n == 0 else 96, 96, 5) for n in range(5))
        self.decoder = nn.ModuleList(
            nn.ConvTranspose2d(96, 1 if n == 4 else 96, 5) for n in range(5)
        )

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        first = torch.relu(self.encoder[0](image))
        second = torch.relu(self.encoder[1](first))
        third = torch.relu(self.encoder[2](second))
        fourth = torch.relu(self.encoder[3](third))
        hidden = torch.relu(self.encoder[4](fourth))
        hidden = torch.relu(self.decoder[0](hidden) + fourth)
        hidden = torch.relu(self.decoder[1](hidden))
        hidden = torch.relu(self.decoder[2](hidden) + second)
        hidden = torch.relu(self.decoder[3](hidden))
        return self.decoder[4](hidden) + image
