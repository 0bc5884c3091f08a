"""Convolutions on the CPU with a fifth of the multiplications.

Winograd's minimal filtering in two dimensions (Lavin & Gray, CVPR 2016): tiles of 8 x 8 and the
kernel are lifted into a space where a convolution is one product at each of 64 places, that is 64
products of matrices, and collected again. A kernel of 5 x 5 then takes 4 multiplications an output
in place of 25, one of 3 x 3 takes 1.8 in place of 9. PyTorch's own on AVX2 is already at the
processor's limit, so nothing but fewer operations can be faster.

`Conv2d` and `ConvTranspose2d` are PyTorch's with the same weights and names; they use this
algorithm where it was measured to be faster, and PyTorch's own everywhere else: on a GPU, in bf16,
traced, exported. The two agree to a few 1e-6 of the largest value.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import nn
from torch.autograd.function import once_differentiable

from pipeline.models.winograd.tiles import TILE, Lifting, Room, Tiles, collect, transforms

KERNELS = (3, 5)
#: With less of either, the transforms cost more than the products save.
MIN_CHANNELS, MIN_PIXELS = 64, 64 * 64


class Conv2d(nn.Conv2d):
    """PyTorch's, by Winograd's algorithm where that is faster: see the module.

    direct: PyTorch's own in any case.
    """

    direct = False

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """As torch.nn.Conv2d's, [batch, channels, rows, columns]."""
        padding = _padding_if_faster(self, input)
        if padding is None:
            return super().forward(input)
        return _Winograd.apply(input, self.weight, self.bias, padding)


class ConvTranspose2d(nn.ConvTranspose2d):
    """PyTorch's, by Winograd's algorithm where that is faster: a convolution with the kernel
    rotated; direct: as of Conv2d."""

    direct = False

    def forward(self, input: torch.Tensor, output_size: list[int] | None = None) -> torch.Tensor:
        """As torch.nn.ConvTranspose2d's, [batch, channels, rows, columns]."""
        padding = _padding_if_faster(self, input)
        if padding is None or output_size is not None:
            return super().forward(input, output_size)
        rest = self.kernel_size[0] - 1 - padding
        return _Winograd.apply(input, _turned(self.weight), self.bias, rest)


def _padding_if_faster(layer: Conv2d | ConvTranspose2d, input: torch.Tensor) -> int | None:
    """The layer's padding on every side, where Winograd's algorithm applies and is faster."""
    if layer.direct:
        return None
    padding, kernel = layer.padding[0], layer.kernel_size[0]
    possible = (
        isinstance(padding, int)
        and kernel in KERNELS
        and (layer.kernel_size, layer.padding) == ((kernel, kernel), (padding, padding))
        and padding < kernel < min(input.shape[2:])
        and (layer.stride, layer.dilation, layer.groups) == ((1, 1), (1, 1), 1)
        and layer.padding_mode == "zeros"
        and input.dtype == layer.weight.dtype == torch.float32
        and input.device.type == "cpu"
    )
    traced = torch.compiler.is_compiling() or torch.jit.is_tracing()
    worth_it = (
        min(layer.in_channels, layer.out_channels) >= MIN_CHANNELS
        and input.numel() >= MIN_PIXELS * layer.in_channels
    )
    if possible and worth_it and not traced and not torch.is_autocast_enabled("cpu"):
        return int(padding)
    return None


class _Winograd(torch.autograd.Function):
    """[batch, out, rows, columns] of [batch, in, rows, columns] and [out, in, kernel, kernel]."""

    @staticmethod
    def forward(
        ctx: Any,
        input: torch.Tensor,
        weight: torch.Tensor,
        bias: torch.Tensor | None,
        padding: int,
    ) -> torch.Tensor:
        """Correlate with `weight`, padded by zeros on every side; `bias` [out] is added."""
        ctx.save_for_backward(input, weight)
        ctx.padding = padding
        return _correlate(input, weight, bias, padding)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        """Gradients of the input, the weight and the bias, those that are needed."""
        input, weight = ctx.saved_tensors
        wants_input, wants_weight, wants_bias, _ = ctx.needs_input_grad
        kernel, padding = weight.shape[-1], ctx.padding
        return (
            _correlate(gradient, _turned(weight), None, kernel - 1 - padding)
            if wants_input
            else None,
            _weight_gradient(input, gradient, kernel, padding) if wants_weight else None,
            gradient.sum((0, 2, 3)) if wants_bias else None,
            None,
        )


def _turned(weight: torch.Tensor) -> torch.Tensor:
    """The kernel of the transposed convolution: rotated by half a turn, in and out exchanged."""
    return weight.flip((2, 3)).transpose(0, 1)


def _correlate(
    input: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, padding: int
) -> torch.Tensor:
    out, into, kernel, _ = weight.shape
    by = transforms(kernel)
    tiles = Tiles.of(input, kernel, padding)
    products = torch.einsum("pa,qb,oiab->pqio", *(torch.from_numpy(by.weight),) * 2, weight)
    products = products.reshape(TILE * TILE, into, out)
    offset = np.zeros(out, np.float32) if bias is None else bias.detach().numpy()
    size = (tiles.batch, out, tiles.rows, tiles.columns)
    output = torch.empty(size, memory_format=torch.channels_last)
    image = output.permute(0, 2, 3, 1).numpy()
    lifting, room = Lifting(tiles, input, padding, by.input), Room()
    for chunk in tiles.chunks():
        found = room.of(TILE * TILE, chunk.tiles, out)
        torch.bmm(lifting.of(chunk), products, out=found)
        collect(found.numpy(), chunk, by.output, offset, image)
    return output


def _weight_gradient(
    input: torch.Tensor, gradient: torch.Tensor, kernel: int, padding: int
) -> torch.Tensor:
    by = transforms(kernel)
    tiles = Tiles.of(input, kernel, padding)
    into, out = input.shape[1], gradient.shape[1]
    products = torch.zeros(TILE * TILE, into, out)
    forth = Lifting(tiles, input, padding, by.input)
    back = Lifting(tiles, gradient, 0, by.gradient)
    for chunk in tiles.chunks():
        products.baddbmm_(forth.of(chunk).transpose(1, 2), back.of(chunk))
    products = products.view(TILE, TILE, into, out)
    return torch.einsum("pa,qb,pqio->oiab", *(torch.from_numpy(by.weight),) * 2, products)
