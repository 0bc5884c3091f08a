"""A code book in fp32, in which a rare code may have a price: entropy-constrained quantisation."""

from __future__ import annotations

import torch
from monai.networks.layers.vector_quantizer import EMAQuantizer
from torch.nn.functional import one_hot


class CodeBook(EMAQuantizer):
    """MONAI's code book; quantises in fp32 also where the networks run in bf16.

    rate_weight: a code costs its square distance and, as a share of the mean distance, this much
    for each bit that its frequency makes it take (Chou, Lookabaugh and Gray, IEEE TASSP 1989). At 0
    the nearest code is taken. Measured in mean distances, a running mean as the book's own, it
    means the same at every scale of the encoder.
    """

    def __init__(
        self,
        num_embeddings: int,
        embedding_dim: int,
        *,
        commitment_cost: float,
        decay: float,
        rate_weight: float = 0.0,
    ) -> None:
        super().__init__(
            spatial_dims=2,
            num_embeddings=num_embeddings,
            embedding_dim=embedding_dim,
            commitment_cost=commitment_cost,
            decay=decay,
            ddp_sync=False,
        )
        self.rate_weight = rate_weight
        self.mean_distance: torch.Tensor
        if rate_weight:
            self.register_buffer("mean_distance", torch.zeros(()))

    def forward(self, inputs: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """The quantised [batch, dimensions, rows, columns], the commitment loss, and the codes
        [batch, rows, columns]; in training the book follows its inputs."""
        with torch.autocast(inputs.device.type, enabled=False):
            return super().forward(inputs.float())

    def quantize(self, inputs: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """The inputs [places, dimensions], their codes one-hot, and as [batch, rows, columns]."""
        if not self.rate_weight:
            return super().quantize(inputs)
        flat = inputs.movedim(1, -1).flatten(0, -2)
        book = self.embedding.weight
        distances = torch.addmm(book.square().sum(1), flat, book.t(), alpha=-2)
        distances = distances + flat.square().sum(1, keepdim=True)
        codes = (distances + self._price()).argmin(1)
        if self.training:
            chosen = distances.detach().gather(1, codes[:, None]).mean()
            self.mean_distance.lerp_(chosen, 1 - self.decay if self.mean_distance else 1.0)
        return flat, one_hot(codes, len(book)).float(), codes.view(inputs[:, 0].shape)

    def _price(self) -> torch.Tensor:
        """What each code [codes] costs beside its distance."""
        share = (self.ema_cluster_size + self.epsilon) / (
            self.ema_cluster_size.sum() + self.epsilon
        )
        return -self.rate_weight * self.mean_distance * share.log2()
