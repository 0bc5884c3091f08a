"""Make a registered model one that comes with the software: `python benchmarks/ship.py MODEL`.

Writes pretrained/NAME: config.yaml, weights.safetensors, figures.json, card.json and traits.json
(what its training saw), as the registry holds them. MODEL_CARD.md is written by people.
benchmarks/training_traits.py writes the traits again from the data.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import flows  # noqa: F401  (sets Prefect and MLflow up before they are imported)
from flows.tracking.registry import Registry
from pipeline.core.malloc import keep_freed_memory
from pipeline.models.adapters.pretrained import TRAITS
from pipeline.models.adapters.weights import save_model

PRETRAINED = Path(__file__).parents[1] / "pretrained"
#: A file of the repository that every clone carries.
MOST_BYTES = 5_000_000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("model", help="NAME/VERSION or NAME@alias")
    reference = parser.parse_args().model
    registry = Registry.default()
    loaded = registry.load(reference)
    model, card, config = loaded.model, loaded.card, loaded.config.resolved()
    folder = PRETRAINED / card.name
    digest = save_model(model, config, folder)
    if digest != card.weights_sha256:
        raise SystemExit(f"{reference}: the weights changed on the way, nothing to ship")
    facts = {
        name: getattr(card, name)
        for name in ("weights_sha256", "config_digest", "data_digest", "parameters", "strength")
    }
    (folder / "card.json").write_text(json.dumps(facts, indent=2) + "\n")
    if card.seen is not None:
        (folder / TRAITS).write_text(json.dumps(card.seen, indent=2) + "\n")
    shown = next(row for row in registry.show(card.name) if row.row.version == card.version)
    overall = shown.recorded.figures["overall"]
    (folder / "figures.json").write_text(json.dumps(overall, indent=2) + "\n")
    size = sum(path.stat().st_size for path in folder.iterdir())
    if size > MOST_BYTES:
        raise SystemExit(f"{folder} has {size} bytes, more than {MOST_BYTES}")
    print(f"{folder}: {size} bytes")


if __name__ == "__main__":
    keep_freed_memory()
    main()
