"""From a `target:` in a configuration to an object: only from where configurations may reach."""

from __future__ import annotations

import importlib
import inspect
from typing import Any

from pipeline.config.names import current_path
from pipeline.config.sections import Component
from pipeline.core.errors import ConfigError

#: Where a `target:` may come from. A module outside this list is never imported, so a
#: configuration cannot reach arbitrary code.
ALLOWED_MODULES = (
    "pipeline.degradations",
    "pipeline.losses",
    "pipeline.models",
    "pipeline.physics",
    "pipeline.training.steps",
    "monai.networks.nets",
    "monai.losses",
    "torch.nn",
)


def build(component: Component, *, key: str, base: type, **given: Any) -> Any:
    """Make the object a component names; `given` are arguments that code supplies.

    Raises ConfigError where the class lies outside ALLOWED_MODULES, is not a `base`, or does
    not take the arguments.
    """
    kind = named(component, key=key, base=base)
    arguments = {**component.args, **given}
    try:
        inspect.signature(kind).bind(**arguments)
    except TypeError as error:
        raise ConfigError(f"{key}.args: {component.target}: {error}") from error
    try:
        return kind(**arguments)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"{key}.args: {component.target}: {error}") from error


def named(component: Component, *, key: str, base: type) -> Any:
    """The class that a component names; ConfigError as for `build`."""
    kind = _resolve(component.target, key)
    if not (inspect.isclass(kind) and issubclass(kind, base)):
        raise ConfigError(f"{key}.target: {component.target} is not a {base.__name__}")
    return kind


def _resolve(target: str, key: str) -> Any:
    module_name, _, attribute = current_path(target).rpartition(".")
    refusal = ConfigError(
        f"{key}.target: {target} is not allowed; name a class from {', '.join(ALLOWED_MODULES)}"
    )
    if not _allowed(module_name):
        raise refusal
    try:
        resolved = getattr(importlib.import_module(module_name), attribute)
    except (ImportError, AttributeError) as error:
        raise ConfigError(f"{key}.target: there is no {target}") from error
    # A module may re-export what it imported itself: where the class lives decides.
    if not _allowed(getattr(resolved, "__module__", "")):
        raise refusal
    return resolved


def _allowed(module_name: str) -> bool:
    return any(module_name == m or module_name.startswith(m + ".") for m in ALLOWED_MODULES)
