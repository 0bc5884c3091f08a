"""Choices that were measured on this machine, in the user's cache folder.

A time measured twice may lead to two choices, and so to two results. What was chosen once is
therefore kept, and read by every later process.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from pipeline.core.atomic_files import locked, write_json
from pipeline.core.types import Json

Choice = TypeVar("Choice")

FOLDER_VARIABLE = "LDCT_CACHE_DIR"
CHOICE = "choice.json"


def cache_folder() -> Path:
    """LDCT_CACHE_DIR, else `ldct` in the user's cache folder (XDG_CACHE_HOME, ~/.cache)."""
    if named := os.environ.get(FOLDER_VARIABLE):
        return Path(named)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "ldct"


def place_for(facts: Json) -> Path | None:
    """The folder of the choice that was made by these facts; None where it cannot be written to."""
    text = json.dumps(facts, sort_keys=True)
    folder = cache_folder() / "computing" / hashlib.sha256(text.encode()).hexdigest()[:24]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with locked(folder):
            return folder
    except OSError:
        return None


def measured_once(
    folder: Path, facts: Json, measure: Callable[[], Choice], parse: Callable[[Json], Choice]
) -> Choice:
    """What is kept in a folder of place_for, else what `measure` gives, which is then kept.

    A choice is a dataclass with to_dict. Another process that asks for it meanwhile waits. A file
    that is damaged, or of other facts, is measured again and replaced.
    """
    path = folder / CHOICE
    with locked(folder):
        found = _read(path, facts, parse)
        if found is not None:
            return found
        choice = measure()
        write_json(path, {"facts": facts, "choice": choice.to_dict()})  # type: ignore[attr-defined]
        return choice


def _read(path: Path, facts: Json, parse: Callable[[Json], Choice]) -> Choice | None:
    try:
        kept = json.loads(path.read_text(encoding="utf-8"))
        return parse(kept["choice"]) if kept["facts"] == facts else None
    except (OSError, ValueError, KeyError, TypeError):
        return None
