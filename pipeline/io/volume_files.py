"""Read CT from NIfTI, NRRD and MetaImage files, with exact values and geometry.

NIfTI-1 (nifti.nimh.nih.gov) places voxels in RAS, NRRD (teem.sourceforge.net/nrrd/format.html)
in a space that it names, MetaImage in LPS. None of them states the unit of its values: HU are
recognised by air. None states padding either (pipeline.core.padding).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from pipeline.core.hu_scale import MAX_AIR_HU, values_of
from pipeline.core.library_warnings import library_remarks
from pipeline.core.padding import padding_mask
from pipeline.core.refusals import Unreadable, count_of
from pipeline.core.units import AIR_HU
from pipeline.core.volume import Volume, even_origins_mm
from pipeline.io.image_formats import format_of
from pipeline.io.itk_reader import ITK_FORMATS, StoredImage, open_itk, read_itk, suffix_of
from pipeline.io.nifti_reader import nifti_grid, read_nifti

#: Labels and pictures have values from 0 to this; `air: accept` does not make them CT.
MAX_GREY_LEVEL = 255.0
#: No CT has voxels this large: the file's unit of length is wrong, such as metres for mm.
MAX_SPACING_MM = 100.0
#: What lifts the refusal of a file without HU.
ANY_VALUES = "to take its values as HU, --intake air=accept"
#: The end of the reason for refusing a file without HU; such a file may hold labels.
NOT_HU = "not CT in HU"

Air = Literal["require", "accept"]


@dataclass(frozen=True)
class ImageReading:
    """An image file's volume, and its own values [n] of the voxels that are not valid there."""

    volume: Volume
    padding: NDArray[np.float32]


def read_image(path: Path, *, air: Air = "require") -> Volume:
    """The volume of `read_padded`."""
    return read_padded(path, air=air).volume


def read_padded(path: Path, *, air: Air = "require") -> ImageReading:
    """The file as a volume, its axes in the file's own order, and its padding.

    Padding (pipeline.core.padding) is not valid, and air in image_hu. air: whether a file without
    HU, by its air and tissue, is refused, or taken with a warning. Raises Unreadable for files
    that are damaged, without a position in the patient or a spacing that CT has, or without HU.
    """
    stored = read_stored(path)
    values, affine, warnings = stored.values, stored.affine_lps, list(stored.warnings)
    _require_spacing(affine)
    valid = ~np.stack([padding_mask(plane) for plane in values])
    padding = values[~valid]
    values[~valid] = AIR_HU
    warnings += _doubts(values, valid, air)
    if len(padding):
        warnings.append(f"{count_of(len(padding), 'voxel')} of padding: kept, and not measured")
    if np.abs(affine[:3, 2]).argmax() != 2:
        warnings.append("the slices of the file are not axial")
    volume = Volume(
        image_hu=values,
        valid=valid,
        affine_lps=affine,
        slice_origins_mm=even_origins_mm(affine, len(values)),
        provenance={"source": format_of(path), "warnings": warnings, "evenly_spaced": True},
    )
    return ImageReading(volume, padding)


def _doubts(values: NDArray[np.float32], valid: NDArray[np.bool_], air: Air) -> list[str]:
    """What speaks against HU, as warnings; raises Unreadable where that is a refusal."""
    lowest = float(values.min(where=valid, initial=math.inf))
    highest = float(values.max(where=valid, initial=-math.inf))
    is_picture = lowest >= 0 and highest <= MAX_GREY_LEVEL
    fault = "" if is_picture else values_of(values, valid).fault()
    if not fault and lowest >= MAX_AIR_HU:
        fault = f"no value below {MAX_AIR_HU:g} HU"
    if not fault:
        return []
    if air == "require" or is_picture:
        remedy = "" if is_picture else f" ({ANY_VALUES})"
        raise Unreadable(f"{fault}{remedy}: {NOT_HU}", "values", lowest)
    return [f"taken as HU all the same: {fault}"]


def read_stored(path: Path) -> StoredImage:
    """The file's values, whatever they mean, and their place.

    Raises Unreadable for files that are damaged or without a position in the patient.
    """
    with unreadable_as(format_of(path), path), library_remarks() as heard:
        if not path.stat().st_size:
            raise Unreadable("an empty file")
        stored = (read_itk if suffix_of(path) in ITK_FORMATS else read_nifti)(path)
        _require_axes(stored.affine_lps)
    return replace(stored, warnings=(*stored.warnings, *heard)) if heard else stored


def read_grid(path: Path) -> tuple[tuple[int, int, int], NDArray[np.float64]]:
    """(slices, rows, columns) and the affine in LPS mm, by the header alone of a readable file.

    Raises Unreadable for a damaged header.
    """
    with unreadable_as(format_of(path), path):
        if suffix_of(path) not in ITK_FORMATS:
            size, affine = nifti_grid(path)
        else:
            reader, affine = open_itk(path)
            size = reader.GetSize()
        return (size[2], size[1], size[0]), affine


@contextmanager
def unreadable_as(name: str, path: Path) -> Iterator[None]:
    """Turn whatever the block raises into an Unreadable with its last line; name: the format's.

    Of `path` its name alone is shown: the names of folders may identify a patient.
    """
    try:
        yield
    except Unreadable:
        raise
    except Exception as error:  # image libraries raise many kinds on damaged files
        reason = (str(error).strip() or type(error).__name__).splitlines()[-1]
        reason = reason.replace(str(path), path.name)
        raise Unreadable(f"cannot be read as {name}: {reason[:200]}") from error


def _require_spacing(affine: NDArray[np.float64]) -> None:
    spacing_mm = np.linalg.norm(affine[:3, :3], axis=0)
    if spacing_mm.max() > MAX_SPACING_MM:
        reason = f"no CT has voxels above {MAX_SPACING_MM:g} mm: mend the file's unit of length"
        raise Unreadable(reason, "spacing in mm", spacing_mm.round(4).tolist())


def _require_axes(affine: NDArray[np.float64]) -> None:
    if not np.isfinite(affine).all() or np.linalg.det(affine[:3, :3]) == 0:
        raise Unreadable("the axes of the image do not span space", "affine", affine.tolist())
