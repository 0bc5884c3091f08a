"""Images as few whole numbers: VQ-VAE (van den Oord et al., NeurIPS 2017), MONAI's network."""

from __future__ import annotations

import torch
from monai.networks import nets
from torch.nn.functional import pad

#: (stride, kernel, dilation, padding) of a layer that halves the side; and that doubles it.
_HALVE, _DOUBLE = (2, 4, 1, 1), (2, 4, 1, 1, 0)


class VQVAE(nets.VQVAE):
    """[batch, 1, rows, columns] -> its reconstruction from codes of the code book.

    channels: of each halving of the side, so a code represents 2^len(channels) pixels squared;
    num_embeddings: codes in the book. Any size: what is missing to whole codes is filled with
    the last row and column, and cut off again.
    """

    def __init__(
        self,
        channels: tuple[int, ...] = (32, 64, 64),
        *,
        num_embeddings: int = 256,
        embedding_dim: int = 32,
        num_res_layers: int = 2,
        commitment_cost: float = 0.25,
        decay: float = 0.95,
    ) -> None:
        super().__init__(
            spatial_dims=2,
            in_channels=1,
            out_channels=1,
            channels=channels,
            num_res_layers=num_res_layers,
            num_res_channels=channels,
            downsample_parameters=(_HALVE,) * len(channels),
            upsample_parameters=(_DOUBLE,) * len(channels),
            num_embeddings=num_embeddings,
            embedding_dim=embedding_dim,
            commitment_cost=commitment_cost,
            decay=decay,
            ddp_sync=False,
        )
        self.pixels_per_code = 2 ** len(channels)
        # [left or above, that code or the rim, the code itself]; see pipeline.generative.codec.
        counts = torch.zeros(2, num_embeddings + 1, num_embeddings, dtype=torch.int64)
        self.register_buffer("follows", counts)
        self.follows: torch.Tensor

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """The reconstruction [batch, 1, rows, columns] of normalised images."""
        return self.rebuild(image)[0]

    def rebuild(self, image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The reconstruction, and the commitment loss that keeps the encoder near its codes."""
        rebuilt, commitment = super().forward(self.padded(image))
        return rebuilt[..., : image.shape[-2], : image.shape[-1]], commitment

    def codes(self, image: torch.Tensor) -> torch.Tensor:
        """Indices into the book, one for pixels_per_code squared: [batch, rows, columns]."""
        return self.index_quantize(self.padded(image))

    def image(self, codes: torch.Tensor, shape: tuple[int, int]) -> torch.Tensor:
        """The image [batch, 1, *shape] of codes."""
        return self.decode_samples(codes)[..., : shape[0], : shape[1]]

    @torch.no_grad()
    def count(self, codes: torch.Tensor) -> None:
        """Add what stands beside and below what in codes [batch, rows, columns]."""
        rim = self.follows.shape[2]
        around = pad(codes, (1, 0, 1, 0), value=rim)
        ones = torch.ones_like(codes)
        for which, before in enumerate((around[:, 1:, :-1], around[:, :-1, 1:])):
            self.follows[which].index_put_((before, codes), ones, accumulate=True)

    def padded(self, image: torch.Tensor) -> torch.Tensor:
        """The images with their last row and column repeated up to whole codes."""
        rows, columns = (-length % self.pixels_per_code for length in image.shape[-2:])
        return pad(image, (0, columns, 0, rows), mode="replicate") if rows or columns else image
