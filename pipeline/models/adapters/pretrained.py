"""Models that come with the software: `NAME@pretrained`.

A folder of `pretrained/` holds what the registry holds of a version: config.yaml,
weights.safetensors, figures.json, card.json with the digests, traits.json with what its training
saw (pipeline.inference.traits) and uncertainty.json with how far voxels may be off
(pipeline.quality.uncertainty) where these are known, and MODEL_CARD.md for people.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pipeline.config.shipped import find_pretrained
from pipeline.core.errors import ConfigError
from pipeline.models.adapters.card import LoadedModel, ModelCard
from pipeline.models.adapters.weights import load_model
from pipeline.quality.uncertainty import Calibration

ALIAS = "pretrained"
#: Registered versions count from 1; see ModelCard.uri.
VERSION = 0
TRAITS = "traits.json"
UNCERTAINTY = "uncertainty.json"


def load_pretrained(name: str) -> LoadedModel:
    """A model that comes with the software; ConfigError where there is none of that name."""
    folder = find_pretrained(name)
    facts = json.loads((folder / "card.json").read_text(encoding="utf-8"))
    seen, measured = _known(folder / TRAITS), _known(folder / UNCERTAINTY)
    uncertainty = Calibration.from_dict(measured) if measured else None
    if uncertainty and uncertainty.weights_sha256 != facts["weights_sha256"]:
        raise ConfigError(
            f"{folder / UNCERTAINTY} was measured on other weights: run benchmarks/uncertainty.py"
        )
    card = ModelCard(name=name, version=VERSION, seen=seen, uncertainty=uncertainty, **facts)
    model, config = load_model(
        folder, weights_sha256=card.weights_sha256, config_digest=card.config_digest
    )
    return LoadedModel.of(model, card, config)


def _known(path: Path) -> dict[str, Any] | None:
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None
