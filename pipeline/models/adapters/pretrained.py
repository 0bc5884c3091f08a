"""Models that come with the software, for whoever has trained none: `NAME@pretrained`.

A folder of `pretrained/` holds what the registry holds of a version: config.yaml,
weights.safetensors, figures.json, card.json with the digests, and MODEL_CARD.md for people.
"""

from __future__ import annotations

import json
from importlib import resources
from pathlib import Path
from typing import Any

import yaml

from pipeline.core.errors import ConfigError
from pipeline.models.adapters.base import ModelAdapter
from pipeline.models.adapters.card import ModelCard
from pipeline.models.adapters.weights import CONFIG, load_model

ALIAS = "pretrained"
#: Registered versions count from 1; see ModelCard.uri.
VERSION = 0


def load_pretrained(name: str) -> tuple[ModelAdapter, ModelCard, dict[str, Any]]:
    """A shipped model, its card and its configuration; ConfigError where there is none."""
    root = Path(str(resources.files("pretrained")))
    folder = root / name
    if not (folder / "card.json").exists():
        shipped = ", ".join(sorted(path.parent.name for path in root.glob("*/card.json")))
        raise ConfigError(f"no pretrained model {name}; there are: {shipped}")
    told = json.loads((folder / "card.json").read_text(encoding="utf-8"))
    card = ModelCard(name=name, version=VERSION, **told)
    config = yaml.safe_load((folder / CONFIG).read_text(encoding="utf-8"))
    return load_model(folder, weights_sha256=card.weights_sha256), card, config
