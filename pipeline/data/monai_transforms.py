"""The MONAI transforms that a run names, made from its plain data."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

import monai.transforms
from monai.transforms import MapTransform

from pipeline.config.component import require_arguments
from pipeline.config.sections import Component
from pipeline.config.transforms import SPATIAL, Transforms, transform_name
from pipeline.core.errors import ConfigError

#: By which names training patches of a segmenter have what a run calls input and target.
OF_LABELS = {"input": "input", "target": "labels"}


def named_transforms(settings: Transforms | None, part: str = "training") -> list[MapTransform]:
    """Those of a part of `transforms`, in order; they take and give {"input", "target"}, each
    [channels, rows, columns] in HU.

    Raises ConfigError, with the key, for arguments that MONAI does not take.
    """
    entries: Sequence[dict[str, Any]] = getattr(settings, part) if settings is not None else ()
    return [_built(entry, f"transforms.{part}.{n}") for n, entry in enumerate(entries)]


def named_label_transforms(settings: Transforms | None) -> list[MapTransform]:
    """Those of `transforms.training` of a segmenter, for {"input": HU, "labels": values}, each
    [1, (slices,) rows, columns]: labels are moved with their image, to the nearest voxel.

    Raises ConfigError as named_transforms does.
    """
    entries = settings.training if settings is not None else ()
    return [_of_labels(entry, f"transforms.training.{n}") for n, entry in enumerate(entries)]


def _of_labels(entry: dict[str, Any], key: str) -> MapTransform:
    name = transform_name(entry["_target_"])
    taken = inspect.signature(getattr(monai.transforms, name)).parameters
    changed = {"keys": [OF_LABELS[one] for one in entry["keys"]]}
    if name in SPATIAL and "mode" in taken:
        # By torch's "nearest" a zoomed label map would lie half a voxel beside its image.
        nearest = "nearest-exact" if name == "RandZoomd" else "nearest"
        changed["mode"] = [entry.get("mode", "bilinear"), nearest]
    return _built({**entry, **changed}, key)


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
