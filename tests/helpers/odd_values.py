"""Series whose values are padded, coded or named in odd ways, and their way through the export."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from pydicom.uid import (
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

from helpers.dicom import (
    NAMED,
    ROOT_UID,
    ct_slice,
    in_order,
    put_bytes,
    raw_hu,
    save,
)
from pipeline.dicom.derived.check import check_tree
from pipeline.dicom.read.series import find_series
from pipeline.dicom.read.volume import SliceReader
from pipeline.export.series import Export, ExportReport, publish

SLICES = 3
SYNTAXES = {
    "implicit": ImplicitVRLittleEndian,
    "explicit": ExplicitVRLittleEndian,
    "big endian": ExplicitVRBigEndian,
}
LATIN, UTF8, JAPANESE = "Jürgen^Ünal".encode("latin-1"), "Jürgen^Ünal".encode(), b"\x1b$B;3ED\x1b(B"
ODD: dict[str, Mapping[int | str, bytes]] = {
    "blank name": {"ReferringPhysicianName": b"  "},
    "name of NULs": {"ReferringPhysicianName": b"\0\0"},
    "name with empty components": {"PatientName": b"Geheim^Gisela^^^", "OperatorsName": b"^^^ "},
    "name with empty groups": {"PatientName": b"Geheim^Gisela== "},
    "blanks about numbers": {
        "PixelSpacing": b" 0.80\\ 0.70  ",
        "ImageOrientationPatient": b" 1\\0\\ 0\\0\\1 \\0 ",
        "SliceThickness": b"  2.50",
        "RescaleSlope": b" 1",
        "RescaleIntercept": b"-1024   ",
        "WindowCenter": b" 40 ",
        "WindowWidth": b"400.00",
        "KVP": b" 120  ",
    },
    "numbers padded with NULs": {
        "PixelSpacing": b"0.80\\0.70\0\0\0",
        "RescaleIntercept": b"-1024\0",
        "SeriesNumber": b"3\0\0\0",
    },
    "NUL within numbers": {"PixelSpacing": b"0.80\0\\0.70"},
    "blanks about integers": {"SeriesNumber": b" 3  ", "AcquisitionNumber": b"    "},
    "no integer where none is needed": {"XRayTubeCurrent": b"abc ", "Exposure": b"1.#QNAN "},
    "codes in lower case": {
        "Modality": b" ct ",
        "ImageType": b"original \\Primary\\ axial",
        "PatientSex": b"m ",
        "PatientPosition": b"hfs ",
        "PhotometricInterpretation": b"monochrome2 ",
        "RescaleType": b"HU\0\0",
    },
    "padded text": {
        "PatientID": b"  SECRET-4711 ",
        "StudyDescription": b"    ",
        "PatientComments": b"abc\0\0\0",
        "StudyID": b" 1  ",
        "AccessionNumber": b"    ",
        "SeriesDescription": b"Thorax\0\0",
    },
    "tabs and control characters": {"SeriesDescription": b"Tho\trax\r\n\x07 ", "StudyID": b"\x01 "},
    "blank date, time and age": {
        "StudyDate": b" " * 8,
        "StudyTime": b" " * 6,
        "PatientAge": b"\0\0\0\0",
        "PatientBirthDate": b"\0" * 8,
    },
    "old date and time": {"StudyDate": b"1999.12.31", "StudyTime": b"10:11:12"},
    "no date": {"StudyDate": b"31 Dec 1999 ", "StudyTime": b"noon", "PatientBirthDate": b"0000"},
    "UIDs padded with blanks": {
        "StudyInstanceUID": f"{ROOT_UID}.11 ".encode(),
        "SeriesInstanceUID": f"{ROOT_UID}.2  ".encode(),
        "FrameOfReferenceUID": f"{ROOT_UID}.4  ".encode(),
    },
    "UIDs padded with NULs": {
        "StudyInstanceUID": f"{ROOT_UID}.11\0\0\0".encode(),
        "FrameOfReferenceUID": f"{ROOT_UID}.4\0\0\0\0".encode(),
    },
    "empty study": dict.fromkeys(
        ("ReferringPhysicianName", "StudyID", "AccessionNumber", "StudyDate", "StudyTime"), b""
    ),
    "ISO_IR 100": {"SpecificCharacterSet": b"ISO_IR 100", "PatientName": LATIN + b" "},
    "ISO_IR 192": {"PatientName": UTF8 + b" ", "StudyDescription": UTF8 + b" "},
    "list of sets": {
        "SpecificCharacterSet": b"\\ISO 2022 IR 87 ",
        "PatientName": b"Yamada^Tarou=" + JAPANESE,
    },
    "Latin said to be UTF-8": {"PatientName": LATIN + b" ", "SeriesDescription": LATIN + b" "},
    "Latin without a set": {"SpecificCharacterSet": b"", "SeriesDescription": LATIN + b" "},
    "UTF-8 said to be ASCII": {
        "SpecificCharacterSet": b"ISO_IR 6",
        "PatientName": UTF8 + b" ",
        "SeriesDescription": UTF8 + b" ",
    },
    "unknown set": {"SpecificCharacterSet": b"ISO_IR 999", "SeriesDescription": LATIN + b" "},
    "set by a common name": {"SpecificCharacterSet": b"iso-8859-1", "PatientName": LATIN + b" "},
    "set in lower case": {"SpecificCharacterSet": b"iso_ir 192", "PatientName": UTF8 + b" "},
    "odd length": {"StudyDescription": b"odd", "PatientID": b"SECRET-47"},
}
#: (gggg,0000) as `dcmconv +g` writes them; their values are of no matter.
GROUP_LENGTHS = dict.fromkeys(
    (0x00080000, 0x00100000, 0x00180000, 0x00200000, 0x00280000, 0x7FE00000), b"\x10\0\0\0"
)
#: UIDs that do not conform to PS3.5 9.1, each with a place for a number.
ODD_UIDS = {
    "leading zero": "1.2.826.0.1.20111102.0{}",
    "unknown root": "9503250048350414088259329850448{}",
    "unknown first number": "7.8.9.{}",
    "too long": "1.2.826.0.1.3680043.8.498.12345678901234567890123456789012345678901234567890.{}",
    "no number": "1.2.826.x.{}",
    "empty number": "1.2..826.{}",
}


def odd_series(
    folder: Path, values: Mapping[int | str, bytes | None], syntax: str, *, stated: str = ""
) -> Path:
    for index in range(SLICES):
        dataset = ct_slice(index, AccessionNumber="", StudyTime="", ReferringPhysicianName="")
        path = save(dataset, folder / f"{index:03d}.dcm", syntax)
        put_bytes(path, values, stated=stated)
    return folder


def series_with_uids(folder: Path, pattern: str, syntax: str) -> Path:
    """A series whose study, series, frame of reference and instances have UIDs of this kind."""
    odd_series(folder, {}, syntax)
    for index, path in enumerate(sorted(folder.iterdir())):
        names = ("StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID", "SOPInstanceUID")
        numbers = (1, 2, 3, 4 + index)
        values = zip(names, (pattern.format(number).encode() for number in numbers), strict=True)
        put_bytes(path, {name: uid + b"\0" * (len(uid) % 2) for name, uid in values})
    return folder


def exported(source: Path, out: Path, **options: object) -> ExportReport:
    """The series below `source`, unchanged in HU, through the export with its own check."""
    (series,) = find_series(source).series
    return publish(SliceReader(series).slices(), series, NAMED, Export(out, **options))


def assert_goes_through(source: Path, tmp_path: Path) -> Path:
    out = tmp_path / "out" / "series"
    report = exported(source, out, difference=True)
    assert report.instances == SLICES
    derived, difference = check_tree(tmp_path / "out", source)
    assert [*derived.problems, *difference.problems] == []
    expected = [raw_hu(save(ct_slice(index), tmp_path / "sound.dcm")) for index in range(SLICES)]
    for path, image_hu in zip(in_order(out), expected, strict=True):
        np.testing.assert_array_equal(raw_hu(path), image_hu)
    return out
