"""What a user may ask of a denoiser that is told the dose."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from pipeline.core.errors import ConfigError

#: What `value` may be, by what is asked for.
_LIMITS = {"ratio": (1.0, 20.0), "noise": (0.5, 500.0), "level": (1, 5)}
_OPTIONS = {"ratio": "--dose-ratio", "noise": "--target-noise", "level": "--level"}


@dataclass(frozen=True)
class DoseRequest:
    """By what the strength of the correction is set; ConfigError for a value out of range.

    by: "ratio", as if scanned at `value` times the dose; "noise", `value` HU in flat tissue are
    to be left; "level", 1 to 5, as iterative reconstructions are set; "auto", by the noise in the
    image against what a full dose has with such a kernel and thickness.
    """

    by: Literal["auto", "ratio", "noise", "level"] = "auto"
    value: float = 0.0

    def __post_init__(self) -> None:
        if self.by == "auto":
            return
        low, high = _LIMITS[self.by]
        if not low <= self.value <= high:
            raise ConfigError(f"{_OPTIONS[self.by]}: from {low:g} to {high:g}, got {self.value:g}")
        if self.by == "level" and self.value != int(self.value):
            raise ConfigError(f"--level: a whole number from 1 to 5, got {self.value:g}")
