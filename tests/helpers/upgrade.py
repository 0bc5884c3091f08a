"""A site that the version before the restructuring wrote (tests/data/upgrade/README.md)."""

from __future__ import annotations

import gzip
import json
import shutil
import sqlite3
import tarfile
from pathlib import Path
from typing import Any

from pipeline.config.names import SHORT_NAMES, current_path
from pipeline.config.run import RunConfig
from pipeline.degradations.digest import degradation_digest
from pipeline.store.store import Store

FIXTURES = Path(__file__).parents[1] / "data" / "upgrade"
#: Stands for the site's folder in what was packed.
ROOT = "@ROOT@"
#: The digest of the store's cached inputs: LowDoseCT of seed 0, drawn as the old code drew.
OLD_DRAW = "f44502d4e497e1f7"
TEXT = (".json", ".yaml", ".jsonl")
PACKED = {
    "registry/artifacts.tar.xz": "mlruns/artifacts",
    "store/store.tar.xz": "store",
    "work-folder/work-folder.tar.xz": "work-folder",
    "work-folder/pacs-source.tar.xz": "pacs-source",
    "work-folder/pacs-destination.tar.xz": "pacs-destination",
    "review/applied.tar.xz": "applied",
    "review/in-two.tar.xz": "in-two",
}
PLAIN = ("configs", "pictures", "requests")


def unpack(site: Path) -> Path:
    """The whole old site below a folder: mlruns, store, work-folder, applied, hospital.yaml ..."""
    for name, place in PACKED.items():
        with tarfile.open(FIXTURES / name) as packed:
            packed.extractall(site / place, filter="data")
    for name in PLAIN:
        shutil.copytree(FIXTURES / name, site / name)
    shutil.copy(FIXTURES / "work-folder" / "hospital.yaml", site)
    for path in site.rglob("*"):
        if path.suffix in TEXT:
            text = path.read_text(encoding="utf-8")
            path.write_text(text.replace(ROOT, str(site)), encoding="utf-8")
    sql = gzip.decompress((FIXTURES / "registry" / "mlflow.sql.gz").read_bytes()).decode()
    database = site / "mlruns" / "mlflow.db"
    database.unlink(missing_ok=True)
    connection = sqlite3.connect(database)
    connection.executescript(sql.replace(ROOT, str(site)))
    connection.close()
    return site


def recorded(name: str) -> Any:
    """A JSON file of the fixtures: what the old code said of the site."""
    return json.loads((FIXTURES / name).read_text(encoding="utf-8"))


def contents(folder: Path) -> dict[str, bytes]:
    """Every file below a folder, to see whether anything was written to."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != ".lock"
    }


def take_checkpoint(name: str, store: Path) -> Path:
    """The checkpoint of iteration 4 of 8 where the old training left it, in its store."""
    (path,) = (FIXTURES / "checkpoint" / name).glob("*.pt")
    (store / "training").mkdir(exist_ok=True)
    return Path(shutil.copy(path, store / "training"))


def take_old_draws(store: Path, config: RunConfig) -> None:
    """Give the old cached inputs today's name, as if this version had drawn the same noise."""
    for path in (store / "degraded").glob(f"*.{OLD_DRAW}.npy"):
        key = path.name.partition(".")[0]
        shutil.copy(path, Store(store).degraded_path(key, degradation_digest(config, 0)))


def in_todays_names(data: Any) -> Any:
    """Plain data with a short name for every target that has one, else with its path of today."""
    short = {path: name for name, path in SHORT_NAMES.items()}
    if isinstance(data, dict):
        return {
            key: short.get(current_path(value), current_path(value))
            if key == "target" and isinstance(value, str)
            else in_todays_names(value)
            for key, value in data.items()
        }
    return [in_todays_names(value) for value in data] if isinstance(data, list) else data
