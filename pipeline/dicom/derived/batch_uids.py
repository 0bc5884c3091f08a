"""One UID, one object (PS3.5 9), over all that one run writes, as `ldct check` looks at it."""

from __future__ import annotations

import shutil
from pathlib import Path

import pydicom

from pipeline.core.errors import LdctError


class BatchUids:
    """The SOP Instance UIDs of the objects that a run has written so far."""

    def __init__(self) -> None:
        self._seen: set[str] = set()

    def add(self, folder: Path) -> None:
        """Take in what was written for one source: `folder`, and what lies beside it.

        Raises LdctError, and removes all, where an object has the UID of another of the
        run: one archive would keep only one of them.
        """
        beside = [folder.with_name(f"{folder.name}-{name}") for name in ("difference", "report")]
        folders = [folder, *beside]
        paths = [path for one in folders for path in sorted(one.glob("*.dcm"))]
        uids = [_uid_of(path) for path in paths]
        shared = len(uids) - len(set(uids) - self._seen)
        if shared:
            for one in folders:
                shutil.rmtree(one, ignore_errors=True)
            raise LdctError(
                f"{shared} of {len(uids)} derived images have the SOPInstanceUID of another in "
                "this run, and are not written: another series of the source has the same Study, "
                "Series and SOP Instance UIDs, which name one object (PS3.5 9); give one of the "
                "two UIDs of its own"
            )
        self._seen.update(uids)


def _uid_of(path: Path) -> str:
    header = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=["SOPInstanceUID"])
    return str(header.SOPInstanceUID)
