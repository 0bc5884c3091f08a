"""Read and write CT as NIfTI, NRRD and MetaImage files, with exact values and geometry.

NIfTI-1 (nifti.nimh.nih.gov) places voxels in RAS, NRRD (teem.sourceforge.net/nrrd/format.html)
in a space that it names, MetaImage in LPS. None of them states the unit of its values: HU are
recognised by air. None states padding either (pipeline.core.padding).
"""

from __future__ import annotations

import filecmp
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import nibabel
import numpy as np
import SimpleITK
from numpy.typing import NDArray

from pipeline.core.atomic_files import replacing
from pipeline.core.errors import ConfigError, LdctError
from pipeline.core.hu_scale import MAX_AIR_HU, values_of
from pipeline.core.library_warnings import library_remarks
from pipeline.core.padding import padding_mask
from pipeline.core.refusals import Unreadable, count_of
from pipeline.core.units import AIR_HU
from pipeline.core.volume import Volume
from pipeline.io.itk_reader import (
    ITK_FORMATS,
    StoredImage,
    detached_voxels,
    open_itk,
    read_itk,
    require_all_bytes,
    require_shape,
    suffix_of,
)

NIFTI = (".nii", ".nii.gz")
#: NIfTI of two files: the header, and the voxels.
NIFTI_HEADER, NIFTI_VOXELS = ".hdr", ".img"
WRITTEN_SUFFIXES = (*NIFTI, ".nrrd", ".mha")

LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
#: Labels and pictures have values from 0 to this; `air: accept` does not make them CT.
MAX_GREY_LEVEL = 255.0
#: What lifts the refusal of a file without HU.
ANY_VALUES = "to take its values as HU, --intake air=accept"
#: The end of the reason for refusing a file without HU; such a file may hold labels.
NOT_HU = "not CT in HU"
#: How far sform and qform may differ, and slices from an even grid.
PLACE_TOLERANCE_MM = 0.01
MILLIMETRES = {"mm": 1.0, "meter": 1000.0, "micron": 0.001, "unknown": 1.0}


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
    that are damaged, without a position in the patient, or without HU.
    """
    stored = read_stored(path)
    values, affine, warnings = stored.values, stored.affine_lps, list(stored.warnings)
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
        slice_origins_mm=_even_origins(affine, len(values)),
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
    with unreadable_as(format_of(path)), library_remarks() as heard:
        if not path.stat().st_size:
            raise Unreadable("an empty file")
        stored = (read_itk if suffix_of(path) in ITK_FORMATS else _read_nifti)(path)
        _require_axes(stored.affine_lps)
    return replace(stored, warnings=(*stored.warnings, *heard)) if heard else stored


def read_grid(path: Path) -> tuple[tuple[int, int, int], NDArray[np.float64]]:
    """(slices, rows, columns) and the affine in LPS mm, by the header alone of a readable file.

    Raises Unreadable for a damaged header.
    """
    with unreadable_as(format_of(path)):
        if suffix_of(path) not in ITK_FORMATS:
            header = _open_nifti(path).header
            size = header.get_data_shape()[:3]
            unit = MILLIMETRES[header.get_xyzt_units()[0]]
            affine = LPS_TO_RAS @ _nifti_affine(header, size, unit)
        else:
            reader, affine = open_itk(path)
            size = reader.GetSize()
        return (size[2], size[1], size[0]), affine


@contextmanager
def unreadable_as(name: str) -> Iterator[None]:
    """Turn whatever the block raises into an Unreadable with its last line; name: the format's."""
    try:
        yield
    except Unreadable:
        raise
    except Exception as error:  # image libraries raise many kinds on damaged files
        reason = (str(error).strip() or type(error).__name__).splitlines()[-1]
        raise Unreadable(f"cannot be read as {name}: {reason[:200]}") from error


def _require_axes(affine: NDArray[np.float64]) -> None:
    if not np.isfinite(affine).all() or np.linalg.det(affine[:3, :3]) == 0:
        raise Unreadable("the axes of the image do not span space", "affine", affine.tolist())


def _even_origins(affine: NDArray[np.float64], slices: int) -> NDArray[np.float64]:
    return affine[:3, 3] + np.arange(slices)[:, None] * affine[:3, 2]


def _open_nifti(path: Path) -> nibabel.Nifti1Pair:
    image = nibabel.load(path)
    if not isinstance(image, nibabel.Nifti1Pair):  # Analyze 7.5 has no place in the patient
        raise Unreadable("not NIfTI but Analyze: convert it", "magic", type(image).__name__)
    return image


def _read_nifti(path: Path) -> StoredImage:
    image = _open_nifti(path)
    header = image.header
    shape = image.shape
    while len(shape) > 3 and shape[-1] == 1:
        shape = shape[:-1]
    require_shape(shape)
    kind = header.get_data_dtype()
    if kind.kind not in "iuf":
        raise Unreadable("not one grey value a voxel", "datatype", kind)
    length = math.prod(shape) * kind.itemsize
    packed = suffix_of(path) == ".nii.gz"
    voxels = voxel_file(path) or path
    require_all_bytes(voxels, 0, int(header["vox_offset"]) + length, packed=packed)
    unit = header.get_xyzt_units()[0]
    affine = _nifti_affine(header, shape, MILLIMETRES[unit])
    warnings = ["the file names no unit of length: taken as mm"] if unit == "unknown" else []
    proxy = image.dataobj
    stored = np.asanyarray(proxy.get_unscaled()).reshape(shape).T
    values = np.empty(stored.shape, np.float32)
    for number, plane in enumerate(stored):  # one by one, so that only a slice needs float64
        values[number] = plane * np.float64(proxy.slope) + np.float64(proxy.inter)
    return StoredImage(values, LPS_TO_RAS @ affine, tuple(warnings))


def _nifti_affine(
    header: nibabel.Nifti1Header, shape: tuple[int, ...], millimetres: float
) -> NDArray[np.float64]:
    """From (column, row, slice) to RAS mm, by the sform or else the qform that has a code.

    Raises Unreadable where neither has one, or both have and disagree.
    """
    by_sform, by_qform = header.get_sform(coded=True)[0], header.get_qform(coded=True)[0]
    affine = by_qform if by_sform is None else by_sform
    if affine is None:
        raise Unreadable("no place in the patient: neither form has a code", "sform_code", 0)
    if by_sform is not None and by_qform is not None:
        corners = np.array(list(np.ndindex(2, 2, 2))) * (np.array(shape) - 1)
        offsets = (by_sform - by_qform) @ np.c_[corners, np.ones(8)].T
        # Of its quaternion the qform keeps three parts in float32. They give the real part badly
        # where it is small: the turn is then known to a milliradian only.
        real = header.get_qform_quaternion()[0]
        epsilon = 3 * np.finfo(np.float32).eps
        turn = 2 * epsilon / max(real, math.sqrt(epsilon))
        reach = np.linalg.norm(by_sform[:3, :3] @ corners[-1])
        allowed = PLACE_TOLERANCE_MM / millimetres + turn * reach * (np.arange(8) > 0)
        distances = np.linalg.norm(offsets, axis=0)
        if (distances > allowed).any():
            farthest = f"{distances.max() * millimetres:.3f} mm apart"
            raise Unreadable("sform and qform disagree: keep the true one", "qform", farthest)
    return np.diag([millimetres] * 3 + [1]) @ affine


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
    even = _even_origins(affine_lps, len(values))
    off_mm = np.linalg.norm(slice_origins_mm - even, axis=1).max()
    if off_mm > PLACE_TOLERANCE_MM:
        reason = f"slices up to {off_mm:.2f} mm off an even grid, which only DICOM can hold"
        raise LdctError(f"{path}: {reason}; nothing written")
    with replacing(path) as partial:
        write = _write_nifti if suffix_of(path) in NIFTI else _write_itk
        write(values, affine_lps, partial, texts or {})
        if path.exists() and not filecmp.cmp(path, partial, shallow=False):
            raise LdctError(f"{path} exists and holds something else; choose another name")


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
