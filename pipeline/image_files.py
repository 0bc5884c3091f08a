"""CT as NIfTI, NRRD and MetaImage files, in and out: the same values in the same place.

NIfTI-1 (nifti.nimh.nih.gov) places voxels in RAS, NRRD (teem.sourceforge.net/nrrd/format.html)
in a space that it names, MetaImage in LPS. None of them says what its values mean: HU are
recognised by air. ITK passes over units, slopes and missing places of NRRD and MetaImage, so
that their text headers are read here as well.
"""

from __future__ import annotations

import filecmp
import math
import zlib
from pathlib import Path

import nibabel
import numpy as np
import SimpleITK
from numpy.typing import NDArray

from pipeline.dicom.findings import Unreadable
from pipeline.errors import ConfigError, LdctError
from pipeline.files import replacing
from pipeline.units import AIR_HU
from pipeline.volume import Volume

NIFTI = (".nii", ".nii.gz")
#: Formats by suffix, the second of each with its voxels in a file of their own.
ITK = {".nrrd": "NRRD", ".nhdr": "NRRD", ".mha": "MetaImage", ".mhd": "MetaImage"}
WRITTEN = (*NIFTI, ".nrrd", ".mha")

LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
#: More than a thousand slices of 1024 x 1024; what claims to be larger is not read.
LARGEST_VOXELS = 2**30
HEADER_BYTES = 1024 * 1024  # of text, at most
#: Deflate unpacks so many bytes to a thousand times as many at most.
PACKED_BYTES = 8192
#: A CT image shows air, inside of the body or around it; labels and scaled images do not.
HIGHEST_AIR_HU = -200.0
#: Two statements of one place may differ by this much; so may slices from an even grid.
PLACE_TOLERANCE_MM = 0.01
MILLIMETRES = {"mm": 1.0, "meter": 1000.0, "micron": 0.001, "unknown": 1.0}

#: Header fields without which ITK invents a place, with their other names after a bar.
PLACED_BY = {
    "NRRD": ("space", "space directions", "space origin"),
    "MetaImage": (
        "transformmatrix|rotation|orientation",
        "offset|position|origin",
        "elementspacing|elementsize",
    ),
}
#: Header fields that ITK passes over, and the only value that is right without them.
TAKEN_FOR = {
    "space units": "mm",
    "distanceunits": "mm",
    "elementtointensityfunctionslope": 1.0,
    "elementtointensityfunctionoffset": 0.0,
}
#: values [slice, row, column], the affine in LPS, and warnings.
_Stored = tuple[NDArray[np.float32], NDArray[np.float64], list[str]]


def suffix_of(path: Path) -> str:
    """The suffix that names the format, in lower case; .nii.gz is one."""
    name = path.name.lower()
    return ".nii.gz" if name.endswith(".nii.gz") else path.suffix.lower()


def written_suffix(path: Path) -> str:
    """The suffix of what is written for a file read: of two-file formats, the one-file kin."""
    suffix = suffix_of(path)
    return {".nhdr": ".nrrd", ".mhd": ".mha"}.get(suffix, suffix)


def is_image_file(path: Path) -> bool:
    """Whether a file's name says that it is one of these formats."""
    return suffix_of(path) in (*NIFTI, *ITK)


def read_image(path: Path) -> Volume:
    """The file as a volume, its axes in the file's own order.

    Raises Unreadable for files that are damaged, not placed in the patient, or not CT in HU.
    """
    source = "NIfTI" if suffix_of(path) in NIFTI else ITK[suffix_of(path)]
    try:
        if not path.stat().st_size:
            raise Unreadable("an empty file")
        values, affine, warnings = (_read_nifti if source == "NIfTI" else _read_itk)(path)
    except Unreadable:
        raise
    except Exception as error:  # both libraries raise many kinds on damaged files
        reason = (str(error).strip() or type(error).__name__).splitlines()[-1]
        raise Unreadable(f"cannot be read as {source}: {reason[:200]}") from error
    valid = np.isfinite(values)
    lowest = float(values.min(where=valid, initial=math.inf))
    if lowest >= HIGHEST_AIR_HU:
        raise Unreadable(f"no value below {HIGHEST_AIR_HU:g} HU: not CT in HU", "values", lowest)
    if not np.isfinite(affine).all() or np.linalg.det(affine[:3, :3]) == 0:
        raise Unreadable("the axes of the image do not span space", "affine", affine.tolist())
    values[~valid] = AIR_HU
    if np.abs(affine[:3, 2]).argmax() != 2:
        warnings.append("the slices of the file are not axial")
    return Volume(
        image_hu=values,
        valid=valid,
        affine_lps=affine,
        slice_origins_mm=_even_origins(affine, len(values)),
        provenance={"source": source, "warnings": warnings, "evenly_spaced": True},
    )


def _even_origins(affine: NDArray[np.float64], slices: int) -> NDArray[np.float64]:
    return affine[:3, 3] + np.arange(slices)[:, None] * affine[:3, 2]


def _require_shape(shape: tuple[int, ...]) -> None:
    if len(shape) != 3 or min(shape) < 1 or math.prod(shape) > LARGEST_VOXELS:
        raise Unreadable("expected three dimensions of a size that CT has", "dimensions", shape)


def _require_whole(path: Path, start: int, length: int, *, packed: bool) -> None:
    """The bytes that a file claims are there; packed ones agree with their checksum.

    ITK takes a damaged stream for an image, and nibabel does not read to the checksum.
    """
    found, unpacker = 0, zlib.decompressobj(wbits=47)  # zlib or gzip
    with path.open("rb") as stream:
        stream.seek(start)
        while packed and (part := stream.read(PACKED_BYTES)):
            while part:
                found += len(unpacker.decompress(part))
                if found >= length and (unpacker.eof or found > length + HEADER_BYTES):
                    return
                part = unpacker.unused_data
                if unpacker.eof:  # a gzip file may be several, end to end
                    unpacker = zlib.decompressobj(wbits=47)
    if packed or path.stat().st_size < start + length:
        raise Unreadable(f"cut short: the voxels need {length} bytes", "voxels")


def _read_nifti(path: Path) -> _Stored:
    image = nibabel.load(path)
    header = image.header
    shape = image.shape
    while len(shape) > 3 and shape[-1] == 1:
        shape = shape[:-1]
    _require_shape(shape)
    kind = header.get_data_dtype()
    if kind.kind not in "iuf":
        raise Unreadable("not one grey value a voxel", "datatype", kind)
    length = math.prod(shape) * kind.itemsize
    _require_whole(path, 0, int(header["vox_offset"]) + length, packed=suffix_of(path) == ".nii.gz")
    unit = header.get_xyzt_units()[0]
    affine = _nifti_affine(header, shape, MILLIMETRES[unit])
    warnings = ["the file names no unit of length: taken as mm"] if unit == "unknown" else []
    proxy = image.dataobj
    stored = np.asanyarray(proxy.get_unscaled()).reshape(shape).T
    values = np.empty(stored.shape, np.float32)
    for number, plane in enumerate(stored):  # one by one, so that only a slice needs float64
        values[number] = plane * np.float64(proxy.slope) + np.float64(proxy.inter)
    return values, LPS_TO_RAS @ affine, warnings


def _nifti_affine(
    header: nibabel.Nifti1Header, shape: tuple[int, ...], millimetres: float
) -> NDArray[np.float64]:
    """From (column, row, slice) to RAS mm, by whichever form has a code."""
    by_sform, by_qform = header.get_sform(coded=True)[0], header.get_qform(coded=True)[0]
    affine = by_qform if by_sform is None else by_sform
    if affine is None:
        raise Unreadable("no place in the patient: neither form has a code", "sform_code", 0)
    if by_sform is not None and by_qform is not None:
        corners = np.array(list(np.ndindex(2, 2, 2))) * (np.array(shape) - 1)
        apart = (by_sform - by_qform) @ np.c_[corners, np.ones(8)].T
        # Of its quaternion the qform keeps three parts in float32. They give the real part badly
        # where it is small: the turn is then known to a milliradian only.
        real = header.get_qform_quaternion()[0]
        epsilon = 3 * np.finfo(np.float32).eps
        turn = 2 * epsilon / max(real, math.sqrt(epsilon))
        reach = np.linalg.norm(by_sform[:3, :3] @ corners[-1])
        allowed = PLACE_TOLERANCE_MM / millimetres + turn * reach * (np.arange(8) > 0)
        distances = np.linalg.norm(apart, axis=0)
        if (distances > allowed).any():
            farthest = f"{distances.max() * millimetres:.3f} mm apart"
            raise Unreadable("sform and qform disagree: keep the true one", "qform", farthest)
    return np.diag([millimetres] * 3 + [1]) @ affine


def _read_itk(path: Path) -> _Stored:
    source = ITK[suffix_of(path)]
    fields, start = _text_header(path, source)
    voxels, start = _voxels(path, start, fields)
    _require_known(fields, source)
    reader, affine = _opened(path)
    if reader.GetNumberOfComponents() != 1:
        raise Unreadable("not one grey value a voxel", "components", reader.GetNumberOfComponents())
    if source == "NRRD" and reader.GetMetaData("NRRD_space") != "left-posterior-superior":
        # ITK turns the spaces of patients into this one, and takes all others for it.
        raise Unreadable("not a patient's space", "space", fields["space"])
    _require_shape(reader.GetSize())
    sample = SimpleITK.GetArrayViewFromImage(SimpleITK.Image([1] * 3, reader.GetPixelIDValue()))
    length = math.prod(reader.GetSize()) * sample.itemsize
    said = (fields.get("encoding") or fields.get("compresseddata") or "").lower()
    _require_whole(voxels, start, length, packed=said in ("gzip", "gz", "true"))
    size = voxels.stat().st_size - start
    if int(fields.get("compresseddatasize", size)) != size:
        raise Unreadable(f"expected {size}", "compresseddatasize", fields["compresseddatasize"])
    return SimpleITK.GetArrayFromImage(reader.Execute()).astype(np.float32), affine, []


def _opened(path: Path) -> tuple[SimpleITK.ImageFileReader, NDArray[np.float64]]:
    """What ITK makes of the header, and the affine in LPS; no voxels yet."""
    reader = SimpleITK.ImageFileReader()
    reader.SetImageIO("NrrdImageIO" if ITK[suffix_of(path)] == "NRRD" else "MetaImageIO")
    reader.SetFileName(str(path))
    reader.ReadImageInformation()
    affine = np.eye(4)
    affine[:3, :3] = np.reshape(reader.GetDirection(), (3, 3)) * np.array(reader.GetSpacing())
    affine[:3, 3] = reader.GetOrigin()
    return reader, affine


def _text_header(path: Path, source: str) -> tuple[dict[str, str], int]:
    """Values by the field's name in lower case, as ITK tells of some only; the header's length."""
    with path.open("rb") as stream:
        lines = stream.read(HEADER_BYTES).decode("latin-1").split("\n")
    fields: dict[str, str] = {}
    length = 0
    for line in lines:
        length += len(line) + 1
        name, _, value = line.strip().partition(":" if source == "NRRD" else "=")
        if not name:
            break  # a blank line ends an NRRD header
        if not value.startswith("="):  # of NRRD's free keys
            fields.setdefault(name.strip().lower(), value.strip())
        if "elementdatafile" in fields:
            break
    if not (lines[0].startswith("NRRD") if source == "NRRD" else "ndims" in fields):
        raise Unreadable(f"not {source}, though its name says so")
    return fields, length


def _voxels(path: Path, start: int, fields: dict[str, str]) -> tuple[Path, int]:
    """Where the voxels begin: behind the header, or in one other file in the same folder."""
    name = fields.get("data file") or fields.get("datafile") or fields.get("elementdatafile")
    if name is None or name.lower() == "local":
        return path, start
    if Path(name).name != name or not path.with_name(name).is_file():
        raise Unreadable("the voxels are not in one file beside the header", "data file", name)
    return path.with_name(name), 0


def _require_known(fields: dict[str, str], source: str) -> None:
    """Refuse what ITK would pass over in silence."""
    for names in PLACED_BY[source]:
        if not any(name in fields for name in names.split("|")):
            raise Unreadable(f"no place in the patient: no {names.split('|')[0]}", names)
    for name, only in TAKEN_FOR.items():
        for value in fields.get(name, str(only)).replace('"', " ").split():
            if value != only and (only == "mm" or float(value) != only):
                raise Unreadable(f"expected {only}", name, fields[name])


def write_image(volume: Volume, path: Path) -> None:
    """Write HU as float32, whole or not at all; the same file again is harmless.

    Raises LdctError where the format cannot hold the place of every slice, and for a file that
    exists and differs. NIfTI keeps the affine as float32, to 0.00003 mm at a metre; none of
    the formats keeps what was valid, so that padding comes back as measured air.
    """
    if not path.name.endswith(WRITTEN):
        raise ConfigError(f"cannot write {path}: choose one of {', '.join(WRITTEN)}")
    if not np.isfinite(volume.image_hu).all():
        raise LdctError(f"{path}: the image holds values that are not numbers; nothing written")
    even = _even_origins(volume.affine_lps, len(volume.image_hu))
    off_mm = np.linalg.norm(volume.slice_origins_mm - even, axis=1).max()
    if off_mm > PLACE_TOLERANCE_MM:
        reason = f"slices up to {off_mm:.2f} mm off an even grid, which only DICOM can hold"
        raise LdctError(f"{path}: {reason}; nothing written")
    with replacing(path) as partial:
        (_write_nifti if suffix_of(path) in NIFTI else _write_itk)(volume, partial)
        if path.exists() and not filecmp.cmp(path, partial, shallow=False):
            raise LdctError(f"{path} exists and holds something else; choose another name")


def _write_nifti(volume: Volume, path: Path) -> None:
    affine = LPS_TO_RAS @ volume.affine_lps
    image = nibabel.Nifti1Image(np.asarray(volume.image_hu, np.float32).T, affine)
    # The sform alone: a qform holds no shear, and turns of half a milliradian at best.
    image.header.set_sform(affine, code="scanner")
    image.header.set_xyzt_units("mm")
    nibabel.save(image, path)


def _write_itk(volume: Volume, path: Path) -> None:
    image = SimpleITK.GetImageFromArray(np.ascontiguousarray(volume.image_hu, np.float32))
    axes = volume.affine_lps[:3, :3]
    spacing = np.linalg.norm(axes, axis=0)
    image.SetSpacing(spacing.tolist())
    image.SetDirection((axes / spacing).ravel().tolist())
    image.SetOrigin(volume.affine_lps[:3, 3].tolist())
    SimpleITK.WriteImage(image, str(path))
    if np.abs(_opened(path)[1] - volume.affine_lps).max() > PLACE_TOLERANCE_MM / 1000:
        raise LdctError("this format does not hold the axes of the image: choose .nii or .nii.gz")
