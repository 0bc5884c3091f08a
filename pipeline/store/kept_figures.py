"""Figures of an evaluation, kept in the store under what they depend on.

The same weights, configuration, data, labels, packages and code give the same figures; whatever
differs gives another name, so that nothing old is ever taken for new.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from pipeline.config.names import digest
from pipeline.core.atomic_files import write_json
from pipeline.core.types import Json
from pipeline.core.versions import code_digest, versions
from pipeline.store.damage import read_json_or_none
from pipeline.store.store import Store

FOLDER = "figures"


class KeptFigures:
    """Of one evaluation on a store: on `keys`, by what `asked` says of model, configuration and
    device, in JSON's types. Another series, side or label in the store makes it another one."""

    def __init__(self, store: Store, keys: list[str], asked: Json) -> None:
        facts = {
            "asked": asked,
            "keys": sorted(keys),
            "series": {key: record.to_dict() for key, record in store.records().items()},
            "split": store.split(),
            "labels": _label_digests(store),
            "code": code_digest(),
            "versions": versions(),
        }
        self.path: Path = store.path / FOLDER / f"{digest(facts)}.json"

    def read(self) -> Json | None:
        """The figures; None where they were not kept, or the file is damaged."""
        return read_json_or_none(self.path) if self.path.exists() else None

    def write(self, figures: Json) -> None:
        """Keep them, in JSON's types. Raises OSError where the store cannot be written to."""
        self.path.parent.mkdir(exist_ok=True)
        write_json(self.path, figures)


def _label_digests(store: Store) -> dict[str, str]:
    """SHA-256 of what the store says of each label map, which has that of its voxels."""
    found = sorted((store.path / "labels").glob("*.json"))
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in found}
