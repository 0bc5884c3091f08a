"""From a YAML, or plain data, to a typed run of its task."""

from __future__ import annotations

import importlib
import importlib.util
import re
import warnings
from pathlib import Path
from typing import Any, get_args

import yaml
from pydantic import ValidationError

import pipeline.config.task_runs  # noqa: F401  (its types make themselves known)
from pipeline.config.faults import first_fault
from pipeline.config.names import with_current_keys
from pipeline.config.run import RunConfig
from pipeline.config.shipped import find_config
from pipeline.core.errors import ConfigError
from pipeline.dicom.read.ingest_options import IngestOptions

#: A task's name is also that of its module in pipeline.tasks.
_TASK_NAME = re.compile(r"[a-z][a-z0-9_]*")


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
