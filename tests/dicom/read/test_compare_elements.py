"""Elements mean the same whatever their padding and encoding, and another thing otherwise."""

from __future__ import annotations

from pathlib import Path

import pydicom
import pytest
from helpers.dicom import ct_slice, put_bytes, save
from pydicom.dataset import Dataset
from pydicom.tag import Tag
from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from pipeline.dicom.read.compare_elements import same_element, text_meaning
from pipeline.dicom.read.raw_elements import RawDataset

#: VR, a value, what means the same, and what does not (PS3.5 6.2).
MEANINGS = [
    ("DS", "0.70\\0.80", " 0.7\\8.0e-1 \0", "0.70\\0.8001"),
    ("DS", "120", "120.000", "120.001"),
    ("DS", "1,5", "1,5 ", "1.5"),
    ("DS", "nan", "nan ", "inf"),
    ("IS", "3", " +3 ", "33"),
    ("CS", "AXIAL", " axial\0", "AXIAL\\AXIAL"),
    ("LO", "STANDARD", "  STANDARD  ", "standard"),
    ("LO", "a\\b", "a \\ b", "a b"),
    ("SH", "", "\0\0", "0"),
    ("LT", "a", "a \0", " a"),
    ("ST", "a\\ b", "a\\ b ", "a\\b"),
    ("PN", "Geheim^Gisela", "Geheim^Gisela^^^ ", "Geheim^^Gisela"),
    ("PN", "A^B=C", "A^B =C^= ", "A^B==C"),
    ("PN", "", "^^", "^A"),
    ("UI", "1.2.3", "1.2.3\0\0 ", "1.2.03"),
    ("DA", "19991231", "1999.12.31", "19991230"),
    ("DA", "", " " * 8, "19000101"),
    ("TM", "101112", "10:11:12 ", "1011"),
    ("AS", "045Y", "045Y\0", "45Y"),
    ("UT", "a\\b", "a\\b  ", "a"),
]


@pytest.mark.parametrize(("vr", "value", "same", "other"), MEANINGS)
def test_texts_are_compared_by_their_vr(vr, value, same, other):
    assert text_meaning(vr, value) == text_meaning(vr, same)
    assert text_meaning(vr, value) != text_meaning(vr, other)


def read(path: Path, dataset: Dataset, syntax: str, **values: bytes) -> RawDataset:
    save(dataset, path, syntax)
    put_bytes(path, dict(values))
    return RawDataset(pydicom.dcmread(path))


def same(keyword: str, derived: RawDataset, source: RawDataset) -> bool:
    return same_element(Tag(keyword), derived, source)


def with_request(code: str, private: str = "") -> Dataset:
    dataset, request, procedure = ct_slice(), Dataset(), Dataset()
    procedure.CodeValue, procedure.CodingSchemeDesignator = code, "L"
    request.RequestedProcedureCodeSequence = [procedure]
    request.NumberOfFrames = 3
    if private:
        request.add_new(0x00110010, "LO", private)
    dataset.RequestAttributesSequence = [request]
    dataset.SmallestImagePixelValue = -3
    dataset["SmallestImagePixelValue"].VR = "SS"
    return dataset


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, ExplicitVRBigEndian])
def test_other_encodings_mean_the_same_also_in_items(tmp_path, syntax):
    one = read(tmp_path / "a", with_request("47"), ExplicitVRLittleEndian)
    for code, private, expected in (("47", "", True), ("47 ", "MAKER", True), ("48", "", False)):
        other = read(tmp_path / "b", with_request(code, private), syntax)
        assert same("RequestAttributesSequence", one, other) is expected
    for name in ("SmallestImagePixelValue", "Rows", "PixelSpacing"):
        assert same(name, one, other)
    assert not same("Rows", one, read(tmp_path / "b", ct_slice(Rows=99), syntax))


def test_an_empty_value_is_none_but_none_is_not_an_empty_one(tmp_path):
    empty = read(tmp_path / "a", ct_slice(StudyID=""), ExplicitVRLittleEndian)
    absent = read(tmp_path / "b", ct_slice(StudyID=None), ExplicitVRLittleEndian)
    held = read(tmp_path / "c", ct_slice(), ImplicitVRLittleEndian)
    blank = read(tmp_path / "d", ct_slice(), ImplicitVRLittleEndian, StudyID=b"  ")
    assert same("StudyID", empty, absent)
    assert same("StudyID", empty, blank)
    assert same("StudyID", blank, absent)
    assert not same("StudyID", absent, empty)
    assert not same("StudyID", held, empty)
    assert not same("StudyID", empty, held)


def test_the_same_bytes_in_another_character_set_are_another_text(tmp_path):
    name = "Jürgen".encode("latin-1")

    def named(character_set: bytes, name: bytes) -> RawDataset:
        values = {"SpecificCharacterSet": character_set, "PatientName": name}
        return read(tmp_path / "x", ct_slice(), ExplicitVRLittleEndian, **values)

    latin = named(b"ISO_IR 100", name)
    assert same("PatientName", latin, named(b"ISO_IR 192", "Jürgen ".encode()))
    assert not same("PatientName", latin, named(b"ISO_IR 144", name))
    assert same("PatientName", named(b"ISO_IR 100", b"Geheim"), named(b"ISO_IR 144", b"Geheim^"))
    assert not same("PatientName", named(b"ISO_IR 192", name), named(b"ISO_IR 192", b"J\xfbrgen"))


def test_group_lengths_mean_nothing(tmp_path):
    one = read(tmp_path / "a", ct_slice(), ExplicitVRLittleEndian)
    save(ct_slice(), tmp_path / "b")
    put_bytes(tmp_path / "b", {0x00100000: b"\1\0\0\0"})
    assert same_element(Tag(0x00100000), one, RawDataset(pydicom.dcmread(tmp_path / "b")))
