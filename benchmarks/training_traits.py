"""What the training of a model that comes with the software saw, measured again from its data.

`python benchmarks/training_traits.py NAME FOLDER...` writes pretrained/NAME/traits.json, by which
later series are compared with them. FOLDER: series that it was trained on, all of them,
and no others. The dose is simulated as the model's configuration says.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path

import machine

from pipeline.config.shipped import find_pretrained
from pipeline.core.pseudonyms import installation_key
from pipeline.degradations.cache import degrade_store
from pipeline.inference.traits import seen_by
from pipeline.ingest.ingest import ingest
from pipeline.models.adapters.pretrained import TRAITS, load_pretrained
from pipeline.store.store import Store


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("name", help="a folder of pretrained/")
    parser.add_argument("series", type=Path, nargs="+", help="the training series")
    asked = parser.parse_args()
    config = load_pretrained(asked.name).config
    with tempfile.TemporaryDirectory() as scratch:
        store = Store(Path(scratch))
        for folder in asked.series:
            ingest(folder, store, key=installation_key(), intake=config.data.intake)
        keys = sorted(store.records())
        if config.data.nested is None:
            degrade_store(store, dict.fromkeys(keys, 1), config)
        seen = seen_by(store, keys, config).to_dict()
    path = find_pretrained(asked.name) / TRAITS
    path.write_text(json.dumps(seen, indent=2) + "\n")
    print(f"{path}: {len(keys)} series; {machine.described(machine.facts())}")


if __name__ == "__main__":
    main()
