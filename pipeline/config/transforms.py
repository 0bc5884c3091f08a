"""MONAI's transforms that a run may name, and what a run may say to them.

The list is closed and every argument is plain data: a configuration is read and never executed, so
that nothing in it reaches files or code. MONAI itself is not imported here.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Sequence
from typing import Annotated, Any, Literal

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
#: They move pixels by a rule that MONAI inverts: what a network may see the image through.
INVERTIBLE = (
    "BorderPadd",
    "DivisiblePadd",
    "Flipd",
    "Rotate90d",
    "SpatialPadd",
    "Zoomd",
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
#: Of a whole slice, whose shape comes back.
FIXED_AT_INFERENCE = tuple(name for name in FIXED if name != "spatial_size")
#: Beyond the edge they put 0, which is water in HU.
WATER_PADDING = ("zeros", "constant", "grid-constant")


def transform_name(target: Any, allowed: Sequence[str] = SPATIAL + INTENSITY) -> str:
    """MONAI's name of the transform that `_target_` says, by itself or as monai.transforms.NAME.

    Raises ValueError for what is not allowed, with the likely one.
    """
    allowed = sorted(allowed)
    name = str(target).removeprefix("monai.transforms.")
    if name in allowed:
        return name
    near = difflib.get_close_matches(name, allowed, n=1)
    hint = f"did you mean '{near[0]}'?" if near else f"there are {', '.join(allowed)}"
    raise ValueError(f"_target_: {target!r} is not allowed; {hint}")


def _checked(given: Any) -> dict[str, Any]:
    """One entry with MONAI's plain name and its keys; ValueError names what is refused."""
    arguments = _arguments(given)
    name = transform_name(given["_target_"])
    keys = _keys(name, arguments.pop("keys", None))
    if name in SPATIAL and arguments.get("padding_mode") in WATER_PADDING:
        raise ValueError(
            f"padding_mode: {arguments['padding_mode']} puts 0 HU, water, beyond the edge; "
            "'border' or 'reflection' ('edge' or 'reflect' of RandZoomd) keep the patch's own HU"
        )
    return {"_target_": name, "keys": keys, **arguments}


def _checked_inference(given: Any) -> dict[str, Any]:
    """One entry of `inference`, of the image alone; ValueError names what is refused."""
    arguments = _arguments(given, fixed=FIXED_AT_INFERENCE)
    name = str(given["_target_"]).removeprefix("monai.transforms.")
    if name in SPATIAL + INTENSITY:
        why = "is random" if name.startswith("Rand") else "cannot be inverted after the network"
        raise ValueError(f"{name} {why}; there are {', '.join(INVERTIBLE)}")
    name = transform_name(given["_target_"], INVERTIBLE)
    if arguments.pop("keys", "input") not in ("input", ["input"]):
        raise ValueError("keys: the network sees the image alone; leave keys out")
    mode = arguments.get("mode", "constant")
    if name.endswith("Padd") and mode in WATER_PADDING:
        raise ValueError(
            f"mode: {mode}, by MONAI's default, puts 0 HU, water, beyond the edge; 'edge' or "
            "'reflect' keep the image's own HU"
        )
    return {"_target_": name, **arguments}


def _arguments(given: Any, fixed: Sequence[str] = FIXED) -> dict[str, Any]:
    """Of an entry all but `_target_`, plain data; raises ValueError for anything else."""
    if not isinstance(given, dict) or "_target_" not in given:
        raise ValueError("write it as {_target_: NAME, argument: value, ...}")
    arguments = {key: value for key, value in given.items() if key != "_target_"}
    for key, value in arguments.items():
        _require_plain(key, value, fixed)
    return arguments


def _require_plain(key: Any, value: Any, fixed: Sequence[str] = FIXED) -> None:
    """Raises ValueError for MONAI's special keys, for expressions, and for what the software
    sets."""
    if not isinstance(key, str) or key.startswith("_"):
        raise ValueError(f"{key}: of MONAI's special keys only _target_ is read")
    if key in fixed:
        raise ValueError(f"{key}: cannot be set; a patch keeps its shape and type")
    if isinstance(value, dict):
        raise ValueError(f"{key}: expected a number, a word, or a list of them, got a mapping")
    for part in value if isinstance(value, list | tuple) else [value]:
        if isinstance(part, list | tuple | dict):
            _require_plain(key, part, fixed)
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
InferenceTransform = Annotated[dict[str, Any], BeforeValidator(_checked_inference)]


class Transforms(Strict):
    """MONAI's transforms of a run, each as {_target_: NAME, argument: value, ...}."""

    #: Of each training pair, [1, rows, columns] in HU, after it was cut, turned and its noise
    #: scaled. All randomness follows from train.seed.
    training: tuple[MonaiTransform, ...] = ()
    #: Of each whole slice of the training, once, before patches are cut out of it; none is random.
    slices: list[MonaiTransform] = Field(default_factory=list)
    #: Whether the training's slices are kept, after `slices`: in memory (true; MONAI's
    #: CacheDataset), or in the store (disk), from where the next training has them too. A slice of
    #: 512 x 512 takes 1 MiB for its target and for each realisation.
    cache: bool | Literal["disk"] = False
    #: Of the pairs that a training is watched or chosen by; none is random or moves pixels.
    validation: list[MonaiTransform] = Field(default_factory=list)
    #: Through which the trained network sees each whole slice: MONAI's, deterministic and
    #: invertible. What it changes there is brought back by their inverse and added to the slice,
    #: so that a network that changes nothing leaves every HU alone.
    inference: list[InferenceTransform] = Field(default_factory=list)

    @model_validator(mode="after")
    def _none_random_where_it_must_not_be(self) -> Transforms:
        for part in ("slices", "validation"):
            for number, entry in enumerate(getattr(self, part)):
                name = entry["_target_"]
                if name.startswith("Rand"):
                    raise ValueError(f"{part}.{number}: {name} is random; it is for training alone")
        if self.slices and not self.cache:
            raise ValueError(
                "slices: need cache: true or disk, or each would be made for every patch"
            )
        return self
