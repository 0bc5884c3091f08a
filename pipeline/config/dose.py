"""What a user may ask of a dose-conditioned denoiser."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from pydantic import model_validator

from pipeline.config.sections import Strict
from pipeline.core.errors import ConfigError

#: More than the pairs of the training cover (config.sections.Nested.max_dose_ratio).
MAX_RATIO = 20.0
#: What `value` may be, by what is asked for.
_LIMITS = {"ratio": (1.0, MAX_RATIO), "noise": (0.5, 500.0), "level": (1, 5)}
_NAMES = {"ratio": "dose ratio", "noise": "noise to be left, HU", "level": "level"}


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
            raise ConfigError(f"{_NAMES[self.by]}: from {low:g} to {high:g}, got {self.value:g}")
        if self.by == "level" and self.value != int(self.value):
            raise ConfigError(f"level: a whole number from 1 to 5, got {self.value:g}")

    @classmethod
    def of(
        cls, *, ratio: float | None, noise_hu: float | None, level: int | None
    ) -> DoseRequest | None:
        """From a command's options, of which at most one may be given; None for none of them."""
        given = {"ratio": ratio, "noise": noise_hu, "level": level}
        asked = [(by, value) for by, value in given.items() if value is not None]
        if len(asked) > 1:
            raise ConfigError(
                "give one at most of --dose-ratio, --target-noise and --level (dose_ratio, "
                "target_noise_hu and level in a YAML)"
            )
        return cls(*asked[0]) if asked else None  # type: ignore[arg-type]

    @property
    def slug(self) -> str:
        """For a folder's name."""
        return "" if self.by == "auto" else f"-{self.by}{self.value:g}"


class DoseKeys(Strict):
    """The keys of a YAML that say it: at most one of them; none for the noise in each series."""

    #: As if scanned at so many times the dose.
    dose_ratio: float | None = None
    #: The noise in flat soft tissue that is to be left.
    target_noise_hu: float | None = None
    #: 1 to 5, as vendors' iterative reconstructions are set.
    level: int | None = None

    @property
    def dose(self) -> DoseRequest | None:
        """What the keys ask for."""
        return DoseRequest.of(
            ratio=self.dose_ratio, noise_hu=self.target_noise_hu, level=self.level
        )

    @model_validator(mode="after")
    def _in_range(self) -> DoseKeys:
        try:
            _ = self.dose
        except ConfigError as error:
            raise ValueError(str(error)) from error
        return self


@dataclass(frozen=True)
class DoseChoice:
    """The ratio that is applied, why, and the noise in flat tissue before; None: not measured."""

    dose_ratio: float
    why: str
    noise_hu: float | None = None

    @property
    def leaves_alone(self) -> bool:
        """Whether the series comes out as it went in."""
        return self.dose_ratio == 1

    def to_dict(self) -> dict[str, object]:
        """As a report has it."""
        return {"dose_ratio": self.dose_ratio, "why": self.why, "noise_hu": self.noise_hu}
