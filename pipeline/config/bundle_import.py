"""What a MONAI bundle says of its model, read as data: nothing of it is run or imported.

Of configs/inference.* the network, the preprocessing and the inferer are read; of
configs/metadata.json the classes and who made it. An expression (`$`) in what is needed, and a
transform that is not known here, are refused by name: guessed, they would shift HU or places.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from pipeline.config.model_import import PLACE, ModelImport, parse_import
from pipeline.core.errors import ConfigError
from pipeline.core.types import Json

CONFIGS = ("configs/inference.json", "configs/inference.yaml", "configs/inference.yml")
METADATA = "configs/metadata.json"
WEIGHTS = ("models/model.safetensors", "models/model.pt")
LICENCES = ("LICENSE", "LICENSE.txt", "docs/LICENSE")
#: All that is read of a bundle.
MEMBERS = (*CONFIGS, METADATA, *WEIGHTS, *LICENCES)
#: Beside those that set HU and places: they read a file, or choose types.
HARMLESS = ("LoadImaged", "EnsureChannelFirstd", "EnsureTyped", "CastToTyped", "ToTensord")
WINDOWS = "SlidingWindowInferer"
AXES, SPACING, RANGE = "Orientationd", "Spacingd", "ScaleIntensityRanged"
#: How often one reference may lead to another.
MAX_REFERENCES = 8


def read_bundle(folder: Path, name: str) -> ModelImport:
    """The settings of a bundle's model, by which it is registered as `name`.

    Raises ConfigError where something needed is missing, is an expression, or is not known here.
    """
    config = _Config(_first(folder, CONFIGS, "an inference configuration"))
    metadata = _as_data(folder / METADATA)
    config.require_one_class_a_voxel()
    transforms = config.transforms()
    window = config.section("inferer")
    if target_name(window) != WINDOWS:
        raise config.refusal(f"inferer: expected {WINDOWS}, got {window.get('_target_')!r}")
    raw = {
        "name": name,
        "kind": "monai_bundle",
        "task": "segment",
        "weights": str(_first(folder, WEIGHTS, "weights").relative_to(folder)),
        "network": _network(config),
        "source": _source(metadata),
        "licence": _licence(folder, metadata),
        "classes": _classes(metadata),
        "patch": config.plain(window.get("roi_size"), "inferer.roi_size"),
        "overlap": config.plain(window.get("overlap", 0.25), "inferer.overlap"),
        "axes": config.plain(transforms[AXES].get("axcodes"), f"{AXES}.axcodes"),
        "spacing_mm": config.plain(transforms[SPACING].get("pixdim"), f"{SPACING}.pixdim"),
        **_units(config, transforms[RANGE]),
    }
    return parse_import(raw, source=str(folder))


class _Config:
    """An inference configuration, of which references are followed and expressions refused."""

    def __init__(self, path: Path) -> None:
        self.path, self.data = path, _as_data(path)

    def plain(self, value: Any, where: str, depth: int = 0) -> Any:
        """A value with its references followed; ConfigError for an expression, by name."""
        if isinstance(value, dict):
            return {key: self.plain(part, f"{where}.{key}", depth) for key, part in value.items()}
        if isinstance(value, list):
            return [self.plain(part, where, depth) for part in value]
        if not isinstance(value, str) or value[:1] not in ("$", "@", "%"):
            return value
        if value[:1] != "@" or depth == MAX_REFERENCES:
            raise self.refusal(f"{where}: {value!r} is an expression; none is run")
        if value[1:] not in self.data:
            raise self.refusal(f"{where}: there is no {value[1:]!r} for the reference {value!r}")
        return self.plain(self.data[value[1:]], where, depth + 1)

    def section(self, key: str) -> Json:
        """A mapping by its key, or what a reference there leads to; not its values."""
        found = self.data.get(key)
        for _ in range(MAX_REFERENCES):
            if not (isinstance(found, str) and found.startswith("@")):
                break
            found = self.data.get(found[1:])
        if not isinstance(found, dict):
            raise self.refusal(f"{key}: expected a mapping with _target_, got {found!r}")
        return found

    def transforms(self) -> dict[str, Json]:
        """The preprocessing's transforms by name; ConfigError for one that is not known here."""
        listed = self.section("preprocessing").get("transforms")
        if isinstance(listed, str) and listed.startswith("@"):
            listed = self.data.get(listed[1:])
        if not isinstance(listed, list):
            raise self.refusal(f"preprocessing.transforms: expected a list, got {listed!r}")
        found: dict[str, Json] = {}
        for one in listed:
            name = target_name(one)
            once = name in (AXES, SPACING, RANGE) and name not in found
            if not once and name not in HARMLESS:
                raise self.refusal(
                    f"preprocessing: {name} is not known here: write the model's settings into a "
                    "YAML of `ldct models import`"
                )
            found[name] = one
        for name in (AXES, SPACING, RANGE):
            if name not in found:
                raise self.refusal(f"preprocessing: {name} is missing")
        return found

    def require_one_class_a_voxel(self) -> None:
        """Raises ConfigError where the postprocessing has classes overlap (a sigmoid)."""
        listed = self.data.get("postprocessing")
        listed = listed.get("transforms") if isinstance(listed, dict) else None
        for one in listed if isinstance(listed, list) else []:
            if target_name(one) == "Activationsd" and one.get("sigmoid"):
                raise self.refusal("postprocessing: a sigmoid, so that classes overlap")

    def refusal(self, line: str) -> ConfigError:
        """The error for what is wrong in this file."""
        return ConfigError(f"{self.path.name}: {line}")


def target_name(section: Any) -> str:
    """The last part of a section's `_target_`; "" where there is none."""
    target = section.get("_target_") if isinstance(section, Mapping) else None
    return target.rpartition(".")[2] if isinstance(target, str) else ""


def _network(config: _Config) -> Json:
    section = config.section("network_def")
    target = str(section.get("_target_"))
    name = target.removeprefix(f"{PLACE}.")
    args = {key: value for key, value in section.items() if not key.startswith("_")}
    if any(key.startswith("_") and key != "_target_" for key in section):
        raise config.refusal("network_def: of MONAI's special keys only _target_ is read")
    return {"name": name, "args": config.plain(args, "network_def")}


def _units(config: _Config, transform: Json) -> Json:
    """From a_min..a_max to b_min..b_max, clipped, as (HU - centre) / scale."""
    names = ("a_min", "a_max", "b_min", "b_max", "clip")
    a_min, a_max, b_min, b_max, clip = (
        config.plain(transform.get(name), f"{RANGE}.{name}") for name in names
    )
    numbers = (a_min, a_max, b_min, b_max)
    if clip is not True or not all(isinstance(n, int | float) for n in numbers) or b_max <= b_min:
        raise config.refusal(f"{RANGE}: expected four numbers and clip: true")
    scale = (a_max - a_min) / (b_max - b_min)
    return {
        "clip_hu": [a_min, a_max],
        "normalize_hu": {"centre": a_min - b_min * scale, "scale": scale},
    }


def _classes(metadata: Json) -> list[str]:
    """The names of the output's channels, the background's left out."""
    node: Any = metadata
    for key in ("network_data_format", "outputs", "pred", "channel_def"):
        node = node.get(key) if isinstance(node, Mapping) else None
    if not isinstance(node, Mapping) or [*map(str, range(len(node)))] != sorted(node, key=_number):
        raise ConfigError(f"{METADATA}: outputs.pred.channel_def does not name every channel")
    return [str(node[key]) for key in sorted(node, key=_number)][1:]


def _number(key: str) -> int:
    return int(key) if str(key).isdigit() else -1


def _source(metadata: Json) -> str:
    known = [str(metadata.get(key, "")) for key in ("name", "version", "authors")]
    return "MONAI bundle " + ", ".join(filter(None, known))


def _licence(folder: Path, metadata: Json) -> str:
    """What the metadata says, or the first line of the licence's file; "unknown" otherwise."""
    if said := metadata.get("license"):
        return str(said)
    for name in LICENCES:
        if (folder / name).is_file():
            lines = (folder / name).read_text(encoding="utf-8", errors="replace").splitlines()
            return next((line.strip() for line in lines if line.strip()), "unknown")[:200]
    return "unknown"


def _first(folder: Path, names: tuple[str, ...], what: str) -> Path:
    found = next((folder / name for name in names if (folder / name).is_file()), None)
    if found is None:
        raise ConfigError(f"{folder} has no {what}: none of {', '.join(names)}")
    return found


def _as_data(path: Path) -> Json:
    try:
        text = path.read_text(encoding="utf-8")
        found = json.loads(text) if path.suffix == ".json" else yaml.safe_load(text)
    except (OSError, ValueError, yaml.YAMLError, RecursionError) as error:
        raise ConfigError(f"cannot read {path}: {' '.join(str(error).split())[:200]}") from error
    if not isinstance(found, dict):
        raise ConfigError(f"{path} holds no settings")
    return found
