"""Models that come with the software: `NAME@pretrained`.

A folder of `pretrained/` holds what the registry holds of a version: config.yaml,
weights.safetensors, figures.json, card.json with the digests, traits.json with what its training
saw (pipeline.inference.traits) where that is known, and MODEL_CARD.md for people.
"""

from __future__ import annotations

import json

from pipeline.config.shipped import find_pretrained
from pipeline.models.adapters.card import LoadedModel, ModelCard
from pipeline.models.adapters.weights import load_model

ALIAS = "pretrained"
#: Registered versions count from 1; see ModelCard.uri.
VERSION = 0
TRAITS = "traits.json"


def load_pretrained(name: str) -> LoadedModel:
    """A model that comes with the software; ConfigError where there is none of that name."""
    folder = find_pretrained(name)
    facts = json.loads((folder / "card.json").read_text(encoding="utf-8"))
    traits = folder / TRAITS
    seen = json.loads(traits.read_text(encoding="utf-8")) if traits.exists() else None
    card = ModelCard(name=name, version=VERSION, seen=seen, **facts)
    model, config = load_model(
        folder, weights_sha256=card.weights_sha256, config_digest=card.config_digest
    )
    return LoadedModel.of(model, card, config)
