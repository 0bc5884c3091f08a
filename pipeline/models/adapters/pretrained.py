"""Models that come with the software: `NAME@pretrained`.

A folder of `pretrained/` holds what the registry holds of a version: config.yaml,
weights.safetensors, figures.json, card.json with the digests, and MODEL_CARD.md for people.
"""

from __future__ import annotations

import json
from importlib import resources
from pathlib import Path

from pipeline.core.errors import ConfigError
from pipeline.models.adapters.card import LoadedModel, ModelCard
from pipeline.models.adapters.weights import load_model

ALIAS = "pretrained"
#: Registered versions count from 1; see ModelCard.uri.
VERSION = 0


def load_pretrained(name: str) -> LoadedModel:
    """A model that comes with the software; ConfigError where there is none of that name."""
    root = Path(str(resources.files("pretrained")))
    folder = root / name
    if not (folder / "card.json").exists():
        shipped = ", ".join(sorted(path.parent.name for path in root.glob("*/card.json")))
        raise ConfigError(f"no pretrained model {name}; there are: {shipped}")
    facts = json.loads((folder / "card.json").read_text(encoding="utf-8"))
    card = ModelCard(name=name, version=VERSION, **facts)
    model, config = load_model(folder, weights_sha256=card.weights_sha256)
    return LoadedModel(model, card, config)
