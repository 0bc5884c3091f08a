"""Which files are CT images of NIfTI, NRRD and MetaImage, and which files such an image has."""

from __future__ import annotations

from pathlib import Path

from pipeline.io.itk_reader import (
    ITK_FORMATS,
    detached_voxels,
    suffix_of,
)

NIFTI = (".nii", ".nii.gz")
#: NIfTI of two files: the header, and the voxels.
NIFTI_HEADER, NIFTI_VOXELS = ".hdr", ".img"


def written_suffix(path: Path) -> str:
    """The suffix of a result for a source file: the same, or the one-file variant of its format."""
    suffix = suffix_of(path)
    return {".nhdr": ".nrrd", ".mhd": ".mha", NIFTI_HEADER: ".nii"}.get(suffix, suffix)


def is_image_file(path: Path) -> bool:
    """Whether a file's name says that it is one of these formats; of `.hdr`, which other programs
    use too, that its voxels lie beside it."""
    if suffix_of(path) == NIFTI_HEADER:
        return voxel_file(path) is not None
    return suffix_of(path) in (*NIFTI, *ITK_FORMATS)


def voxel_file(path: Path) -> Path | None:
    """The file beside a header that holds its voxels; None where they are in the same file, or
    nowhere."""
    suffix = suffix_of(path)
    if suffix == NIFTI_HEADER:
        beside = (path.with_suffix(end) for end in (NIFTI_VOXELS, NIFTI_VOXELS.upper()))
        return next((file for file in beside if file.is_file()), None)
    return detached_voxels(path) if suffix in ITK_FORMATS else None


def format_of(path: Path) -> str:
    """The format's name, for a file that is_image_file."""
    return ITK_FORMATS.get(suffix_of(path), "NIfTI")
