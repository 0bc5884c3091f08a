"""What a source holds: CT series, CT as image files, and what is neither, each told."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from pipeline.core.pseudonyms import pseudonym
from pipeline.core.refusals import Refusal
from pipeline.dicom.read.ingest_options import IngestOptions
from pipeline.dicom.read.series import Series, find_series
from pipeline.dicom.read.volume import series_key
from pipeline.io.volume_files import is_image_file

#: One volume: a DICOM series, or an image file.
Source = Series | Path


@dataclass(frozen=True)
class Discovered:
    """A source's series, its image files (NIfTI, NRRD, MetaImage), and the files refused."""

    root: Path
    series: list[Series]
    images: list[Path]
    refusals: list[Refusal]

    @property
    def sources(self) -> list[Source]:
        return [*self.series, *self.images]


def discover(
    root: Path,
    progress: Callable[[int], None] = lambda files: None,
    *,
    intake: IngestOptions = IngestOptions(),  # noqa: B008  (frozen)
) -> Discovered:
    """All that can be used below `root`: a folder, an archive, a disc's DICOMDIR or one file.

    Raises NothingUsableError where `root` is not there.
    """
    discovery = find_series(root, progress, intake=intake)
    # A member of an archive is no file that the readers of images could open.
    images = [r.path for r in discovery.refusals if is_image_file(r.path) and r.path.is_file()]
    refusals = [r for r in discovery.refusals if r.path not in images]
    return Discovered(discovery.root, discovery.series, images, refusals)


def source_key(source: Source, key: bytes) -> str:
    """The pseudonym of a volume: of its series, or of an image file's own bytes."""
    return series_key(source, key) if isinstance(source, Series) else image_key(source, key, "s")


def image_key(path: Path, key: bytes, prefix: str) -> str:
    """An image file names nobody: it goes by its bytes, wherever it lies."""
    with path.open("rb") as stream:
        return pseudonym(key, prefix, hashlib.file_digest(stream, "sha256").hexdigest())
