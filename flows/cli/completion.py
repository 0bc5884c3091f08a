"""What a shell completes: `ldct --install-completion` sets it up. Nothing heavy is imported."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from pathlib import Path

from pipeline.config.shipped import pretrained_models, shipped_configs

_SQLITE = "sqlite:///"


def complete_config(incomplete: str) -> list[str]:
    """Configurations that come with the software, YAML files, and folders that may hold some."""
    here = Path().glob(f"{incomplete}*") if not os.path.isabs(incomplete) else []
    files = [f"{path}/" if path.is_dir() else str(path) for path in here]
    files = [name for name in files if name.endswith(("/", ".yaml", ".yml"))]
    return [*_beginning(incomplete, shipped_configs()), *sorted(files)]


def complete_model(incomplete: str) -> list[str]:
    """NAME@pretrained of models that come with the software, and NAME of registered ones."""
    shipped = [f"{name}@pretrained" for name in pretrained_models()]
    return _beginning(incomplete, [*_registered(), *shipped])


def _beginning(incomplete: str, names: list[str]) -> list[str]:
    return [name for name in names if name.startswith(incomplete)]


def _registered() -> list[str]:
    """From the local registry's database, since MLflow takes seconds to import; a server is not
    asked at each press of a key."""
    uri = os.environ.get("MLFLOW_TRACKING_URI") or f"{_SQLITE}mlruns/mlflow.db"
    path = Path(uri.removeprefix(_SQLITE))
    if not uri.startswith(_SQLITE) or not path.is_file():
        return []
    try:
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as database:
            rows = database.execute("SELECT name FROM registered_models ORDER BY name").fetchall()
    except sqlite3.Error:
        return []
    return [str(name) for (name,) in rows]
