"""Read NRRD and MetaImage files with ITK, and check the header fields that ITK ignores.

ITK ignores units, slopes and missing positions, so that the text headers are parsed here as well.
"""

from __future__ import annotations

import math
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import SimpleITK
from numpy.typing import NDArray

from pipeline.core.library_warnings import native_messages
from pipeline.core.refusals import Unreadable

#: Formats by suffix, the second of each with its voxels in a file of their own.
ITK_FORMATS = {".nrrd": "NRRD", ".nhdr": "NRRD", ".mha": "MetaImage", ".mhd": "MetaImage"}
#: More than a thousand slices of 1024 x 1024; a larger image is not read.
MAX_VOXELS = 2**30
MAX_HEADER_BYTES = 1024 * 1024  # of text, at most
#: Bytes that are unpacked at once: Deflate unpacks them to a thousand times as many at most.
CHUNK_BYTES = 8192
#: Encodings by the names of NRRD and of MetaImage's CompressedData; ITK has no decoder for others.
PACKED_ENCODINGS, PLAIN_ENCODINGS = ("gzip", "gz", "true"), ("raw", "false", "")
TEXT_ENCODINGS = ("ascii", "text", "txt", "hex")
#: Header fields without which ITK assumes a default place, with their other names after a bar.
PLACE_FIELDS = {
    "NRRD": ("space", "space directions", "space origin"),
    "MetaImage": (
        "transformmatrix|rotation|orientation",
        "offset|position|origin",
        "elementspacing|elementsize",
    ),
}
#: Header fields that ITK ignores, and the only value that is right then.
ONLY_SUPPORTED = {
    "space units": "mm",
    "distanceunits": "mm",
    "elementtointensityfunctionslope": 1.0,
    "elementtointensityfunctionoffset": 0.0,
}


@dataclass(frozen=True)
class StoredImage:
    """A file's values [slices, rows, columns], their affine from (column, row, slice) to LPS mm,
    and warnings."""

    values: NDArray[np.float32]
    affine_lps: NDArray[np.float64]
    warnings: tuple[str, ...] = ()


def suffix_of(path: Path) -> str:
    """The suffix that names the format, in lower case; .nii.gz is one."""
    name = path.name.lower()
    return ".nii.gz" if name.endswith(".nii.gz") else path.suffix.lower()


def read_itk(path: Path) -> StoredImage:
    """An NRRD or MetaImage file's values and place.

    Raises Unreadable for headers that ITK would misread, for more than one value a voxel, and
    for a file that is cut short; ITK raises RuntimeError for what it cannot read.
    """
    source = ITK_FORMATS[suffix_of(path)]
    fields, start = _text_header(path, source)
    voxels, start = _voxels(path, start, fields)
    _require_known(fields, source)
    _encoding(fields)
    reader, affine = open_itk(path)
    if reader.GetNumberOfComponents() != 1:
        raise Unreadable("not one grey value a voxel", "components", reader.GetNumberOfComponents())
    if source == "NRRD" and reader.GetMetaData("NRRD_space") != "left-posterior-superior":
        # ITK converts anatomical spaces to this one, and takes all others for it.
        raise Unreadable("not a patient's space", "space", fields["space"])
    require_shape(reader.GetSize())
    sample = SimpleITK.GetArrayViewFromImage(SimpleITK.Image([1] * 3, reader.GetPixelIDValue()))
    length = math.prod(reader.GetSize()) * sample.itemsize
    if (encoding := _encoding(fields)) not in TEXT_ENCODINGS:  # of numbers as text ITK finds all
        require_all_bytes(voxels, start, length, packed=encoding in PACKED_ENCODINGS)
    size = voxels.stat().st_size - start
    if int(fields.get("compresseddatasize", size)) != size:
        raise Unreadable(f"expected {size}", "compresseddatasize", fields["compresseddatasize"])
    values = SimpleITK.GetArrayFromImage(reader.Execute()).astype(np.float32)
    return StoredImage(values, affine)


def _encoding(fields: dict[str, str]) -> str:
    """How the voxels are written; raises Unreadable for what ITK cannot decode."""
    encoding = (fields.get("encoding") or fields.get("compresseddata") or "").lower()
    if encoding not in (*PACKED_ENCODINGS, *PLAIN_ENCODINGS, *TEXT_ENCODINGS):
        raise Unreadable("no decoder: save it with encoding gzip or raw", "encoding", encoding)
    return encoding


def detached_voxels(path: Path) -> Path | None:
    """The file that an NRRD or MetaImage header names for its voxels; None where there is none."""
    try:
        voxels, _ = _voxels(path, *_text_header(path, ITK_FORMATS[suffix_of(path)])[::-1])
    except (Unreadable, OSError):
        return None
    return None if voxels == path else voxels


def open_itk(path: Path) -> tuple[SimpleITK.ImageFileReader, NDArray[np.float64]]:
    """ITK's reader with the header read, and the affine in LPS mm; no voxels are read."""
    reader = SimpleITK.ImageFileReader()
    reader.SetImageIO("NrrdImageIO" if ITK_FORMATS[suffix_of(path)] == "NRRD" else "MetaImageIO")
    reader.SetFileName(str(path))
    _read_information(reader)
    affine = np.eye(4)
    affine[:3, :3] = np.reshape(reader.GetDirection(), (3, 3)) * np.array(reader.GetSpacing())
    affine[:3, 3] = reader.GetOrigin()
    return reader, affine


def _read_information(reader: SimpleITK.ImageFileReader) -> None:
    """Raises RuntimeError with what MetaIO says on stderr, which ITK's own error leaves out."""
    with native_messages() as messages:
        try:
            reader.ReadImageInformation()
            return
        except RuntimeError as error:
            failure = error
    said = next((line.strip() for line in messages if line.strip()), str(failure))
    raise RuntimeError(said) from failure


def _text_header(path: Path, source: str) -> tuple[dict[str, str], int]:
    """The header's fields by name in lower case, of which ITK returns only some, and its length."""
    with path.open("rb") as stream:
        lines = stream.read(MAX_HEADER_BYTES).decode("latin-1").split("\n")
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
    """Raises Unreadable for fields that ITK ignores and that must not be ignored."""
    for names in PLACE_FIELDS[source]:
        if not any(name in fields for name in names.split("|")):
            raise Unreadable(f"no place in the patient: no {names.split('|')[0]}", names)
    for name, only in ONLY_SUPPORTED.items():
        for value in fields.get(name, str(only)).replace('"', " ").split():
            if value != only and (only == "mm" or float(value) != only):
                raise Unreadable(f"expected {only}", name, fields[name])


def require_shape(shape: tuple[int, ...]) -> None:
    """Raises Unreadable for anything but three dimensions with up to MAX_VOXELS voxels."""
    if len(shape) != 3 or min(shape) < 1 or math.prod(shape) > MAX_VOXELS:
        raise Unreadable("expected three dimensions of a size that CT has", "dimensions", shape)


def require_all_bytes(path: Path, start: int, length: int, *, packed: bool) -> None:
    """Raises Unreadable where a file has less than `length` bytes of voxels from `start` on.

    packed: unpack them, to the checksum: ITK takes a damaged stream for an image, and nibabel
    does not read the checksum. Raises zlib.error for a damaged stream.
    """
    found, unpacker = 0, zlib.decompressobj(wbits=47)  # zlib or gzip
    with path.open("rb") as stream:
        stream.seek(start)
        while packed and (part := stream.read(CHUNK_BYTES)):
            while part:
                found += len(unpacker.decompress(part))
                if found >= length and (unpacker.eof or found > length + MAX_HEADER_BYTES):
                    return
                part = unpacker.unused_data
                if unpacker.eof:  # a gzip file may be several, end to end
                    unpacker = zlib.decompressobj(wbits=47)
    if packed or path.stat().st_size < start + length:
        raise Unreadable(f"cut short: the voxels need {length} bytes", "voxels")
