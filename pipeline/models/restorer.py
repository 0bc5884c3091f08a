"""The shell of networks that restore: holes, missing pixels and missing colour in, whole out."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn.functional import interpolate, pad

from pipeline.components import build
from pipeline.config import RunConfig
from pipeline.corruptions import Corruption
from pipeline.errors import ConfigError
from pipeline.models.shell import HUModel
from pipeline.restoration import CHANNELS, Colour, Restoration


class Restorer(HUModel):
    """Takes and gives pictures in grey levels, L*a*b* or HU, [batch, channels, rows, columns].

    The output may have more channels and `scale` times the pixels of the input. NaN in the
    input is a pixel that nobody knows: the network sees the centre of its values there, and in
    one channel more what is known (1) and what is not (0). Of what the degradation leaves as
    it was nothing changes: known pixels beside holes, and the lightness beside lost colour.

    With `residual` the network's output is added to the input as it is, its pixels bicubic, its
    missing colours none.
    """

    def __init__(
        self, network: nn.Module, *, config: RunConfig, degradation: Corruption, residual: bool
    ) -> None:
        super().__init__(network, normalize=config.normalize_hu, residual=residual)
        self.colour = restoration_of(config).colour
        self.channels = CHANNELS[self.colour]
        self.given = degradation.channels(self.channels)
        self.enlarges, self.hides = degradation.scale, degradation.hides
        self.keeps_lightness = self.colour == "lab" and self.given == 1
        self.input_shape = (-1, self.given, -1, -1)
        self.output_shape = (-1, self.channels, -1, -1)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        known = torch.isfinite(image)
        filled = torch.where(known, image, self.centre)
        seen = self.normalised(filled)
        if self.hides:
            seen = torch.cat([seen, known[:, :1].to(seen.dtype)], dim=1)
        predicted = self.network(seen).float()
        output = self.in_hu(predicted)
        if self.adds_input:
            start = lifted(filled, channels=self.channels, scale=self.enlarges, colour=self.colour)
            output = start + predicted * self.scale
        if self.keeps_lightness:
            output = torch.cat([filled, output[:, 1:]], dim=1)
        return torch.where(known, image, output) if self.hides else output


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


def restoration_of(config: RunConfig) -> Restoration:
    """The section that a restoring run has."""
    if config.restoration is None:
        raise TypeError(f"{config.name} has no restoration section")
    return config.restoration


def degradation_of(config: RunConfig) -> Corruption:
    """What spoils the run's pictures."""
    if config.degradation is None:
        raise TypeError(f"{config.name} has no degradation")
    return build(config.degradation, key="degradation", base=Corruption)


def restorer(config: RunConfig) -> Restorer:
    """The run's network in its shell; ConfigError where it enlarges by another scale."""
    network = build(config.model, key="model", base=nn.Module)
    degradation = degradation_of(config)
    enlarges = int(getattr(network, "scale", 1))
    if enlarges != degradation.scale:
        raise ConfigError(
            f"model.args.scale: {enlarges}, but the degradation divides by {degradation.scale}"
        )
    residual = bool(config.step.args.get("residual", False))
    return Restorer(network, config=config, degradation=degradation, residual=residual)
