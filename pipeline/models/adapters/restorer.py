"""The adapter of networks that restore holes, missing pixels and missing colour."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn.functional import avg_pool2d, interpolate, pad

from pipeline.config.component import build
from pipeline.config.restoration import CHANNELS, Colour
from pipeline.config.task_runs import RestoreRun
from pipeline.core.errors import ConfigError
from pipeline.core.units import HIGHEST_CT_HU
from pipeline.degradations.base import Chain, Degradation
from pipeline.degradations.paired import PairInput, PairTarget
from pipeline.models.adapters.base import HUModel

#: Pixels along a side of the surroundings that a hole is filled from, at first.
SQUARES = (33, 17, 9, 5)


class Restorer(HUModel):
    """Takes and gives pictures in grey levels, L*a*b* or HU, [batch, channels, rows, columns].

    The output may have more channels and `scale` times the pixels of the input. NaN in the
    input is an unknown pixel: the network sees what its surroundings have there
    (`from_around`), and in one channel more what is known (1) and what is not (0).
    What the degradation keeps is kept: known pixels beside holes, and the lightness beside lost
    colour.

    Where the run asks for neighbours, the input's channels are slices or frames in a row, and
    the output is the middle one restored.

    A network with a code for the style (pipeline.models.spade) draws in the style of another
    picture (`style_of`) or in one that is drawn (`drawn_style`), which go in as `of_whole`.

    With `residual` the network's output is added to the input as it is, its pixels bicubic, its
    missing colours none.

    Of CT, what lies above HIGHEST_CT_HU is treated as by HUModel: seen as HIGHEST_CT_HU, and in
    the output as it was.
    """

    def __init__(
        self, network: nn.Module, *, config: RestoreRun, degradation: Degradation, residual: bool
    ) -> None:
        super().__init__(network, normalize=config.normalize_hu, residual=residual)
        self.colour = config.restoration.colour
        self.channels = CHANNELS[self.colour]
        self.neighbours = config.restoration.neighbours or 0
        self.is_ct = config.restoration.source == "series"
        self.input_channels = degradation.channels(self.channels) * (1 + 2 * self.neighbours)
        self.enlarges, self.hides = degradation.scale, degradation.hides
        self.styles = int(getattr(network, "style", 0))
        self.style_side = config.restoration.style_side
        self.self_ensemble = config.restoration.self_ensemble
        self.keeps_lightness = self.colour == "lab" and self.input_channels == 1
        self.input_shape = (-1, self.input_channels, -1, -1)
        self.output_shape = (-1, self.channels, -1, -1)

    def forward(self, image: torch.Tensor, of_whole: torch.Tensor | None = None) -> torch.Tensor:
        """The restored picture [batch, channels, scale x rows, scale x columns]; of a piece of a
        larger picture, with what `of_whole` gave for that."""
        known, filled = self._filled(image)
        seen = self._seen(filled, known)
        # Most networks take one argument, and so do traced ones.
        predicted = (
            self.network(seen) if of_whole is None else self.network(seen, of_whole)
        ).float()
        output = self.in_hu(predicted)
        if self.adds_input:
            start = lifted(
                self.middle(filled), channels=self.channels, scale=self.enlarges, colour=self.colour
            )
            output = start + predicted * self.scale
        if self.keeps_lightness:
            output = torch.cat([filled, output[:, 1:]], dim=1)
        if self.hides:
            output = torch.where(self.middle(known), self.middle(image), output)
        return self.with_metal(image, output) if self.is_ct else output

    def of_whole(self, image: torch.Tensor) -> torch.Tensor | None:
        """What the network must know of a whole picture to restore pieces of it; None for one to
        which pieces are enough."""
        asked = getattr(self.network, "of_whole", None)
        if asked is None:
            return None
        known, filled = self._filled(image)
        return asked(self._seen(filled, known))

    def style_of(self, picture: torch.Tensor) -> torch.Tensor:
        """The code [batch, styles] of the style of pictures [batch, channels, rows, columns]."""
        network: Any = self.network
        return network.encode(self.normalised(picture)).mean

    def drawn_style(self, seed: int) -> torch.Tensor:
        """A code [1, styles] of normal numbers."""
        return torch.randn(1, self.styles, generator=torch.Generator().manual_seed(seed))

    def _filled(self, image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Which pixels are known, and the picture with the others as their surroundings."""
        known = torch.isfinite(image)
        limited = image.clamp(max=HIGHEST_CT_HU) if self.is_ct else image
        return known, from_around(limited, known, self.centre) if self.hides else limited

    def _seen(self, filled: torch.Tensor, known: torch.Tensor) -> torch.Tensor:
        """What the network is given."""
        seen = self.normalised(filled)
        return torch.cat([seen, known[:, :1].to(seen.dtype)], dim=1) if self.hides else seen

    def with_metal(self, image_hu: torch.Tensor, output_hu: torch.Tensor) -> torch.Tensor:
        """The output with what lies above HIGHEST_CT_HU in the image as it was."""
        metal_hu = self.middle(image_hu)
        if self.enlarges > 1:
            metal_hu = interpolate(metal_hu, scale_factor=self.enlarges, mode="nearest")
        return torch.where(metal_hu > HIGHEST_CT_HU, metal_hu, output_hu)

    def middle(self, images: torch.Tensor) -> torch.Tensor:
        """Of a place and its neighbours, the place."""
        return images[:, self.neighbours : images.shape[1] - self.neighbours]


def from_around(image: torch.Tensor, known: torch.Tensor, otherwise: float) -> torch.Tensor:
    """Unknown pixels as the mean of the known ones in the smallest square that has any.

    image, known: [batch, channels, rows, columns]. Beyond the largest square, `otherwise`.
    """
    seen = torch.where(known, image, 0.0)
    filled = torch.full_like(seen, otherwise)
    for side in SQUARES:
        share = _mean(known.to(image.dtype), side)
        filled = torch.where(share > 0, _mean(seen, side) / share.clamp(min=1e-6), filled)
    return torch.where(known, image, filled)


def _mean(image: torch.Tensor, side: int) -> torch.Tensor:
    """Over the square around each pixel, with 0 beyond the image: row by row, then columns."""
    by_rows = avg_pool2d(image, (side, 1), 1, (side // 2, 0))
    return avg_pool2d(by_rows, (1, side), 1, (0, side // 2))


def lifted(image: torch.Tensor, *, channels: int, scale: int, colour: Colour) -> torch.Tensor:
    """What is there without restoring: bicubic pixels, and grey where colours are missing."""
    if scale > 1:
        image = interpolate(image, scale_factor=scale, mode="bicubic", align_corners=False)
    missing = channels - image.shape[1]
    if not missing:
        return image
    if colour == "lab":
        return pad(image, (0, 0, 0, 0, 0, missing))
    return image.expand(-1, channels, -1, -1)


def degradation_of(config: RestoreRun) -> Degradation:
    """What degrades the run's pictures; ConfigError where it cannot be built."""
    return build(config.degradation, key="degradation", base=Degradation)


def target_of(config: RestoreRun) -> Degradation | None:
    """What makes the target of a picture; None where that is the picture itself."""
    target = config.restoration.target
    return None if target is None else build(target, key="restoration.target", base=Degradation)


def restorer(config: RestoreRun) -> Restorer:
    """The run's network in its adapter; ConfigError where it enlarges by another scale."""
    network = build(config.model, key="model", base=nn.Module)
    degradation = degradation_of(config)
    enlarges = int(getattr(network, "scale", 1))
    if enlarges != degradation.scale:
        raise ConfigError(
            f"model.args.scale: {enlarges}, but the degradation divides by {degradation.scale}"
        )
    seen = 1 + 2 * (config.restoration.neighbours or 0)
    if getattr(network, "frames", seen) != seen:
        raise ConfigError(
            f"model.args.frames: {network.frames}, but restoration.neighbours gives {seen} in a row"
        )
    _require_halves(config, degradation)
    _require_alike(degradation, degradation_of(config.as_tested()))
    residual = bool(config.step.args.get("residual", False))
    return Restorer(network, config=config, degradation=degradation, residual=residual)


def _require_alike(trained: Degradation, tested: Degradation) -> None:
    """What the test pictures become must be of the size and kind that the network takes."""
    for name in ("scale", "hides"):
        if getattr(trained, name) != getattr(tested, name):
            raise ConfigError(
                f"restoration.test_degradation: its {name} is {getattr(tested, name)}, that of "
                f"degradation {getattr(trained, name)}"
            )


def _require_halves(config: RestoreRun, degradation: Degradation) -> None:
    """A stored pair is two pictures in one: a run that took it for one would learn nonsense."""
    first = degradation.parts[0] if isinstance(degradation, Chain) else degradation
    paired = config.restoration.is_paired
    for key, part, half in (
        ("degradation", first, PairInput),
        ("restoration.target", target_of(config), PairTarget),
    ):
        if isinstance(part, half) != paired:
            needed = "needs" if paired else "alone knows"
            raise ConfigError(
                f"{key}: a source of pairs {needed} {half.__module__}.{half.__name__}"
            )
