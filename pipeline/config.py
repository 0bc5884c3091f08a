"""One YAML is one complete, typed run. Unknown keys are errors, and nothing is evaluated."""

from __future__ import annotations

import difflib
import hashlib
import inspect
import json
import math
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from pipeline.dicom.intake import Intake
from pipeline.errors import ConfigError
from pipeline.units import Window

TissueName = Literal["lung", "fat", "soft_tissue", "bone"]
Fraction = Annotated[float, Field(ge=0, lt=1)]


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Component(Strict):
    """A class by its dotted path, and its arguments."""

    target: str
    args: dict[str, Any] = {}


class Split(Strict):
    """Who is held back: a fraction of the patients, or their keys (`p-...`, see `ldct ingest`).

    Or, by a published split's name (pipeline.published), its lists of cases, which leave nothing
    to choose; `complete` then asks for every case of theirs.
    """

    by: Literal["patient", "eulig2024"] = "patient"
    test: Annotated[float, Field(gt=0, lt=1)] | list[str] | None = None
    validation: Fraction | list[str] | None = None
    complete: bool = True

    @model_validator(mode="before")
    @classmethod
    def _chosen_or_published(cls, given: Any) -> Any:
        if not isinstance(given, dict):
            return given
        if given.get("by", "patient") == "patient":
            chosen = {name: value for name, value in given.items() if value is not None}
            return {"test": 0.2, "validation": 0.1, **chosen}
        for side in ("test", "validation"):
            if given.get(side) is not None:
                raise ValueError(f"by {given['by']}: its lists say who is on the {side} side")
        return given

    @model_validator(mode="after")
    def _sides_apart(self) -> Split:
        if isinstance(self.test, list):
            if not self.test:
                raise ValueError("test: name at least one patient, or give a fraction")
            if isinstance(self.validation, list) and set(self.test) & set(self.validation):
                raise ValueError("a patient cannot be in both test and validation")
        elif (
            isinstance(self.test, float)
            and isinstance(self.validation, float)
            and self.test + self.validation >= 1
        ):
            raise ValueError("test and validation together leave nobody to train on")
        return self


class Pairs(Strict):
    """Real low-dose series as the inputs of full-dose ones, matched by the places of their slices.

    Which dose a series has, these words say, in its SeriesDescription or else in the folders it
    lies in below the source, in any case. The defaults are the public Mayo set's.
    """

    input: Annotated[str, Field(min_length=1)] = "low dose"
    target: Annotated[str, Field(min_length=1)] = "full dose"


class Data(Strict):
    split: Split = Split()
    intake: Intake = Intake()
    #: In place of a degradation.
    pairs: Pairs | None = None
    patch: tuple[Annotated[int, Field(ge=16)], Annotated[int, Field(ge=16)]] = (64, 64)
    #: Where patches are cut: within the body's bounding box, or anywhere in the slice.
    region: Literal["body", "slice"] = "body"
    #: What is drawn with the same chance: any slice, or any patient and then a slice of theirs.
    sampling: Literal["slices", "patients"] = "slices"
    #: Patches are turned and flipped at random.
    augment: bool = True
    #: Independent noise draws kept for each slice.
    realisations: Annotated[int, Field(ge=1, le=16)] = 1
    #: The inserted noise is scaled at random within this range, per patch.
    noise_scale: tuple[float, float] = (1.0, 1.0)
    #: A second noisy image in each item, for steps without a clean target: another draw of the
    #: same slice, or the slice beside it.
    partner: Literal["none", "draw", "neighbour"] = "none"

    @model_validator(mode="after")
    def _draws_for_partners(self) -> Data:
        if self.partner == "draw" and self.realisations < 2:
            raise ValueError("partner: draw needs realisations of at least 2")
        return self

    @model_validator(mode="after")
    def _range_in_order(self) -> Data:
        if not 0 <= self.noise_scale[0] <= self.noise_scale[1]:
            raise ValueError(f"noise_scale: expected 0 <= low <= high, got {self.noise_scale}")
        return self


class Normalize(Strict):
    """network value = (HU - centre) / scale"""

    centre: float = 0.0
    scale: Annotated[float, Field(gt=0)] = 1000.0


class Train(Strict):
    iterations: Annotated[int, Field(ge=1)]
    batch: Annotated[int, Field(ge=1)] = 16
    lr: Annotated[float, Field(gt=0)] = 1e-3
    warmup: Annotated[int, Field(ge=0)] = 0
    #: `auto` is bf16 where the hardware computes it fast, else fp32.
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    device: Literal["auto", "cpu", "cuda"] = "auto"
    channels_last: bool = True
    compile: bool = False
    accumulate: Annotated[int, Field(ge=1)] = 1
    clip_gradient_norm: Annotated[float, Field(gt=0)] | None = None
    checkpoint_every: Annotated[int, Field(ge=1)] = 500
    #: Iterations between looks at the validation patients; the weights that did best there are
    #: the result. None: the last ones are (pipeline.selection).
    validate_every: Annotated[int, Field(ge=1)] | None = None
    log_every: Annotated[int, Field(ge=1)] = 20
    workers: Annotated[int, Field(ge=0)] = 0
    seed: int = 0
    #: A folder with the weights.safetensors of the same network, from which the training starts.
    start_from: str | None = None


Positive = Annotated[float, Field(gt=0)]


class Gate(Strict):
    """What a version must reach to get an alias; the bias for every tissue, or tissue by tissue."""

    psnr_gain_db: float = 1.0
    max_abs_hu_bias: Positive | dict[TissueName, Positive] = 2.0

    def max_abs_bias_hu(self, tissue: str) -> float | None:
        """The limit for a tissue; None where it is not judged."""
        limit = self.max_abs_hu_bias
        if not isinstance(limit, dict):
            return limit
        return next((bound for name, bound in limit.items() if name == tissue), None)


class Register(Strict):
    name: Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_-]*$")]
    gate: Gate = Gate()


class RunConfig(Strict):
    """A complete run. With its seed, the data's digest and the versions it reproduces it."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")]
    task: Literal["denoise"]
    data: Data = Data()
    #: What made the inputs of the targets; None where `data.pairs` has real ones.
    degradation: Component | None = None
    model: Component
    normalize_hu: Normalize = Normalize()
    #: The share of the network's correction that the trained model applies; the rest of the noise
    #: stays, and with it the texture that readers know. Training and its loss know only the whole.
    strength: Annotated[float, Field(gt=0, le=1)] = 1.0
    step: Component
    loss: Component
    train: Train
    #: The first four are reported at every evaluation, the others where they are named.
    metrics: list[Literal["psnr", "ssim", "rmse", "hu_bias", "vif", "gmsd", "ms_ssim"]] = [
        "psnr",
        "ssim",
        "rmse",
        "hu_bias",
    ]
    windows: dict[str, Window]
    #: How the held-back patients are measured (pipeline.conventions); some have own windows.
    convention: Literal["ldct", "ldct_body", "eulig2024", "redcnn", "range4096"] = "ldct"
    #: Noise texture and sharpness on phantoms in the report.
    phantoms: bool = True
    register_: Register = Field(alias="register")

    @model_validator(mode="after")
    def _windows_named(self) -> RunConfig:
        if not self.windows:
            raise ValueError("windows: name at least one display window, such as [40, 400]")
        for name, (centre, width) in self.windows.items():
            if not (math.isfinite(centre) and math.isfinite(width) and width > 0):
                raise ValueError(f"windows.{name}: expected a centre and a positive width in HU")
        return self

    @model_validator(mode="after")
    def _one_way_to_inputs(self) -> RunConfig:
        data = self.data
        if (self.degradation is None) == (data.pairs is None):
            raise ValueError("name a degradation, or data.pairs: one of them makes the inputs")
        if data.pairs and (data.realisations > 1 or data.partner == "draw"):
            raise ValueError("data.pairs: a real series is one draw: no realisations, no partner")
        return self

    def resolved(self) -> dict[str, Any]:
        """Every setting, defaults included, as plain data for YAML and JSON."""
        return self.model_dump(mode="json", by_alias=True)


def load_config(path: Path, overrides: list[str] | None = None) -> RunConfig:
    """Read a YAML run and apply `a.b=c` overrides; ConfigError names the key and the file."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read the configuration {path}: {error}") from error
    try:
        raw = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigError(f"{path} is not valid YAML: {' '.join(str(error).split())}") from error
    if not isinstance(raw, dict):
        raise ConfigError(f"{path} holds no configuration (expected keys such as name, model)")
    for override in overrides or []:
        _override(raw, override)
    return parse_config(raw, source=str(path))


def parse_config(raw: dict[str, Any], source: str = "configuration") -> RunConfig:
    """Validate plain data as a RunConfig; the first fault is named, with the nearest key."""
    try:
        return RunConfig.model_validate(raw)
    except ValidationError as error:
        raise ConfigError(f"{source}: {_first_fault(error)}") from error


def parse_intake(choices: list[str] | None) -> Intake:
    """`name=choice` pairs as an Intake; ConfigError names what can be chosen."""
    pairs = dict(choice.partition("=")[::2] for choice in choices or [])
    try:
        return Intake.model_validate(pairs)
    except ValidationError as error:
        fault = error.errors()[0]
        raise ConfigError(
            f"--intake {fault['loc'][0]}: {fault['msg']}; there are "
            + ", ".join(
                f"{name}={'|'.join(get_args(info.annotation))}"
                for name, info in Intake.model_fields.items()
            )
        ) from error


def _override(raw: dict[str, Any], override: str) -> None:
    path, separator, value = override.partition("=")
    if not separator or not path:
        raise ConfigError(f"--set {override}: write it as a.b=value")
    *parents, last = path.split(".")
    node = raw
    for parent in parents:
        node = node.setdefault(parent, {})
        if not isinstance(node, dict):
            raise ConfigError(f"--set {override}: {parent} is a value, not a section")
    try:
        node[last] = yaml.safe_load(value)
    except yaml.YAMLError as error:
        raise ConfigError(f"--set {override}: {value!r} is not valid YAML") from error


def _first_fault(error: ValidationError) -> str:
    # A misspelled key also leaves the right one missing: the misspelling is what to tell.
    faults = error.errors()
    fault = next((f for f in faults if f["type"] == "extra_forbidden"), faults[0])
    where = ".".join(str(part) for part in fault["loc"])
    if fault["type"] != "extra_forbidden":
        return f"{where}: {fault['msg']}" if where else fault["msg"]
    near = difflib.get_close_matches(str(fault["loc"][-1]), _known_keys(RunConfig), n=1)
    hint = f"; did you mean '{near[0]}'?" if near else ""
    return f"{where}: unknown key{hint}"


def _known_keys(model: type[BaseModel]) -> set[str]:
    keys: set[str] = set()
    for name, info in model.model_fields.items():
        keys.add(info.alias or name)
        if inspect.isclass(info.annotation) and issubclass(info.annotation, BaseModel):
            keys |= _known_keys(info.annotation)
    return keys


def digest(data: Any) -> str:
    """SHA-256 of plain data, independent of key order."""
    text = json.dumps(data, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()
