"""Read NIfTI-1 files (nifti.nimh.nih.gov): their values, and their place by sform or qform."""

from __future__ import annotations

import math
from pathlib import Path

import nibabel
import numpy as np
from numpy.typing import NDArray

from pipeline.core.refusals import Unreadable
from pipeline.io.image_formats import voxel_file
from pipeline.io.itk_reader import (
    StoredImage,
    require_all_bytes,
    require_shape,
    suffix_of,
)

#: NIfTI has patient coordinates with x to the right and y to the front, DICOM the reverse.
LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
#: How far sform and qform may differ, and slices from an even grid.
PLACE_TOLERANCE_MM = 0.01
#: Of each unit of length; files without one are in mm.
MILLIMETRES = {"mm": 1.0, "meter": 1000.0, "micron": 0.001, "unknown": 1.0}


def nifti_grid(path: Path) -> tuple[tuple[int, ...], NDArray[np.float64]]:
    """(columns, rows, slices) and the affine in LPS mm, by the header alone.

    Raises Unreadable for Analyze and for a header without a place; nibabel raises many kinds.
    """
    header = _opened(path).header
    size = header.get_data_shape()[:3]
    return size, _affine_lps(header, size)


def _opened(path: Path) -> nibabel.Nifti1Pair:
    image = nibabel.load(path)
    if not isinstance(image, nibabel.Nifti1Pair):  # Analyze 7.5 has no place in the patient
        raise Unreadable("not NIfTI but Analyze: convert it", "magic", type(image).__name__)
    return image


def read_nifti(path: Path) -> StoredImage:
    """A NIfTI file's values and place.

    Raises Unreadable for Analyze, a file that is cut short, more than three dimensions or one
    value a voxel, and no place in the patient; nibabel raises many kinds on damaged files.
    """
    image = _opened(path)
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
    affine_lps = _affine_lps(header, shape)
    unknown_unit = header.get_xyzt_units()[0] == "unknown"
    warnings = ["the file names no unit of length: taken as mm"] if unknown_unit else []
    proxy = image.dataobj
    stored = np.asanyarray(proxy.get_unscaled()).reshape(shape).T
    values = np.empty(stored.shape, np.float32)
    for number, plane in enumerate(stored):  # one by one, so that only a slice needs float64
        values[number] = plane * np.float64(proxy.slope) + np.float64(proxy.inter)
    return StoredImage(values, affine_lps, tuple(warnings))


def _affine_lps(header: nibabel.Nifti1Header, shape: tuple[int, ...]) -> NDArray[np.float64]:
    """From (column, row, slice) to LPS mm, by the sform or else the qform that has a code.

    Raises Unreadable where neither has one, or both have and disagree.
    """
    millimetres = MILLIMETRES[header.get_xyzt_units()[0]]
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
    return LPS_TO_RAS @ (np.diag([millimetres] * 3 + [1]) @ affine)
