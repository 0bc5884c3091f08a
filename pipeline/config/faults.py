"""What is wrong with a configuration, in one line that names the key."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Iterator
from typing import Any, get_args

from pydantic import BaseModel, ValidationError


def first_fault(error: ValidationError, run_type: Any) -> str:
    """The first fault of a run's YAML; for an unknown key, the likely one or whose it is.

    A misspelled key also leaves the right one missing, so misspellings come first.
    run_type: the RunConfig subclass that was asked for.
    """
    faults = error.errors()
    fault = next((f for f in faults if f["type"] == "extra_forbidden"), faults[0])
    path = [str(part) for part in fault["loc"]]
    where = ".".join(path)
    absent = fault["type"] == "missing" or fault["input"] is None
    if absent and (purpose := _purpose(run_type, path)):
        return f"{where}: {purpose}"
    if fault["type"] != "extra_forbidden":
        return f"{where}: {fault['msg']}" if where else fault["msg"]
    task = get_args(run_type.model_fields["task"].annotation)[0]
    others = [other for other in run_type.types.values() if other is not run_type]
    if any(where in key_paths(other) for other in others):
        return f"{where}: not for the task {task}"
    near = difflib.get_close_matches(path[-1], known_keys(run_type), n=1)
    hint = f"; did you mean '{near[0]}'?" if near else ""
    return f"{where}: unknown key{hint}"


def known_keys(model: type[BaseModel]) -> set[str]:
    """Every key of a model and of its sections."""
    return {path.rpartition(".")[2] for path in key_paths(model)}


def key_paths(model: type[BaseModel], prefix: str = "") -> Iterator[str]:
    """Every key with the sections that it lies in, as `register.gate.min_dice`."""
    for name, info in model.model_fields.items():
        key = f"{prefix}{info.alias or name}"
        yield key
        for section in (info.annotation, *get_args(info.annotation)):
            if inspect.isclass(section) and issubclass(section, BaseModel):
                yield from key_paths(section, f"{key}.")


def _purpose(model: type[BaseModel], path: list[str]) -> str | None:
    """What a missing section of a run is for: its field's description."""
    for name, info in model.model_fields.items():
        if len(path) == 1 and path[0] == (info.alias or name):
            return info.description
    return None
