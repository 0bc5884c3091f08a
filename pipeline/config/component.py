"""From a `target:` in a configuration to an object: only from where configurations may reach."""

from __future__ import annotations

import difflib
import importlib
import inspect
from typing import Any

from pipeline.config.names import SHORT_NAMES, current_path
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
    require_arguments(kind, arguments, component, key)
    try:
        return kind(**arguments)
    except (TypeError, ValueError, ConfigError) as error:
        if str(error).startswith(f"{key}."):  # a part of it, which said so itself
            raise
        raise ConfigError(f"{key}.args: {component.target}: {error}") from error


def require_arguments(kind: Any, arguments: dict[str, Any], component: Component, key: str) -> None:
    """Raises ConfigError for arguments that a class does not take, with the likely one, and for
    one that it needs and does not get."""
    signature = inspect.signature(kind)
    kinds = [parameter.kind for parameter in signature.parameters.values()]
    if inspect.Parameter.VAR_KEYWORD not in kinds:
        for name in component.args.keys() - signature.parameters.keys():
            near = difflib.get_close_matches(name, signature.parameters, n=1)
            hint = (
                f"did you mean '{near[0]}'?"
                if near
                else f"it takes {', '.join(signature.parameters)}"
            )
            raise ConfigError(f"{key}.args.{name}: {component.target} has no such argument; {hint}")
    try:
        signature.bind(**arguments)
    except TypeError as error:
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
        f"{key}.target: {target} is not allowed{_likely(target)}; name a class from "
        f"{', '.join(ALLOWED_MODULES)}, or one of the short names of pipeline.config.names"
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


def _likely(target: str) -> str:
    """A short name that is nearly the one given."""
    near = difflib.get_close_matches(target, SHORT_NAMES, n=1)
    return f"; did you mean '{near[0]}'?" if near else ""
