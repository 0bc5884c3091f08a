"""Images as few whole numbers: VQ-VAE (van den Oord et al., NeurIPS 2017), MONAI's network.

With stages, each quantises what those before it left: residual vector quantisation, as Zeghidour
et al., IEEE/ACM TASLP 2022 (SoundStream), and Lee et al., CVPR 2022.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from monai.networks import nets
from monai.networks.layers.vector_quantizer import VectorQuantizer
from torch import nn
from torch.nn.functional import mse_loss, pad

from pipeline.models.code_book import CodeBook

#: (stride, kernel, dilation, padding) of a layer that halves the side; and that doubles it.
_HALVE, _DOUBLE = (2, 4, 1, 1), (2, 4, 1, 1, 0)


class VQVAE(nets.VQVAE):
    """[batch, 1, rows, columns] -> its reconstruction from codes of the code books.

    channels: of each halving of the side, so a code represents 2^len(channels) pixels squared;
    num_embeddings: codes in a book; stages: books, each for what is left by those before it, whose
    first few give a coarser image. rate_weight: see pipeline.models.code_book. Any size: what is
    missing to whole codes is filled with the last row and column, and cut off again.
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
        stages: int = 1,
        rate_weight: float = 0.0,
    ) -> None:
        if stages < 1 or rate_weight < 0:
            raise ValueError(f"expected stages >= 1, rate_weight >= 0, got {stages}, {rate_weight}")
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
            ddp_sync=False,
        )

        def book() -> VectorQuantizer:
            costs = {"commitment_cost": commitment_cost, "rate_weight": rate_weight}
            return VectorQuantizer(CodeBook(num_embeddings, embedding_dim, decay=decay, **costs))

        self.commitment_cost = commitment_cost
        self.pixels_per_code = 2 ** len(channels)
        # The first stage has the names that a model of one stage always had.
        self.quantizer = book()
        self.later = nn.ModuleList(book() for _ in range(stages - 1))
        # [left or above, that code or the rim, the code itself]; see pipeline.generative.codec.
        counts = torch.zeros(2, num_embeddings + 1, num_embeddings, dtype=torch.int64)
        self.register_buffer("follows", counts)
        self.follows: torch.Tensor
        # The same of each later stage, and of the code of the stage before at the same place.
        self.later_follows: torch.Tensor
        if stages > 1:
            counts = torch.zeros(stages - 1, 3, *counts.shape[1:], dtype=torch.int64)
            self.register_buffer("later_follows", counts)

    @property
    def books(self) -> list[VectorQuantizer]:
        """Of each stage, MONAI's module around its pipeline.models.code_book.CodeBook."""
        return [self.quantizer, *self.later]

    @property
    def stages(self) -> int:
        """How many codes stand for one place."""
        return 1 + len(self.later)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """The reconstruction [batch, 1, rows, columns] of normalised images, from all stages."""
        return self.rebuild(image)[0]

    def rebuild(
        self, image: torch.Tensor, kept: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The reconstruction, and the commitment loss that keeps the encoder near its codes.

        kept: of how many stages each image [batch] is rebuilt; all by default. In training the
        books follow their codes, also those of stages that an image is not rebuilt from.
        """
        encoded = self.encode(self.padded(image)).float()
        left, quantised = encoded.detach(), torch.zeros_like(encoded)
        for stage, book in enumerate(self.books):
            _, found = book(left)
            part = found if kept is None else found * (kept > stage).view(-1, 1, 1, 1)
            quantised, left = quantised + part, left - found
        # Near to all of its codes: near to the first one, it would keep nothing for the later ones.
        commitment = self.commitment_cost * mse_loss(encoded, quantised)
        # The decoder's gradient goes straight through to the encoder.
        rebuilt = self.decode(encoded + (quantised - encoded).detach())
        return rebuilt[..., : image.shape[-2], : image.shape[-1]], commitment

    @torch.no_grad()
    def inputs_of_stages(self, image: torch.Tensor) -> list[torch.Tensor]:
        """What each stage quantises, [batch, dimensions, rows, columns]; no book moves."""
        return [left for left, _ in self._quantised(image)]

    @torch.no_grad()
    def codes(self, image: torch.Tensor) -> torch.Tensor:
        """Indices into the books, one of each stage for pixels_per_code squared:
        [batch, stages, rows, columns]; no book moves."""
        return torch.stack([codes for _, codes in self._quantised(image)], dim=1)

    def _quantised(self, image: torch.Tensor) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        left = self.encode(self.padded(image)).float()
        for book in self.books:
            codes = _codes(book, left)
            yield left, codes
            left = left - book.embed(codes)

    def image(self, codes: torch.Tensor, shape: tuple[int, int]) -> torch.Tensor:
        """The image [batch, 1, *shape] of codes [batch, stages, rows, columns], of the first few
        stages or of all."""
        parts = [
            book.embed(codes[:, stage]) for stage, book in enumerate(self.books[: codes.shape[1]])
        ]
        return self.decode(torch.stack(parts).sum(0))[..., : shape[0], : shape[1]]

    @torch.no_grad()
    def count(self, codes: torch.Tensor) -> None:
        """Add what stands beside, below and, of a later stage, after what in codes
        [batch, stages, rows, columns]."""
        for stage, own in enumerate(codes.unbind(1)):
            around = pad(own, (1, 0, 1, 0), value=self.follows.shape[2])
            before = [around[:, 1:, :-1], around[:, :-1, 1:]]
            counts = self.later_follows[stage - 1] if stage else self.follows
            if stage:
                before.append(codes[:, stage - 1])
            for which, condition in enumerate(before):
                ones = torch.ones_like(own, dtype=counts.dtype)
                counts[which].index_put_((condition, own), ones, accumulate=True)

    def padded(self, image: torch.Tensor) -> torch.Tensor:
        """The images with their last row and column repeated up to whole codes."""
        rows, columns = (-length % self.pixels_per_code for length in image.shape[-2:])
        return pad(image, (0, columns, 0, rows), mode="replicate") if rows or columns else image


def _codes(book: VectorQuantizer, inputs: torch.Tensor) -> torch.Tensor:
    """[batch, rows, columns]; unlike MONAI's, the same in training, and without moving the book."""
    quantizer = book.quantizer
    training = quantizer.training
    quantizer.eval()
    with torch.autocast(inputs.device.type, enabled=False):
        found = quantizer.quantize(inputs.float())[2]
    quantizer.train(training)
    return found
