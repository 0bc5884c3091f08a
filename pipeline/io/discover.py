"""Find the CT series and CT image files of a source, and the files that are neither."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from pipeline.core.pseudonyms import pseudonym
from pipeline.core.refusals import Disposition, Refusal
from pipeline.dicom.read.files import archive_of
from pipeline.dicom.read.ingest_options import IngestOptions
from pipeline.dicom.read.series import Series, find_series
from pipeline.dicom.read.volume import series_key
from pipeline.io.image_formats import format_of, is_image_file, voxel_file

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
        """Series and image files together: every volume of the source."""
        return [*self.series, *self.images]


def discover(
    root: Path,
    progress: Callable[[int], None] = lambda files: None,
    *,
    intake: IngestOptions = IngestOptions(),  # noqa: B008  (frozen)
) -> Discovered:
    """Every volume below `root`: a folder, an archive, a disc's DICOMDIR or one file.

    progress: called with the number of files read so far. Raises NothingUsableError where `root`
    does not exist.
    """
    discovery = find_series(root, progress, intake=intake)
    images = [r.path for r in discovery.refusals if _is_image(r)]
    voxels = {file: image for image in images if (file := voxel_file(image)) is not None}
    refusals = [_as_part(r, voxels) for r in discovery.refusals if r.path not in images]
    return Discovered(discovery.root, discovery.series, images, refusals)


def _is_image(refusal: Refusal) -> bool:
    """Whether a file that is no DICOM is an image file: not one in an archive, or a hidden one."""
    return (
        is_image_file(refusal.path)
        and refusal.path.is_file()
        and not refusal.path.name.startswith(".")
    )


def _as_part(refusal: Refusal, voxels: dict[Path, Path]) -> Refusal:
    """The refusal, but of a file with an image's voxels, and of an image in an archive, what
    they are."""
    if refusal.path in voxels:
        reason = f"the voxels of {voxels[refusal.path].name}, read with it"
        return Refusal(refusal.path, Disposition.USED, reason)
    if is_image_file(refusal.path) and archive_of(refusal.path):
        reason = f"{format_of(refusal.path)} in an archive is not read in place: unpack it"
        return Refusal(refusal.path, Disposition.QUARANTINED, reason)
    return refusal


def files_of(source: Source) -> list[Path]:
    """The files that a volume consists of; each once, also of many frames."""
    if isinstance(source, Series):
        return list(dict.fromkeys(instance.path for instance in source.instances))
    return [source]


def source_key(source: Source, key: bytes) -> str:
    """The pseudonym of a volume: of its series' UIDs, or of an image file's bytes."""
    return series_key(source, key) if isinstance(source, Series) else image_key(source, key, "s")


def image_key(path: Path, key: bytes, prefix: str) -> str:
    """The pseudonym of an image file, which has no identifiers: a keyed hash of its bytes, and of
    those of its voxels where they lie in a file of their own."""
    with path.open("rb") as stream:
        found = [hashlib.file_digest(stream, "sha256").hexdigest()]
    voxels = voxel_file(path)
    if voxels is not None:
        with voxels.open("rb") as stream:
            found.append(hashlib.file_digest(stream, "sha256").hexdigest())
    return pseudonym(key, prefix, *found)
