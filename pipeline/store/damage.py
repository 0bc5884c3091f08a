"""Files of a store that a full disk or a power cut left damaged: named, with what to do."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from pipeline.core.errors import ConfigError

#: Before the voxels: NIfTI-1's header and extension flag; a NumPy array's, in steps of 64.
NIFTI_HEADER_BYTES, NPY_HEADER_BYTES = 352, 128
MEND_INDEX = (
    "restore it from a backup, or delete it and ingest again: patients' sides follow from this "
    "installation's key, but for those of a published split, which is to be recorded again"
)
INGEST_AGAIN = "ingest its source again (`ldct ingest`), which mends it"


def read_json(path: Path, what_to_do: str) -> dict[str, Any]:
    """A JSON object. Raises ConfigError where the file is no such thing, FileNotFoundError where
    it is not there."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:  # UnicodeDecodeError too
        found = None
    if not isinstance(found, dict):
        size = path.stat().st_size
        raise ConfigError(
            f"cannot use {path}, which is damaged ({size} bytes that are no JSON): {what_to_do}"
        )
    return found


def read_json_or_none(path: Path) -> dict[str, Any] | None:
    """A JSON object; None where the file is damaged."""
    try:
        return read_json(path, INGEST_AGAIN)
    except ConfigError:
        return None


def holds_voxels(path: Path, shape: list[int]) -> bool:
    """Whether a .nii of float32, or a .npy (of bool where it says .valid), has all its bytes."""
    return path.exists() and path.stat().st_size >= _least_bytes(path, shape)


def require_voxels(path: Path, shape: list[int]) -> None:
    """Raises ConfigError where a file is too short for an array of this shape."""
    if not holds_voxels(path, shape):
        size = path.stat().st_size if path.exists() else 0
        raise ConfigError(
            f"cannot use {path}, which is damaged ({size} of {_least_bytes(path, shape)} bytes): "
            f"{INGEST_AGAIN}"
        )


def _least_bytes(path: Path, shape: list[int]) -> int:
    header = NIFTI_HEADER_BYTES if path.suffix == ".nii" else NPY_HEADER_BYTES
    return header + math.prod(shape) * (1 if path.suffixes[-2:] == [".valid", ".npy"] else 4)
