"""MONAI's transforms that a run may name, and what a run may say to them.

The list is closed and every argument is plain data: a configuration is read and never executed, so
that nothing in it reaches files or code. MONAI itself is not imported here.
"""

from __future__ import annotations

import difflib
import math
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, model_validator

from pipeline.config.sections import Strict

PAIR = ("input", "target")
#: They move pixels: input and target always together, so that a pair stays a pair.
SPATIAL = (
    "Rand2DElasticd",
    "RandAffined",
    "RandFlipd",
    "RandGridDistortiond",
    "RandRotate90d",
    "RandRotated",
    "RandZoomd",
)
#: They change HU by what HU mean the same for everywhere. What scales by an image's own lowest and
#: highest value (RandAdjustContrastd, RandHistogramShiftd) is left out: it would map the HU of
#: input and target differently.
INTENSITY = (
    "GaussianSmoothd",
    "MedianSmoothd",
    "RandGaussianNoised",
    "RandGaussianSharpend",
    "RandGaussianSmoothd",
    "RandScaleIntensityd",
    "RandShiftIntensityd",
    "ShiftIntensityd",
)
#: Set by the software, not by a run: shape and type of a patch, and where metadata lie.
FIXED = (
    "allow_missing_keys",
    "device",
    "dtype",
    "factor_key",
    "keep_size",
    "lazy",
    "meta_key_postfix",
    "meta_keys",
    "spatial_size",
)
#: Beyond the edge they put 0, which is water in HU.
WATER_PADDING = ("zeros", "constant", "grid-constant")


def transform_name(target: Any) -> str:
    """MONAI's name of the transform that `_target_` says, by itself or as monai.transforms.NAME.

    Raises ValueError for what is not in SPATIAL or INTENSITY, with the likely one.
    """
    allowed = sorted(SPATIAL + INTENSITY)
    name = str(target).removeprefix("monai.transforms.")
    if name in allowed:
        return name
    near = difflib.get_close_matches(name, allowed, n=1)
    hint = f"did you mean '{near[0]}'?" if near else f"there are {', '.join(allowed)}"
    raise ValueError(f"_target_: {target!r} is not allowed; {hint}")


def _checked(given: Any) -> dict[str, Any]:
    """One entry with MONAI's plain name and its keys; ValueError names what is refused."""
    if not isinstance(given, dict) or "_target_" not in given:
        raise ValueError("write it as {_target_: NAME, argument: value, ...}")
    name = transform_name(given["_target_"])
    arguments = {key: value for key, value in given.items() if key != "_target_"}
    for key, value in arguments.items():
        _require_plain(key, value)
    keys = _keys(name, arguments.pop("keys", None))
    if name in SPATIAL and arguments.get("padding_mode") in WATER_PADDING:
        raise ValueError(
            f"padding_mode: {arguments['padding_mode']} puts 0 HU, water, beyond the edge; "
            "'border' or 'reflection' ('edge' or 'reflect' of RandZoomd) keep the patch's own HU"
        )
    return {"_target_": name, "keys": keys, **arguments}


def _require_plain(key: Any, value: Any) -> None:
    """Raises ValueError for MONAI's special keys, for expressions, and for what the software
    sets."""
    if not isinstance(key, str) or key.startswith("_"):
        raise ValueError(f"{key}: of MONAI's special keys only _target_ is read")
    if key in FIXED:
        raise ValueError(f"{key}: cannot be set; a patch keeps its shape and type")
    if isinstance(value, dict):
        raise ValueError(f"{key}: expected a number, a word, or a list of them, got a mapping")
    for part in value if isinstance(value, list | tuple) else [value]:
        if isinstance(part, list | tuple | dict):
            _require_plain(key, part)
        elif isinstance(part, str) and part[:1] in ("$", "@", "%"):
            raise ValueError(f"{key}: {part!r} is an expression or a reference; none is evaluated")
        elif isinstance(part, float) and not math.isfinite(part):
            raise ValueError(f"{key}: expected a finite number, got {part}")


def _keys(name: str, given: Any) -> list[str]:
    """Which images of a pair the transform gets: both of a spatial one, else what is named."""
    if given is None and name in SPATIAL:
        return list(PAIR)
    named = [given] if isinstance(given, str) else given
    if not isinstance(named, list | tuple) or not named or not set(named) <= set(PAIR):
        raise ValueError(f"keys: name input, target or both, got {given!r}")
    if name in SPATIAL and set(named) != set(PAIR):
        raise ValueError(f"keys: {name} moves pixels, so it needs both input and target")
    return list(dict.fromkeys(named))


MonaiTransform = Annotated[dict[str, Any], BeforeValidator(_checked)]


class Transforms(Strict):
    """MONAI's transforms of a run, each as {_target_: NAME, argument: value, ...}."""

    #: Of each training pair, [1, rows, columns] in HU, after it was cut, turned and its noise
    #: scaled. All randomness follows from train.seed.
    training: tuple[MonaiTransform, ...] = ()
    #: Of each whole slice of the training, once, before patches are cut out of it; none is random.
    slices: list[MonaiTransform] = Field(default_factory=list)
    #: Whether the training's slices are kept in memory, after `slices` (MONAI's CacheDataset): a
    #: slice of 512 x 512 takes 1 MiB for its target and for each realisation.
    cache: bool = False
    #: Of the pairs that a training is watched or chosen by; none is random or moves pixels.
    validation: list[MonaiTransform] = Field(default_factory=list)

    @model_validator(mode="after")
    def _none_random_where_it_must_not_be(self) -> Transforms:
        for part in ("slices", "validation"):
            for number, entry in enumerate(getattr(self, part)):
                name = entry["_target_"]
                if name.startswith("Rand"):
                    raise ValueError(f"{part}.{number}: {name} is random; it is for training alone")
        if self.slices and not self.cache:
            raise ValueError("slices: need cache: true, or each would be made for every patch")
        return self
