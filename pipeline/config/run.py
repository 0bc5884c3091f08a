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
from pydantic import BaseModel, Discriminator, Field, Tag, ValidationError, model_validator

from pipeline.config.generation import Generation
from pipeline.config.restoration import Restoration
from pipeline.config.sections import Component, Data, Gate, Normalize, Register, Strict, Train
from pipeline.config.segmentation import Planned, Segmentation, which
from pipeline.config.shipped import find_config
from pipeline.core.errors import ConfigError
from pipeline.core.units import Window
from pipeline.dicom.read.ingest_options import IngestOptions

TaskName = Literal["denoise", "segment", "generate", "restore"]
#: Sections that not the runs of every task have.
OF_TASK: dict[TaskName, tuple[str, ...]] = {
    "denoise": ("normalize_hu", "strength", "metrics", "convention", "phantoms"),
    "segment": ("segmentation",),
    "generate": ("generation", "normalize_hu"),
    "restore": ("restoration", "normalize_hu"),
}
#: What its gate may ask for; what others must reach, their `limits` say.
GATE_OF_TASK: dict[TaskName, tuple[str, ...]] = {
    "denoise": ("psnr_gain_db", "max_abs_hu_bias", "reader_study"),
    "segment": ("min_dice",),
    "generate": (),
    "restore": (),
}
#: Sections that a run of the task must have, and what they are for.
_NEEDED: dict[TaskName, dict[str, str]] = {
    "denoise": {"loss": "say what to minimise"},
    "segment": {
        "segmentation": "say which classes, and on what grid",
        "loss": "say what to minimise",
    },
    "generate": {"generation": "say which images, and of what size"},
    "restore": {
        "restoration": "say which pictures",
        "degradation": "say what spoils them",
        "loss": "say what to minimise",
    },
}


class RunConfig(Strict):
    """A complete run. With its seed, the data's digest and the versions it reproduces it."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")]
    task: TaskName
    data: Data = Data()
    #: What made the inputs of the targets; None where `data.pairs` has real ones. A segmenter
    #: learns with it too, and is tested on what it makes.
    degradation: Component | None = None
    segmentation: (
        Annotated[
            Annotated[Segmentation, Tag("given")] | Annotated[Planned, Tag("to plan")],
            Discriminator(which),
        ]
        | None
    ) = None
    generation: Generation | None = None
    restoration: Restoration | None = None
    model: Component
    normalize_hu: Normalize = Normalize()
    #: The share of the network's correction that the trained model applies; the rest of the noise
    #: stays, and with it the texture that readers know. Training and its loss know only the whole.
    strength: Annotated[float, Field(gt=0, le=1)] = 1.0
    step: Component
    #: None for steps whose loss is their network's or their objective's.
    loss: Component | None = None
    train: Train
    #: The first four are reported at every evaluation, the others where they are named.
    metrics: tuple[Literal["psnr", "ssim", "rmse", "hu_bias", "vif", "gmsd", "ms_ssim"], ...] = (
        "psnr",
        "ssim",
        "rmse",
        "hu_bias",
    )
    windows: dict[str, Window]
    #: How the held-back patients are measured (pipeline.metrics.conventions); some have own
    #: windows.
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
    def _of_its_task(self) -> RunConfig:
        foreign = sorted(self.model_fields_set & self._foreign())
        if foreign:
            raise ValueError(f"{foreign[0]}: not for the task {self.task}")
        gate = sorted(self.register_.gate.model_fields_set - {*GATE_OF_TASK[self.task]})
        if gate:
            raise ValueError(f"register.gate.{gate[0]}: not for the task {self.task}")
        for name, told in _NEEDED[self.task].items():
            if getattr(self, name) is None:
                raise ValueError(f"{name}: {told}")
        return self

    @model_validator(mode="after")
    def _one_way_to_inputs(self) -> RunConfig:
        data = self.data
        if self.task != "denoise":
            if data.pairs:
                raise ValueError(f"data.pairs: not for the task {self.task}")
            return self
        if (self.degradation is None) == (data.pairs is None):
            raise ValueError("name a degradation, or data.pairs: one of them makes the inputs")
        if data.pairs and (data.realisations > 1 or data.partner == "draw"):
            raise ValueError("data.pairs: a real series is one draw: no realisations, no partner")
        return self

    def resolved(self) -> dict[str, Any]:
        """Every setting of the task, defaults included, as plain data for YAML and JSON."""
        unasked = Gate.model_fields.keys() - {*GATE_OF_TASK[self.task]}
        return self.model_dump(
            mode="json",
            by_alias=True,
            exclude={**dict.fromkeys(self._foreign(), True), "register_": {"gate": unasked}},
        )

    def _foreign(self) -> set[str]:
        """Sections of the other tasks."""
        return {name for names in OF_TASK.values() for name in names} - {*OF_TASK[self.task]}


def load_config(path: Path, overrides: list[str] | None = None) -> RunConfig:
    """Read a YAML run and apply `a.b=c` overrides; ConfigError names the key and the file.

    path: of a file, or the name of a configuration that comes with the software.
    """
    path = find_config(path)
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


def parse_intake(choices: list[str] | None) -> IngestOptions:
    """`name=choice` pairs as an Intake; ConfigError names what can be chosen."""
    pairs = dict(choice.partition("=")[::2] for choice in choices or [])
    try:
        return IngestOptions.model_validate(pairs)
    except ValidationError as error:
        fault = error.errors()[0]
        raise ConfigError(
            f"--intake {fault['loc'][0]}: {fault['msg']}; there are "
            + ", ".join(
                f"{name}={'|'.join(get_args(info.annotation))}"
                for name, info in IngestOptions.model_fields.items()
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
