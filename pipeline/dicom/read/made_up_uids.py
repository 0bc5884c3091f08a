"""Identifiers for files that have none, or that share them: by the files' places, for training."""

from __future__ import annotations

import hashlib
import uuid
from pathlib import Path

from pydicom.dataset import Dataset

from pipeline.dicom.read.raw_elements import set_value
from pipeline.dicom.read.slice_requirements import UID_KEYWORDS, Header, is_empty

#: Prefix of identifiers that were made here for files without any; such files are not exported.
UNIDENTIFIED = "unidentified."
MADE_UP_PATIENT = "the files' folder stands for the patient (unidentified=folder)"
MADE_UP_IDENTITY = "made from the files' places, for training only (unidentified=folder)"


def name_by_folder(header: Dataset, path: Path) -> tuple[str, ...]:
    """Make missing identifiers: patient, study and series from the folder, the instance from the
    file's path. Returns a remark on those that were made."""
    missing = [name for name in ("PatientID", *UID_KEYWORDS) if is_empty(header, name)]
    for name in missing:
        set_made_up(header, name, path if name == "SOPInstanceUID" else path.parent)
    if not missing:
        return ()
    made = MADE_UP_PATIENT if missing == ["PatientID"] else MADE_UP_IDENTITY
    return (f"{', '.join(missing)} missing or empty: {made}",)


def was_made_here(header: Header, name: str) -> bool:
    """Whether an identifier is one of these."""
    return str(header.get(name) or "").startswith(UNIDENTIFIED)


def set_made_up(header: Dataset, name: str, named_after: Path, frame: int | None = None) -> None:
    """Make one identifier from the path of a file or folder, and of a frame in it."""
    text = f"{name} {named_after.absolute()}" + ("" if frame is None else f" {frame}")
    summary = hashlib.sha256(text.encode()).digest()
    made = f"{UNIDENTIFIED}{uuid.UUID(bytes=summary[:16], version=5).int}"
    set_value(header, name, made)
