"""One YAML is one complete, typed run. Unknown keys are errors, and nothing is evaluated.

Every task has a type of its own below RunConfig (pipeline.config.task_runs has those of the tasks
that come with the software); `task:` chooses among them.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import json
import math
import re
import warnings
from pathlib import Path
from typing import Annotated, Any, ClassVar, get_args

import yaml
from pydantic import Field, ValidationError, model_validator

from pipeline.config.faults import first_fault
from pipeline.config.names import historical_form, with_current_keys
from pipeline.config.sections import Component, Data, Register, Strict, Train
from pipeline.config.shipped import find_config
from pipeline.core.errors import ConfigError
from pipeline.core.units import Window
from pipeline.dicom.read.ingest_options import IngestOptions

#: A task's name is also that of its module in pipeline.tasks.
_TASK_NAME = re.compile(r"[a-z][a-z0-9_]*")


class RunConfig(Strict):
    """What the runs of every task have. With its seed, the data's digest and the versions, a run
    reproduces.

    A subclass belongs to one task: it narrows `task` to a Literal, adds the task's sections, and
    says in `adapter` what puts its networks behind HU, as `module.function` of RunConfig.
    """

    #: Every subclass, by the task that it is for.
    types: ClassVar[dict[str, type[RunConfig]]] = {}
    adapter: ClassVar[str] = ""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")]
    task: str
    data: Data = Data()
    #: What made the inputs of the targets; a segmenter and a generator may do without.
    degradation: Component | None = None
    model: Component
    step: Component
    #: None for steps whose loss is their network's or their objective's.
    loss: Component | None = None
    train: Train
    windows: dict[str, Window]
    register_: Register = Field(alias="register")

    @classmethod
    def __pydantic_init_subclass__(cls, **options: Any) -> None:
        for task in get_args(cls.model_fields["task"].annotation):
            cls.types[task] = cls

    @model_validator(mode="after")
    def _windows_named(self) -> RunConfig:
        if not self.windows:
            raise ValueError("windows: name at least one display window, such as [40, 400]")
        for name, (centre, width) in self.windows.items():
            if not (math.isfinite(centre) and math.isfinite(width) and width > 0):
                raise ValueError(f"windows.{name}: expected a centre and a positive width in HU")
        return self

    @property
    def first_window(self) -> tuple[str, Window]:
        """The window that is named first: the one that gates and headlines are about."""
        return next(iter(self.windows.items()))

    @property
    def is_complete(self) -> bool:
        """Whether nothing is left to planning, so that the network can be built."""
        return True

    def resolved(self) -> dict[str, Any]:
        """Every setting, defaults included, as plain data for YAML and JSON."""
        return self.model_dump(mode="json", by_alias=True)


def load_config(path: Path, overrides: list[str] | None = None) -> RunConfig:
    """Read a YAML run and apply `a.b=c` overrides; ConfigError names the key and the file.

    path: of a file, or the name of a configuration that comes with the software. Keys by older
    names are read, with a FutureWarning.
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
    for old, new in with_current_keys(raw)[1].items():
        warnings.warn(f"{path}: {old} is now {new}; the old name is read", FutureWarning, 2)
    return parse_config(raw, source=str(path))


def parse_config(raw: dict[str, Any], source: str = "configuration") -> RunConfig:
    """Validate plain data as a run of its task; the first fault is named, with the nearest key.

    raw: as YAML holds it, also as versions before wrote it. Raises ConfigError.
    """
    run_type = _run_type(raw.get("task"), source)
    try:
        return run_type.model_validate(with_current_keys(raw)[0])
    except ValidationError as error:
        raise ConfigError(f"{source}: {first_fault(error, run_type)}") from error


def known_tasks() -> list[str]:
    """The tasks whose run types are known by now, sorted."""
    importlib.import_module("pipeline.config.task_runs")
    return sorted(RunConfig.types)


def _run_type(task: Any, source: str) -> type[RunConfig]:
    """The type of a task's runs; a task that is not among ours has it in its own module."""
    known = known_tasks()
    if isinstance(task, str) and task not in known and _TASK_NAME.fullmatch(task):
        module = f"pipeline.tasks.{task}"
        if importlib.util.find_spec(module) is not None:
            importlib.import_module(module)
    if not isinstance(task, str) or task not in RunConfig.types:
        raise ConfigError(f"{source}: task: expected one of {', '.join(known)}, got {task!r}")
    return RunConfig.types[task]


def parse_intake(choices: list[str] | None) -> IngestOptions:
    """`name=choice` pairs as IngestOptions; ConfigError names what can be chosen."""
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


def digest(data: Any) -> str:
    """SHA-256 of plain data, independent of key order and of where classes and keys have moved:
    the same run has the same digest in every version (pipeline.config.names)."""
    text = json.dumps(historical_form(data), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()
