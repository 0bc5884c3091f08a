"""What `ldct models import` reads beside weights from elsewhere: which network, behind which HU.

Plain data: the network is one of a closed list, by name, and its arguments are numbers and words.
Nothing in the file is evaluated or imported, so that it cannot reach code.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import Field, ValidationError, field_validator, model_validator

from pipeline.config.load import parse_config
from pipeline.config.run import RunConfig
from pipeline.config.sections import Normalize, Positive, Share, Strict, Word
from pipeline.config.segmentation import WORKING_AXES, WORKING_AXIS, Axis, RangeHU
from pipeline.core.errors import ConfigError
from pipeline.core.types import Json

#: Networks that are built of numbers and words alone, and fetch nothing: of MONAI, and nnU-Net's
#: U-Nets, which `ldct models import` reads of a results folder (nnunet_import).
NetworkName = Literal[
    "AttentionUnet",
    "BasicUNet",
    "BasicUNetPlusPlus",
    "DynUNet",
    "NnUNet",
    "SegResNet",
    "SwinUNETR",
    "UNet",
    "UNETR",
    "VNet",
]
PLACE = "monai.networks.nets"
PLACES = {"NnUNet": "pipeline.models.nnunet"}
#: The inputs of a denoiser's test patients, where the file says nothing else.
QUARTER_DOSE: Json = {"target": "low_dose_ct", "args": {"dose_fraction": 0.25}}


class Network(Strict):
    """A network of MONAI, or of nnU-Net, and its arguments."""

    name: NetworkName
    args: dict[str, Any] = Field(default_factory=dict)

    @property
    def target(self) -> str:
        """Its class, as a run names it."""
        return f"{PLACES.get(self.name, PLACE)}.{self.name}"

    @field_validator("args")
    @classmethod
    def _plain(cls, given: dict[str, Any]) -> dict[str, Any]:
        require_plain(given, "args")
        return given


def require_plain(value: Any, where: str) -> None:
    """Raises ValueError for what is no number, word, list or mapping of those, and by name for an
    expression, a reference and a special key of MONAI's configurations."""
    if isinstance(value, dict):
        for key, part in value.items():
            if not isinstance(key, str) or key.startswith("_"):
                raise ValueError(f"{where}.{key}: a special key; none is read")
            require_plain(part, f"{where}.{key}")
    elif isinstance(value, list | tuple):
        for part in value:
            require_plain(part, where)
    elif isinstance(value, str):
        if value[:1] in ("$", "@", "%"):
            raise ValueError(f"{where}: {value!r} is an expression or a reference; none is run")
    elif isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{where}: expected a finite number, got {value}")
    elif value is not None and not isinstance(value, bool | int | float):
        raise ValueError(f"{where}: expected numbers and words, got {type(value).__name__}")


class ModelImport(Strict):
    """A model from elsewhere: its weights, its network, its HU, its licence and its source.

    patch, spacing_mm, test_time_flips: along the network's own axes, which `axes` names.
    """

    #: By which name it is registered.
    name: Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_-]*$")]
    task: Literal["denoise", "segment"]
    #: What the settings were read from.
    kind: Literal["state_dict", "monai_bundle", "nnunet"] = "state_dict"
    #: The file of weights, relative to this one: safetensors, or what weights_only reads.
    weights: Word
    #: Where in the file the weights are, and what their names begin with.
    weights_key: Word | None = None
    prefix: str = ""
    network: Network
    #: Who made it, and where it is published; its licence, an SPDX identifier where there is one.
    source: Word
    licence: Word
    #: The network sees (HU - centre) / scale; of a segmenter, of HU clipped to clip_hu.
    normalize_hu: Normalize
    clip_hu: RangeHU | None = None
    #: Of a denoiser: the network's output is what is added to its input.
    residual: bool = False
    #: Of a denoiser: what makes the inputs of the test patients.
    degradation: Json = Field(default_factory=lambda: dict(QUARTER_DOSE))
    #: Of a segmenter: the names of the output's channels, in order, without the background.
    classes: tuple[Word, ...] = ()
    #: Which label maps of the test patients it is measured on (segmentation.labels of a run).
    labels: Literal["mask", "seg", "rtstruct", "lidc", "body", "lungs"] = "mask"
    spacing_mm: tuple[Positive, Positive, Positive] | None = None
    patch: Annotated[tuple[Annotated[int, Field(ge=1)], ...], Field(max_length=3)] = ()
    axes: Annotated[str, Field(pattern=r"^[LRPASI]{2,3}$")] | None = None
    overlap: Annotated[float, Field(ge=0, lt=1)] = 0.5
    test_time_flips: tuple[Axis, ...] = ()
    #: What it must reach on the patients of --store to get an alias: of a denoiser as
    #: register.gate of a run, of a segmenter the Dice.
    gate: Json = Field(default_factory=dict)
    min_dice: Share | dict[str, Share] = 0.7

    @model_validator(mode="after")
    def _belongs_to_the_task(self) -> ModelImport:
        needed = ("classes", "spacing_mm", "patch", "clip_hu")
        segments = self.task == "segment"
        for name in needed:
            if bool(getattr(self, name)) != segments:
                raise ValueError(f"{name}: {'missing' if segments else 'not for a denoiser'}")
        twice = [name for name in self.classes if self.classes.count(name) > 1]
        if twice:
            raise ValueError(f"classes: {twice[0]} is listed more than once")
        if segments and (self.residual or self.gate):
            raise ValueError("residual, gate: not for a segmenter; its gate is min_dice")
        named = {WORKING_AXIS[letter] for letter in self._axes}
        if segments and len(named) < len(self._axes):
            raise ValueError(
                f"axes: {self.axes} does not name each of {len(self._axes)} directions once"
            )
        if segments and len(self.patch) != len(self._axes):
            raise ValueError(f"patch: expected as many sizes as axes, {self._axes}")
        return self

    @property
    def _axes(self) -> str:
        return self.axes or WORKING_AXES[-len(self.patch) :]

    def run(self, *, weights_sha256: str) -> RunConfig:
        """The run that a version is registered with. Raises ConfigError where the settings do not
        make one."""
        args = self._denoiser_args() if self.task == "denoise" else self._segmenter_args()
        sections = self._denoiser() if self.task == "denoise" else self._segmenter()
        imported = {
            "kind": self.kind,
            "source": self.source,
            "licence": self.licence,
            "weights_sha256": weights_sha256,
        }
        run = {
            "name": self.name,
            "task": self.task,
            "model": {"target": self.network.target, "args": args},
            "train": {"iterations": 1},
            "windows": {"soft_tissue": [40.0, 400.0]},
            "imported": imported,
            **sections,
        }
        return parse_config(run, source=self.name)

    @property
    def _multiple(self) -> int:
        """Of an nnU-Net the product of the strides, for images outside of its windows."""
        strides = self.network.args.get("strides", []) if self.kind == "nnunet" else []
        return math.lcm(*(math.prod(of_axis) for of_axis in zip(*strides, strict=True)))

    def _denoiser_args(self) -> Json:
        return self._with({"spatial_dims": 2, "in_channels": 1, "out_channels": 1})

    def _segmenter_args(self) -> Json:
        """Without what follows from the segmentation (build_segmenter)."""
        follows = {
            "spatial_dims": len(self.patch),
            "in_channels": 1,
            "out_channels": len(self.classes) + 1,
        }
        return {k: v for k, v in self._with(follows).items() if k not in follows}

    def _with(self, follows: Json) -> Json:
        """The network's arguments with those that follow; ConfigError where they contradict."""
        for name, value in follows.items():
            if (given := self.network.args.get(name, value)) != value:
                raise ConfigError(
                    f"network.args.{name}: {given}, but {value} follows from the other settings"
                )
        return {**follows, **self.network.args}

    def _denoiser(self) -> Json:
        return {
            "degradation": self.degradation,
            "step": {"target": "supervised", "args": {"residual": self.residual}},
            "loss": {"target": "mse"},
            "normalize_hu": self.normalize_hu.model_dump(),
            "register": {"name": self.name, "gate": self.gate},
        }

    def _segmenter(self) -> Json:
        assert self.spacing_mm is not None
        own = [WORKING_AXIS[letter] for letter in self._axes]
        order = [own.index(letter) for letter in WORKING_AXES if letter in own]
        spacing = self.spacing_mm
        if len(own) == 3:
            spacing = tuple(spacing[n] for n in order)  # type: ignore[assignment]
        working = [WORKING_AXES.index(letter) for letter in own]
        return {
            "segmentation": {
                "labels": self.labels,
                "classes": {name: [name] for name in self.classes},
                "spacing_mm": list(spacing),
                "patch": [self.patch[n] for n in order],
                "ranges_hu": [list(self.clip_hu or ())],
                "normalize_hu": self.normalize_hu.model_dump(),
                "axes": self.axes,
                "as_nnunet": self.kind == "nnunet",
                "unlisted": "unknown",
                "multiple": self._multiple,
                "overlap": self.overlap,
                "test_time_flips": [working[n] for n in self.test_time_flips],
            },
            "step": {"target": "supervised"},
            "loss": {"target": "dice_cross_entropy"},
            "register": {"name": self.name, "gate": {"min_dice": self.min_dice}},
        }


def load_import(path: Path) -> ModelImport:
    """Read the YAML of a model from elsewhere; ConfigError names the key and the file."""
    try:
        raw = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"cannot read {path}: {' '.join(str(error).split())}") from error
    return parse_import(raw, source=str(path))


def parse_import(raw: Any, *, source: str) -> ModelImport:
    """Validate plain data; ConfigError names the first fault and the source."""
    try:
        return ModelImport.model_validate(raw)
    except ValidationError as error:
        fault = error.errors()[0]
        where = ".".join(map(str, fault["loc"]))
        raise ConfigError(f"{source}: {where}{': ' if where else ''}{fault['msg']}") from error
