"""nnU-Net's two U-Nets, by the names that their weights have in a checkpoint of nnU-Net v2.

PlainConvUNet: Isensee et al., Nature Methods 2021. ResidualEncoderUNet: Isensee et al., MICCAI
2024, with the blocks of ResNet-D (He et al., CVPR 2019). The layers and their order are those of
dynamic_network_architectures (Apache-2.0), whose weights they take; that package is not needed,
which asks for torchvision. Its second names of the same weights (`all_modules`, `decoder.encoder`)
are left out by pipeline.models.adapters.nnunet_checkpoint.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import nn

Sizes = Sequence[int]

CONV = {2: nn.Conv2d, 3: nn.Conv3d}
UP = {2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}
NORM = {2: nn.InstanceNorm2d, 3: nn.InstanceNorm3d}
POOL = {2: nn.AvgPool2d, 3: nn.AvgPool3d}


class _Build:
    """Makes the layers of one network, in its dimensions."""

    def __init__(
        self, dims: int, *, conv_bias: bool, norm_eps: float, affine: bool, slope: float
    ) -> None:
        self.dims, self.conv_bias, self.norm_eps = dims, conv_bias, norm_eps
        self.affine, self.slope = affine, slope

    def activation(self) -> nn.Module:
        """LeakyReLU; at slope 0 a plain ReLU."""
        return nn.LeakyReLU(self.slope, inplace=True)

    def conv(
        self,
        channels: tuple[int, int],
        kernel: Sizes,
        stride: Sizes,
        *,
        bias: bool | None = None,
        activated: bool = True,
    ) -> nn.Module:
        """Convolution, instance normalisation, activation."""
        return _ConvNorm(self, channels, kernel, stride, bias=bias, activated=activated)

    def up(self, below: int, skip: int, stride: Sizes) -> nn.Module:
        """The transposed convolution from one stage to the next finer one."""
        sizes = tuple(stride)
        return UP[self.dims](below, skip, sizes, sizes, bias=self.conv_bias)  # type: ignore[arg-type]


class _ConvNorm(nn.Module):
    def __init__(
        self,
        build: _Build,
        channels: tuple[int, int],
        kernel: Sizes,
        stride: Sizes,
        *,
        bias: bool | None,
        activated: bool,
    ) -> None:
        super().__init__()
        self.conv = CONV[build.dims](
            *channels,
            tuple(kernel),  # type: ignore[arg-type]
            tuple(stride),  # type: ignore[arg-type]
            padding=tuple((n - 1) // 2 for n in kernel),  # type: ignore[arg-type]
            bias=build.conv_bias if bias is None else bias,
        )
        self.norm = NORM[build.dims](channels[1], eps=build.norm_eps, affine=build.affine)
        self.nonlin = build.activation() if activated else nn.Identity()

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return self.nonlin(self.norm(self.conv(image)))


class _Convs(nn.Module):
    """Convolutions one after another, of which the first has the stride."""

    def __init__(
        self, build: _Build, count: int, channels: tuple[int, int], kernel: Sizes, stride: Sizes
    ) -> None:
        super().__init__()
        before, after = channels
        ones = [1] * build.dims
        later = [build.conv((after, after), kernel, ones) for _ in range(count - 1)]
        self.convs = nn.Sequential(build.conv((before, after), kernel, stride), *later)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return self.convs(image)


class _ResidualBlock(nn.Module):
    """Two convolutions beside a skip, which is pooled and projected where sizes change."""

    def __init__(
        self, build: _Build, channels: tuple[int, int], kernel: Sizes, stride: Sizes
    ) -> None:
        super().__init__()
        before, after = channels
        ones = [1] * build.dims
        self.conv1 = build.conv((before, after), kernel, stride)
        self.conv2 = build.conv((after, after), kernel, ones, activated=False)
        self.nonlin2 = build.activation()
        skip: list[nn.Module] = []
        if any(n != 1 for n in stride):
            skip.append(POOL[build.dims](tuple(stride), tuple(stride)))  # type: ignore[arg-type]
        if before != after:
            skip.append(build.conv((before, after), ones, ones, bias=False, activated=False))
        self.skip = nn.Sequential(*skip)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return self.nonlin2(self.conv2(self.conv1(image)) + self.skip(image))


class _ResidualBlocks(nn.Module):
    def __init__(
        self, build: _Build, count: int, channels: tuple[int, int], kernel: Sizes, stride: Sizes
    ) -> None:
        super().__init__()
        _, after = channels
        ones = [1] * build.dims
        later = [_ResidualBlock(build, (after, after), kernel, ones) for _ in range(count - 1)]
        self.blocks = nn.Sequential(_ResidualBlock(build, channels, kernel, stride), *later)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return self.blocks(image)


class _Encoder(nn.Module):
    def __init__(
        self,
        build: _Build,
        in_channels: int,
        features: Sizes,
        kernels: Sequence[Sizes],
        strides: Sequence[Sizes],
        counts: Sizes,
        *,
        stem: int | None,
    ) -> None:
        super().__init__()
        stages: list[nn.Module] = []
        before = in_channels
        if stem is not None:
            self.stem = _Convs(build, 1, (in_channels, stem), kernels[0], [1] * build.dims)
            before = stem
        for after, kernel, stride, count in zip(features, kernels, strides, counts, strict=True):
            if stem is None:  # the plain one has each stage in a sequence of one
                stages.append(nn.Sequential(_Convs(build, count, (before, after), kernel, stride)))
            else:
                stages.append(_ResidualBlocks(build, count, (before, after), kernel, stride))
            before = after
        self.stages = nn.Sequential(*stages)
        self.has_stem = stem is not None

    def forward(self, image: torch.Tensor) -> list[torch.Tensor]:
        found = []
        current = self.stem(image) if self.has_stem else image
        for stage in self.stages:
            current = stage(current)
            found.append(current)
        return found


class _Decoder(nn.Module):
    """From the coarsest stage back to the finest; the last of seg_layers gives the logits, the
    others were for deep supervision."""

    def __init__(
        self,
        build: _Build,
        classes: int,
        features: Sizes,
        kernels: Sequence[Sizes],
        strides: Sequence[Sizes],
        counts: Sizes,
    ) -> None:
        super().__init__()
        ones = [1] * build.dims
        self.stages, self.transpconvs, self.seg_layers = (nn.ModuleList() for _ in range(3))
        for number, count in enumerate(counts, start=1):
            below, skip = features[-number], features[-number - 1]
            self.transpconvs.append(build.up(below, skip, strides[-number]))
            self.stages.append(_Convs(build, count, (2 * skip, skip), kernels[-number - 1], ones))
            self.seg_layers.append(CONV[build.dims](skip, classes, 1))

    def forward(self, skips: list[torch.Tensor]) -> torch.Tensor:
        current = skips[-1]
        finer = reversed(skips[:-1])
        for up, stage, skip in zip(self.transpconvs, self.stages, finer, strict=True):
            current = stage(torch.cat((up(current), skip), dim=1))
        return self.seg_layers[-1](current)


class _UNet(nn.Module):
    def __init__(self, encoder: _Encoder, decoder: _Decoder) -> None:
        super().__init__()
        self.encoder, self.decoder = encoder, decoder

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return self.decoder(self.encoder(image))


class NnUNet(nn.Module):
    """The U-Net of an nnU-Net configuration, of one or several folds.

    [batch, in_channels, (slices,) rows, columns] to logits [batch, out_channels, ...], the mean
    of the folds' logits; sizes divide by the product of the strides. Arguments as plans.json has
    them: n_per_stage is n_conv_per_stage of a PlainConvUNet, n_blocks_per_stage of a
    ResidualEncoderUNet.
    """

    def __init__(
        self,
        spatial_dims: int,
        in_channels: int,
        out_channels: int,
        *,
        architecture: Literal["PlainConvUNet", "ResidualEncoderUNet"],
        features_per_stage: Sizes,
        kernel_sizes: Sequence[Sizes],
        strides: Sequence[Sizes],
        n_per_stage: Sizes,
        n_conv_per_stage_decoder: Sizes,
        conv_bias: bool = True,
        norm_eps: float = 1e-5,
        norm_affine: bool = True,
        negative_slope: float = 0.01,
        stem_channels: int | None = None,
        folds: int = 1,
    ) -> None:
        super().__init__()
        stages = len(features_per_stage)
        if len(n_conv_per_stage_decoder) != stages - 1:
            raise ValueError(f"n_conv_per_stage_decoder: expected {stages - 1} numbers")
        if any(len(sizes) != spatial_dims for sizes in (*kernel_sizes, *strides)):
            raise ValueError(f"kernel_sizes, strides: expected {spatial_dims} numbers a stage")
        build = _Build(
            spatial_dims,
            conv_bias=conv_bias,
            norm_eps=norm_eps,
            affine=norm_affine,
            slope=negative_slope,
        )
        residual = architecture == "ResidualEncoderUNet"
        stem = (stem_channels or features_per_stage[0]) if residual else None
        shared = (features_per_stage, kernel_sizes, strides)
        self.members = nn.ModuleList(
            _UNet(
                _Encoder(build, in_channels, *shared, n_per_stage, stem=stem),
                _Decoder(build, out_channels, *shared, n_conv_per_stage_decoder),
            )
            for _ in range(folds)
        )

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Logits, the mean over the folds."""
        total = self.members[0](image)
        for member in self.members[1:]:
            total = total + member(image)
        return total / len(self.members)
