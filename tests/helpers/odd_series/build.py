"""The files of a case, and the volume that a reader must find in them."""

from __future__ import annotations

import random
import struct
import zipfile
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom.uid import CTImageStorage, EnhancedSRStorage

from helpers.odd_series.attributes import header_elements, joined, pixel_description
from helpers.odd_series.case import OddSeries, Storage
from helpers.odd_series.codecs import compressed
from helpers.odd_series.encoding import (
    PIXEL_DATA,
    TRAILING_PADDING,
    Element,
    Encoding,
    file_bytes,
    text,
)
from helpers.odd_series.pixels import SlicePixels, padding_elements, slice_pixels

ROOT_UID = "1.2.826.0.1.3680043.8.498.24"
PRIVATE_CLASS = "1.3.12.2.1107.5.9.1"  # Siemens' CSA non-image storage


@dataclass(frozen=True)
class Known:
    """What must be found: HU, where they are valid [slices, rows, columns], the affine, stored
    values, and the number of files that are no slices or copies."""

    image_hu: NDArray[np.float32]
    valid: NDArray[np.bool_]
    affine_lps: NDArray[np.float64]
    stored: NDArray
    excluded: int


def write_series(case: OddSeries, folder: Path) -> Known:
    """Write the case's files below `folder`."""
    slices = [
        slice_pixels(case.coding, case.padding, case.content, (case.rows, case.columns), index)
        for index in range(case.geometry.slices)
    ]
    contents = [_slice_file(case, pixels, index) for index, pixels in enumerate(slices)]
    files = _named(contents, case.storage)
    if case.storage.copy:
        files["copy of a slice"] = contents[0]
    excluded = int(case.storage.copy)
    for kind in case.storage.beside:
        name, content = _beside(case, kind)
        files[name] = content
        excluded += 1
    _write(files, folder, zipped=case.storage.zipped)
    order = case.geometry.order
    return Known(
        image_hu=np.stack([slices[n].image_hu for n in order]),
        valid=np.stack([slices[n].valid for n in order]),
        affine_lps=case.geometry.affine_lps,
        stored=np.stack([slices[n].stored for n in order]),
        excluded=excluded,
    )


def _slice_file(case: OddSeries, pixels: SlicePixels, index: int) -> bytes:
    uid = f"{ROOT_UID}.3.{index + 1}"
    elements = [
        *_identity(CTImageStorage, uid),
        *header_elements(case.header, index, case.geometry.slices),
        *_geometry(case, index),
        *_pixel_module(case, pixels),
    ]
    return _file(elements, case.storage, (CTImageStorage, uid))


def _identity(sop_class: str, uid: str) -> list[Element]:
    return [
        text("SOPClassUID", sop_class),
        text("SOPInstanceUID", uid),
        text("StudyInstanceUID", f"{ROOT_UID}.1"),
        text("SeriesInstanceUID", f"{ROOT_UID}.2"),
        text("FrameOfReferenceUID", f"{ROOT_UID}.4"),
        text("PatientID", "SECRET-4711"),
        text("Modality", "CT"),
    ]


def _geometry(case: OddSeries, index: int) -> list[Element]:
    geometry = case.geometry
    return [
        text("PixelSpacing", joined(geometry.spacing)),
        text("ImageOrientationPatient", joined(geometry.cosines[index])),
        text("ImagePositionPatient", joined(geometry.positions[index])),
    ]


def _pixel_module(case: OddSeries, pixels: SlicePixels) -> list[Element]:
    coding = case.coding
    high_bit = 15 if coding.top else coding.bits - 1
    found = [
        *pixel_description(
            case.rows, case.columns, (coding.bits, coding.signed, high_bit), case.header.photometric
        ),
        *padding_elements(coding, case.padding),
        text("RescaleSlope", coding.rescale[0]),
        text("RescaleIntercept", coding.rescale[1]),
        _pixel_data(case, pixels),
    ]
    for plane, bit in enumerate(case.content.overlay_bits):
        found += _overlay(case, plane, bit)
    return found


def _pixel_data(case: OddSeries, pixels: SlicePixels) -> Element:
    if not case.storage.is_compressed:
        return Element(PIXEL_DATA, "OW", pixels.cells.tobytes())
    cells = pixels.cells.view(case.coding.dtype)
    stream = compressed(cells, case.coding.bits, case.storage.syntax)
    parts = _split(stream + b"\0" * (len(stream) % 2), case.storage.fragments)
    table = struct.pack("<I", 0) if case.storage.offsets else b""
    return Element(PIXEL_DATA, "OB", fragments=(table, *parts))


def _split(stream: bytes, count: int) -> list[bytes]:
    """Fragments of even lengths (PS3.5 A.4)."""
    size = max(2, len(stream) // count // 2 * 2)
    cuts = [*range(0, size * count, size)][:count]
    return [stream[at : at + size if at != cuts[-1] else None] for at in cuts]


def _overlay(case: OddSeries, plane: int, bit: int) -> list[Element]:
    """An overlay in the pixels' unused bits, retired with the 2004 edition (PS3.3 C.9.2)."""
    group = 0x6000 + 2 * plane << 16
    return [
        Element(group | 0x0010, "US", struct.pack("<H", case.rows)),
        Element(group | 0x0011, "US", struct.pack("<H", case.columns)),
        Element(group | 0x0040, "CS", b"G"),
        Element(group | 0x0050, "SS", struct.pack("<hh", 1, 1)),
        Element(group | 0x0100, "US", struct.pack("<H", 16)),
        Element(group | 0x0102, "US", struct.pack("<H", bit)),
    ]


def _file(elements: list[Element], storage: Storage, sop: tuple[str, str]) -> bytes:
    how = Encoding(storage.syntax, storage.undefined, storage.group_lengths)
    if storage.trailing_padding:
        elements = [*elements, Element(TRAILING_PADDING, "OB", bytes(storage.trailing_padding))]
    return file_bytes(elements, how, sop=sop, start=storage.start)


def _named(contents: list[bytes], storage: Storage) -> dict[str, bytes]:
    """Files by names in an order of their own."""
    numbers = list(range(len(contents)))
    random.Random(storage.shuffle_seed).shuffle(numbers)
    form = {
        "numbers": "{:03d}.dcm",
        "uids": "CT." + ROOT_UID + ".3.{}",
        "no suffix": "IM{:05d}",
        "folders": "d{0}/S {0}/Bild ü{0}.IMA",
        "letters": "{:x}",
    }[storage.names]
    return {form.format(n): content for n, content in zip(numbers, contents, strict=True)}


def _beside(case: OddSeries, kind: str) -> tuple[str, bytes]:
    """Another file in the folder: (name, content)."""
    uid = f"{ROOT_UID}.9.{len(kind)}"
    if kind == "text":
        return "readme.txt", b"Exported by a workstation\n"
    if kind == "hidden":
        return ".DS_Store", bytes(100)
    if kind == "localizer":
        scout = replace(
            case.header, image_type="ORIGINAL\\PRIMARY\\LOCALIZER", left_out=frozenset()
        )
        pixels = slice_pixels(
            case.coding, case.padding, case.content, (case.rows, case.columns), 99
        )
        elements = [
            *_identity(CTImageStorage, uid),
            *header_elements(scout, 0, 1),
            *_geometry(case, 0),
            *_pixel_module(case, pixels),
        ]
        return "scout", _file(elements, case.storage, (CTImageStorage, uid))
    sop_class = PRIVATE_CLASS if kind == "private class" else EnhancedSRStorage
    storage = replace(case.storage, syntax=Storage().syntax, start="preamble")
    elements = [*_identity(sop_class, uid), *header_elements(case.header, 0, 1)]
    return kind, _file(elements, storage, (sop_class, uid))


def _write(files: dict[str, bytes], folder: Path, *, zipped: bool) -> None:
    if zipped:
        with zipfile.ZipFile(folder / "study.zip", "w") as archive:
            for name, content in files.items():
                archive.writestr(name, content)
        return
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
