"""Identifiers for files that have none, or that share them: by the files' places, for training."""

from __future__ import annotations

import hashlib
import uuid
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from pydicom.dataset import Dataset

from pipeline.dicom.read.raw_elements import set_value
from pipeline.dicom.read.slice_requirements import UID_KEYWORDS, Header, is_empty

if TYPE_CHECKING:
    from pipeline.dicom.read.headers import Instance

#: Prefix of identifiers that were made here for files without any; such files are not exported.
UNIDENTIFIED = "unidentified."
MADE_UP_PATIENT = "the files' folder stands for the patient (unidentified=folder)"
MADE_UP_IDENTITY = "made from the files' places, for training only (unidentified=folder)"


def name_by_folder(header: Dataset, path: Path) -> tuple[str, ...]:
    """Make missing identifiers: patient, study and series from the folder, the instance from the
    file's path. Returns a remark on those that were made."""
    missing = [name for name in ("PatientID", *UID_KEYWORDS) if is_empty(header, name)]
    for name in missing:
        _set_made_up(header, name, path if name == "SOPInstanceUID" else path.parent)
    if not missing:
        return ()
    made = MADE_UP_PATIENT if missing == ["PatientID"] else MADE_UP_IDENTITY
    return (f"{', '.join(missing)} missing or empty: {made}",)


def was_made_here(header: Header, name: str) -> bool:
    """Whether an identifier is one of these."""
    return str(header.get(name) or "").startswith(UNIDENTIFIED)


def _set_made_up(header: Dataset, name: str, named_after: Path, frame: int | None = None) -> None:
    text = f"{name} {named_after.absolute()}" + ("" if frame is None else f" {frame}")
    summary = hashlib.sha256(text.encode()).digest()
    made = f"{UNIDENTIFIED}{uuid.UUID(bytes=summary[:16], version=5).int}"
    set_value(header, name, made)


def with_own_uids(instances: Iterable[Instance]) -> list[Instance]:
    """The slices, those at different places of a series that share a SOPInstanceUID with one
    made from their path (IngestOptions.unidentified)."""
    by_uid: dict[tuple[str, str], list[Instance]] = defaultdict(list)
    for instance in instances:
        header = instance.header
        by_uid[str(header.SeriesInstanceUID), str(header.SOPInstanceUID)].append(instance)
    found: list[Instance] = []
    for same in by_uid.values():
        if len({tuple(instance.origin_mm) for instance in same}) == 1:
            found += same
            continue
        remark = f"SOPInstanceUID shared by slices at different places: {MADE_UP_IDENTITY}"
        for instance in same:
            _set_made_up(instance.header, "SOPInstanceUID", instance.path, instance.frame)
            found.append(replace(instance, remarks=(*instance.remarks, remark)))
    return found
