"""What a source's UIDs and patient's ID lack or get wrong stops no export: each goes through with
its own check, which `ldct check` repeats, and is told."""

from __future__ import annotations

import json
import shutil

import pydicom
import pytest
from helpers.dicom import (
    KEY,
    ROOT_UID,
    in_order,
    put_bytes,
)
from helpers.odd_values import (
    ODD_UIDS,
    SYNTAXES,
    assert_goes_through,
    exported,
    odd_series,
    series_with_uids,
)
from pydicom.uid import (
    CTImageStorage,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

from pipeline.dicom.derived.check import check_series
from pipeline.dicom.read.identifiers import NO_PATIENT
from pipeline.dicom.read.series import find_series
from pipeline.dicom.read.shared_identifiers import PATIENT_OF_SERIES
from pipeline.dicom.read.volume import patient_key


@pytest.mark.parametrize("syntax", SYNTAXES)
@pytest.mark.parametrize("value", [None, b""], ids=["absent", "empty"])
@pytest.mark.parametrize("name", ["SOPClassUID", "SOPInstanceUID"])
def test_what_the_file_meta_alone_states_is_taken_from_there(tmp_path, name, value, syntax):
    source = odd_series(tmp_path / "source", {name: value}, SYNTAXES[syntax])
    out = assert_goes_through(source, tmp_path)
    (series,) = find_series(source).series
    (remark,) = [text for text in series.warnings if name in text]
    assert "taken from the file meta information" in remark
    assert ROOT_UID not in str(series.warnings)
    derived = pydicom.dcmread(in_order(out)[0])
    assert derived.SOPClassUID == CTImageStorage
    assert derived.SourceImageSequence[0].ReferencedSOPInstanceUID == f"{ROOT_UID}.3.1"


def test_an_image_whose_class_nobody_states_is_taken_as_ct(tmp_path):
    source = odd_series(tmp_path / "source", {"SOPClassUID": None}, ExplicitVRLittleEndian)
    for path in source.iterdir():  # a data set alone, as old archives keep them (PS3.10 7.5)
        dataset = pydicom.dcmread(path)
        dataset.save_as(path, implicit_vr=False, little_endian=True, enforce_file_format=False)
        content = path.read_bytes()
        path.write_bytes(content[content.index(b"\x08\0\x05\0CS") :])
    assert_goes_through(source, tmp_path)
    (series,) = find_series(source).series
    assert "taken to be CT Image Storage" in str(series.warnings)


@pytest.mark.parametrize("programs", [(), ("dciodvfy", "dcentvfy")], ids=["without", "with"])
@pytest.mark.parametrize("syntax", ["implicit", "explicit"])
@pytest.mark.parametrize("kind", ODD_UIDS)
def test_uids_that_do_not_conform_are_the_sources_and_told(
    tmp_path, monkeypatch, require_program, kind, syntax, programs
):
    for program in programs:
        require_program(program)
    if not programs:
        monkeypatch.setattr(shutil, "which", lambda name: None)
    source = series_with_uids(tmp_path / "source", ODD_UIDS[kind], SYNTAXES[syntax])
    assert_goes_through(source, tmp_path)
    report = exported(source, tmp_path / "again").to_dict()
    (series,) = find_series(source).series
    (warning,) = [text for text in series.warnings if "UID" in text]
    assert warning.startswith("the source's UIDs do not conform to PS3.5 9.1 and are kept: Study")
    named = [text for text in report["check"]["from_source"] if "ReferencedSOPInstanceUID" in text]
    assert bool(named) == bool(programs)
    stem = ODD_UIDS[kind].format("")
    assert stem not in json.dumps([report, series.warnings])


@pytest.mark.parametrize(
    ("edit", "rule"), [("reference", "one-to-one"), ("study", "study"), ("code", "dciodvfy")]
)
def test_what_the_source_does_not_bring_still_fails(tmp_path, require_program, edit, rule):
    require_program("dciodvfy")
    source = series_with_uids(tmp_path / "source", ODD_UIDS["leading zero"], ImplicitVRLittleEndian)
    (series,) = find_series(source).series
    exported(source, tmp_path / "out")
    for path in (tmp_path / "out").iterdir():
        derived = pydicom.dcmread(path)
        if edit == "reference":
            derived.SourceImageSequence[0].ReferencedSOPInstanceUID = "1.2.09"
        elif edit == "study":
            derived.StudyInstanceUID = "1.2.09"
        else:
            derived.BodyPartExamined = "geheim"
        derived.save_as(path)
    problems = check_series(tmp_path / "out", series).problems
    assert rule in {problem.rule for problem in problems}
    assert "geheim" not in str(problems)


@pytest.mark.parametrize("syntax", SYNTAXES)
@pytest.mark.parametrize("value", [None, b"", b"    "], ids=["absent", "empty", "blank"])
def test_a_patient_without_an_id_is_exported_without_one(tmp_path, value, syntax):
    source = odd_series(tmp_path / "source", {"PatientID": value}, SYNTAXES[syntax])
    out = assert_goes_through(source, tmp_path)
    for path in out.iterdir():
        assert not pydicom.dcmread(path).get("PatientID")
        assert ("PatientID" in pydicom.dcmread(path)) == (value is not None)
    (series,) = find_series(source).series
    assert NO_PATIENT in series.warnings
    other = odd_series(
        tmp_path / "other", {"PatientID": value, "StudyInstanceUID": b"1.9 "}, SYNTAXES[syntax]
    )
    (elsewhere,) = find_series(other).series
    assert patient_key(series, KEY) == patient_key(find_series(source).series[0], KEY)
    assert patient_key(series, KEY) != patient_key(elsewhere, KEY)


def test_a_slice_without_a_patient_id_stays_with_its_series(tmp_path):
    source = odd_series(tmp_path / "source", {}, ImplicitVRLittleEndian)
    put_bytes(source / "001.dcm", {"PatientID": b""})
    out = assert_goes_through(source, tmp_path)
    (series,) = find_series(source).series
    assert PATIENT_OF_SERIES in series.warnings
    assert NO_PATIENT not in series.warnings
    assert [pydicom.dcmread(path).PatientID for path in in_order(out)][1] == ""
