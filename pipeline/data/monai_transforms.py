"""The MONAI transforms that a run names, made from its plain data."""

from __future__ import annotations

import inspect
from typing import Any

import monai.transforms
from monai.transforms import MapTransform

from pipeline.config.component import require_arguments
from pipeline.config.sections import Component
from pipeline.config.transforms import Transforms, transform_name
from pipeline.core.errors import ConfigError


def named_transforms(settings: Transforms | None) -> list[MapTransform]:
    """Those of `transforms.training`, in order; they take and give {"input", "target"}, each
    [channels, rows, columns] in HU.

    Raises ConfigError, with the key, for arguments that MONAI does not take.
    """
    entries = settings.training if settings is not None else ()
    return [_built(entry, f"transforms.training.{n}") for n, entry in enumerate(entries)]


def _built(entry: dict[str, Any], key: str) -> MapTransform:
    name = transform_name(entry["_target_"])
    kind = getattr(monai.transforms, name)
    arguments = {argument: value for argument, value in entry.items() if argument != "_target_"}
    arguments |= _kept_shape(kind)
    require_arguments(kind, arguments, Component(target=name, args=arguments), key)
    try:
        return kind(**arguments)
    except (TypeError, ValueError, AssertionError) as error:
        raise ConfigError(f"{key}: {name}: {error}") from error


def _kept_shape(kind: type) -> dict[str, Any]:
    """The argument by which zooming and turning keep a patch's shape, where there is one."""
    return {"keep_size": True} if "keep_size" in inspect.signature(kind).parameters else {}
