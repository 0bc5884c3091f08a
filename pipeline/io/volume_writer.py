"""Write CT as NIfTI, NRRD and MetaImage files, with exact values and geometry (volume_files.py)."""

from __future__ import annotations

import filecmp
from collections.abc import Mapping
from pathlib import Path

import nibabel
import numpy as np
import SimpleITK
from numpy.typing import NDArray

from pipeline.core.atomic_files import replacing
from pipeline.core.errors import ConfigError, LdctError
from pipeline.core.volume import Volume, even_origins_mm
from pipeline.io.image_formats import NIFTI
from pipeline.io.itk_reader import (
    open_itk,
    suffix_of,
)
from pipeline.io.nifti_reader import (
    LPS_TO_RAS,
    PLACE_TOLERANCE_MM,
)

WRITTEN_SUFFIXES = (*NIFTI, ".nrrd", ".mha")


def write_image(
    volume: Volume,
    path: Path,
    *,
    padding: NDArray[np.float32] | None = None,
    generated: NDArray[np.bool_] | None = None,
) -> None:
    """Write HU as float32, whole or not at all; a file with the same content is replaced.

    padding: as in ImageReading, put back where the volume is not valid, except where `generated`
    is True: a model filled that in. No format keeps `valid`, so that without `padding` it is read
    again as measured air. Raises LdctError for values that are not finite, where the format
    cannot hold the place of every slice, and for a file that exists with other content. NIfTI
    keeps the affine as float32, to 0.00003 mm at a metre.
    """
    if not np.isfinite(volume.image_hu).all():
        raise LdctError(f"{path}: the image holds values that are not numbers; nothing written")
    values = np.asarray(volume.image_hu, np.float32)
    if padding is not None and len(padding):
        values = values.copy()
        kept = slice(None) if generated is None else ~generated[~volume.valid]
        places = ~volume.valid if generated is None else ~volume.valid & ~generated
        values[places] = padding[kept]
    write_voxels(values, volume.affine_lps, volume.slice_origins_mm, path)


def write_voxels(
    values: NDArray,
    affine_lps: NDArray[np.float64],
    slice_origins_mm: NDArray[np.float64],
    path: Path,
    *,
    texts: Mapping[str, str] | None = None,
) -> None:
    """Write values [slices, rows, columns] as write_image does, of any number type.

    affine_lps and slice_origins_mm: as in a Volume. texts: comments by name, which an NRRD file
    has as metadata keys, and a NIfTI file as an extension each, `descrip` in its header field.
    Raises ConfigError for a suffix that is not one of WRITTEN_SUFFIXES, and LdctError as
    write_image does.
    """
    if not path.name.endswith(WRITTEN_SUFFIXES):
        raise ConfigError(f"cannot write {path}: choose one of {', '.join(WRITTEN_SUFFIXES)}")
    off_mm = off_grid_mm(affine_lps, slice_origins_mm)
    if off_mm > PLACE_TOLERANCE_MM:
        reason = f"slices up to {off_mm:.2f} mm off an even grid, which only DICOM can hold"
        raise LdctError(f"{path}: {reason}; nothing written")
    with replacing(path) as partial:
        write = _write_nifti if suffix_of(path) in NIFTI else _write_itk
        write(values, affine_lps, partial, texts or {})
        if path.exists() and not filecmp.cmp(path, partial, shallow=False):
            raise LdctError(f"{path} exists and holds something else; choose another name")


def off_grid_mm(affine_lps: NDArray[np.float64], slice_origins_mm: NDArray[np.float64]) -> float:
    """How far the slice that is furthest off lies from the affine's even grid, in mm."""
    even = even_origins_mm(affine_lps, len(slice_origins_mm))
    return float(np.linalg.norm(slice_origins_mm - even, axis=1).max())


def _write_nifti(
    values: NDArray, affine_lps: NDArray[np.float64], path: Path, texts: Mapping[str, str]
) -> None:
    affine = LPS_TO_RAS @ affine_lps
    image = nibabel.Nifti1Image(values.T, affine)
    # The sform alone: a qform holds no shear, and rotations to half a milliradian at best.
    image.header.set_sform(affine, code="scanner")
    image.header.set_xyzt_units("mm")
    image.header["descrip"] = texts.get("descrip", "").encode()[:79]
    for text in (text for name, text in texts.items() if name != "descrip"):
        image.header.extensions.append(nibabel.nifti1.Nifti1Extension("ignore", text.encode()))
    nibabel.save(image, path)


def _write_itk(
    values: NDArray, affine_lps: NDArray[np.float64], path: Path, texts: Mapping[str, str]
) -> None:
    image = SimpleITK.GetImageFromArray(np.ascontiguousarray(values))
    axes = affine_lps[:3, :3]
    spacing = np.linalg.norm(axes, axis=0)
    image.SetSpacing(spacing.tolist())
    image.SetDirection((axes / spacing).ravel().tolist())
    image.SetOrigin(affine_lps[:3, 3].tolist())
    for name, text in texts.items():
        image.SetMetaData(name, text)
    SimpleITK.WriteImage(image, str(path))
    if np.abs(open_itk(path)[1] - affine_lps).max() > PLACE_TOLERANCE_MM / 1000:
        raise LdctError("this format does not hold the axes of the image: choose .nii or .nii.gz")
