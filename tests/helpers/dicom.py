"""CT slices made to order, and the bytes of a file as they lie there."""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_data_element, write_file_meta_info
from pydicom.tag import Tag
from pydicom.uid import CTImageStorage, ExplicitVRBigEndian, ExplicitVRLittleEndian

from pipeline.core.refusals import Disposition, Refusal
from pipeline.dicom.derived.write import DENOISED, Operation
from pipeline.dicom.read.series import Series, find_series

KEY = b"a key for the tests, 32 bytes long"
ROOT_UID = "1.2.826.0.1.3680043.8.498.77"
ROWS, COLUMNS, STEP_MM = 16, 12, 2.5
LONG_VR = ("OB", "OW", "SQ", "UN", "UT", "UC", "UR", "OF", "OD", "OL")

OPERATION = Operation(
    label="AI DENOISED test v1",
    description="Noise reduction by neural network. Model test version 1.",
    code=DENOISED,
    equipment="test",
    equipment_version="1",
    identity="test/1/abc",
)

#: The same with what the check asks of a model's operation: the digest of its weights.
NAMED = replace(OPERATION, description=f"Noise reduction. Model test version 1, {'ab' * 32}.")

Edit = Callable[[Dataset, int], None]


def ramp(index: int = 0) -> NDArray[np.int16]:
    """Stored values that differ in every voxel of a series, all of them plausible HU + 1024."""
    return (np.arange(ROWS * COLUMNS).reshape(ROWS, COLUMNS) * 7 + 100 + index).astype(np.int16)


def ct_slice(index: int = 0, stored: NDArray | None = None, **attributes: Any) -> Dataset:
    """A small CT image; an attribute given as None is left out."""
    stored = ramp(index) if stored is None else stored
    dataset = Dataset()
    values: dict[str, Any] = {
        "SpecificCharacterSet": "ISO_IR 192",
        "SOPClassUID": CTImageStorage,
        "SOPInstanceUID": f"{ROOT_UID}.3.{index + 1}",
        "StudyInstanceUID": f"{ROOT_UID}.1",
        "SeriesInstanceUID": f"{ROOT_UID}.2",
        "FrameOfReferenceUID": f"{ROOT_UID}.4",
        "Modality": "CT",
        "ImageType": ["ORIGINAL", "PRIMARY", "AXIAL"],
        "PatientID": "SECRET-4711",
        "PatientName": "Geheim^Gisela",
        "PatientBirthDate": "19520304",
        "StudyDate": "19991231",
        "StudyID": "1",
        "SeriesNumber": 3,
        "InstanceNumber": index + 1,
        "KVP": "120",
        "ConvolutionKernel": "STANDARD",
        "SliceThickness": "2.50",
        "ImagePositionPatient": ["-10.5", "-20.25", f"{index * STEP_MM:.3f}"],
        "ImageOrientationPatient": ["1", "0", "0", "0", "1", "0"],
        "PixelSpacing": ["0.80", "0.70"],
        "SamplesPerPixel": 1,
        "PhotometricInterpretation": "MONOCHROME2",
        "Rows": stored.shape[0],
        "Columns": stored.shape[1],
        "BitsAllocated": 16,
        "BitsStored": 16,
        "HighBit": 15,
        "PixelRepresentation": int(np.issubdtype(stored.dtype, np.signedinteger)),
        "RescaleSlope": "1",
        "RescaleIntercept": "-1024",
    }
    for name, value in (values | attributes).items():
        if value is not None:
            setattr(dataset, name, value)
    dataset.add_new("PixelData", "OW", stored.astype(stored.dtype.newbyteorder("<")).tobytes())
    return dataset


def save(dataset: Dataset, path: Path, syntax: str = ExplicitVRLittleEndian) -> Path:
    """Write a dataset as a DICOM file in an uncompressed transfer syntax."""
    path.parent.mkdir(parents=True, exist_ok=True)
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.MediaStorageSOPClassUID = dataset.get("SOPClassUID") or CTImageStorage
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.get("SOPInstanceUID") or ROOT_UID
    dataset.file_meta.TransferSyntaxUID = syntax
    if syntax == ExplicitVRBigEndian:
        dataset.PixelData = np.frombuffer(dataset.PixelData, "<i2").astype(">i2").tobytes()
    dataset.save_as(path, enforce_file_format=True)
    return path


def write_series(folder: Path, count: int = 4, *, edit: Edit | None = None, **attributes: Any):
    """A series of `count` small slices in `folder`; returns the paths in order of position."""
    paths = []
    for index in range(count):
        dataset = ct_slice(index, **attributes)
        if edit is not None:
            edit(dataset, index)
        paths.append(save(dataset, folder / f"{index:03d}.dcm"))
    return paths


def copy_slices(paths: list[Path], folder: Path, edit: Edit) -> list[Path]:
    """Edited copies of real slices."""
    folder.mkdir(parents=True, exist_ok=True)
    copies = []
    for index, path in enumerate(paths):
        dataset = pydicom.dcmread(path)
        edit(dataset, index)
        copies.append(folder / f"{index:03d}.dcm")
        dataset.save_as(copies[-1])
    return copies


def in_order(folder: Path) -> list[Path]:
    """A series' files by z, found without the code under test."""
    paths = [path for path in folder.iterdir() if path.is_file()]
    return sorted(
        paths,
        key=lambda path: float(
            pydicom.dcmread(path, stop_before_pixels=True).ImagePositionPatient[2]
        ),
    )


def only_series(folder: Path) -> Series:
    """The one series of a folder in which nothing is refused."""
    found = find_series(folder)
    assert found.refusals == []
    assert len(found.series) == 1
    return found.series[0]


def quarantined(refusals: list[Refusal]) -> list[Refusal]:
    return [refusal for refusal in refusals if refusal.disposition is Disposition.QUARANTINED]


def raw_hu(path: Path) -> NDArray[np.float64]:
    """HU of an uncompressed little-endian 16-bit slice from its bytes alone."""
    dataset = pydicom.dcmread(path)
    kind = "<i2" if dataset.PixelRepresentation else "<u2"
    stored = np.frombuffer(dataset.PixelData, kind).reshape(dataset.Rows, dataset.Columns)
    return stored.astype(np.float64) * float(dataset.RescaleSlope) + float(dataset.RescaleIntercept)


def raw_stored(path: Path) -> NDArray:
    dataset = pydicom.dcmread(path)
    kind = "<i2" if dataset.PixelRepresentation else "<u2"
    return np.frombuffer(dataset.PixelData, kind).reshape(dataset.Rows, dataset.Columns)


def encoded(path: Path) -> dict[int, tuple[str, bytes]]:
    """VR and value bytes of every top-level element of an explicit little-endian file, by tag.

    Sequences and pixels are left out.
    """
    content = path.read_bytes()
    dataset = pydicom.dcmread(path, stop_before_pixels=True)
    found = {}
    for tag in sorted(dataset.keys()):
        element = dataset.get_item(tag)
        if element.VR == "SQ":
            continue
        start = element.value_tell if isinstance(element, RawDataElement) else element.file_tell
        length_at, form = (start - 4, "<I") if element.VR in LONG_VR else (start - 2, "<H")
        (length,) = struct.unpack_from(form, content, length_at)
        found[int(tag)] = (str(element.VR), content[start : start + length])
    return found


def tag_of(keyword: str) -> int:
    tag = tag_for_keyword(keyword)
    assert tag is not None, keyword
    return tag


def patch(path: Path, keyword: str, value: bytes) -> None:
    """Put bytes into a file that pydicom would not write so: explicit VR, little endian."""
    assert len(value) % 2 == 0, "DICOM values have even lengths"
    element = pydicom.dcmread(path).get_item(tag_for_keyword(keyword))
    assert isinstance(element, RawDataElement)
    assert element.VR not in LONG_VR
    content = path.read_bytes()
    start, end = element.value_tell, element.value_tell + element.length
    path.write_bytes(content[: start - 2] + struct.pack("<H", len(value)) + value + content[end:])


def put_bytes(path: Path, values: Mapping[int | str, bytes | None], *, stated: str = "") -> None:
    """Put values, as bytes, into a file by tag or keyword (None: leave it out), and write all
    its elements as they are: also group lengths (UL), and what pydicom would write otherwise.

    stated: the transfer syntax that the file says it has, where that is another one.
    """
    dataset = pydicom.dcmread(path)
    implicit, little = dataset.original_encoding
    dataset.file_meta.TransferSyntaxUID = stated or dataset.file_meta.TransferSyntaxUID
    for name, value in values.items():
        tag = Tag(name)
        vr = None if implicit else "UL" if tag.element == 0 else dictionary_VR(tag)
        dataset.pop(tag, None)
        if value is not None:
            dataset[tag] = RawDataElement(tag, vr, len(value), value, 0, implicit, little)
    stream = DicomBytesIO()
    stream.is_implicit_VR, stream.is_little_endian = implicit, little
    stream.write(bytes(128) + b"DICM")
    write_file_meta_info(stream, dataset.file_meta)
    for tag in sorted(dataset.keys()):
        write_data_element(stream, dataset.get_item(tag))
    path.write_bytes(stream.getvalue())


def identifying(path: Path) -> set[str]:
    """What a file says of its patient: ID, name, dates, accession number and every UID.

    Left out: UIDs that DICOM itself hands out, which identify nobody.
    """
    found = set()
    for element in pydicom.dcmread(path, stop_before_pixels=True).iterall():
        named = element.keyword in ("PatientID", "AccessionNumber", "StudyID")
        if named or element.VR in ("UI", "PN", "DA", "DT"):
            values = element.value if element.VM > 1 else [element.value]
            found |= {str(value).strip() for value in values}
    return {text for text in found if len(text) > 3 and not text.startswith("1.2.840.10008.")}
