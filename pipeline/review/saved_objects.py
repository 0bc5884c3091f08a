"""DICOM objects that readers save on the page: numbered files, the last one is shown again."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pipeline.core.atomic_files import replacing
from pipeline.core.errors import ConfigError
from pipeline.dicom.read.series import Series
from pipeline.review.audit_log import FOLDER
from pipeline.review.planes import Planes
from pipeline.review.series_index import DENOISED, ORIGINAL
from pipeline.review.worklist import Case


def series_of(case: Case) -> list[tuple[Series, Planes]]:
    """The original and the denoised series of a case, those that are DICOM files."""
    shown = [case.shown[role] for role in (ORIGINAL, DENOISED) if role in case.shown]
    return [(each.series, each.planes) for each in shown if each.series is not None]


def last_file(root: Path, kind: str, case: Case, prefix: str) -> Path | None:
    """What was saved last of a kind; None where nothing was."""
    return max((root / FOLDER / kind / case.cid).glob(f"{prefix}.*.dcm"), default=None)


@contextmanager
def next_file(root: Path, kind: str, case: Case, prefix: str) -> Iterator[tuple[Path, Path]]:
    """The path of the next file, and the one to write, which takes that place when all went well.

    Raises ConfigError where it is there already: nothing is overwritten.
    """
    folder = root / FOLDER / kind / case.cid
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{prefix}.{len(list(folder.glob(f'{prefix}.*.dcm'))) + 1:04d}.dcm"
    if path.exists():
        raise ConfigError(f"{path} exists already: save again")
    with replacing(path) as partial:
        yield path, partial
