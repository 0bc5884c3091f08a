"""The index of a DICOM disc (PS3.3 F.3): does the disc hold what it says?"""

from __future__ import annotations

from pathlib import Path

from pipeline.core.refusals import Disposition, Refusal, Unreadable
from pipeline.dicom.read.files import exists, read_dataset

NAME = "DICOMDIR"


def missing_files(path: Path) -> list[Refusal]:
    """A Refusal for each image that a DICOMDIR names and that is not there; else nothing."""
    if path.name.upper() != NAME:
        return []
    try:
        records = read_dataset(path).get("DirectoryRecordSequence") or []
        named = [_file(path.parent, record.get("ReferencedFileID")) for record in records]
    except Exception as error:  # damaged streams raise many kinds
        fault = Unreadable(f"the index of the disc is damaged ({type(error).__name__})")
        return [fault.refusal(path)]
    return [
        Refusal(
            file,
            Disposition.QUARANTINED,
            "named by the DICOMDIR, but not there",
            "ReferencedFileID",
        )
        for file in named
        if file is not None and not exists(file)
    ]


def _file(folder: Path, parts: object) -> Path | None:
    if not parts:
        return None
    return folder.joinpath(*([parts] if isinstance(parts, str) else map(str, parts)))  # type: ignore[call-overload]
