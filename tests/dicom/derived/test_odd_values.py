"""What a source's values are padded with, and how they are coded, stops no export: each goes
through the export with its own check, which `ldct check` repeats, and no HU changes."""

from __future__ import annotations

import json
import shutil
import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pydicom
import pytest
from helpers.dicom import (
    COLUMNS,
    KEY,
    NAMED,
    ROOT_UID,
    ROWS,
    ct_slice,
    encoded,
    in_order,
    put_bytes,
    raw_hu,
    save,
    tag_of,
)
from helpers.enhanced import enhanced_ct, frame_source
from helpers.labels import SEGMENTED
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.tag import Tag
from pydicom.uid import (
    CTImageStorage,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

from pipeline.core.label_map import LabelMap
from pipeline.dicom.derived.check import check_series, check_tree
from pipeline.dicom.read.enhanced import TYPE_2_KEYWORDS
from pipeline.dicom.read.identifiers import NO_PATIENT, PATIENT_OF_SERIES
from pipeline.dicom.read.series import find_series
from pipeline.dicom.read.volume import SliceReader, patient_key
from pipeline.export.labels import export_labels
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


@pytest.mark.parametrize("syntax", SYNTAXES)
@pytest.mark.parametrize("case", ODD)
def test_odd_values_go_through_the_export(tmp_path, case, syntax):
    source = odd_series(tmp_path / "source", ODD[case], SYNTAXES[syntax])
    assert_goes_through(source, tmp_path)


@pytest.mark.parametrize("syntax", SYNTAXES)
def test_group_lengths_go_through_the_export_and_are_dropped(tmp_path, syntax):
    lengths = GROUP_LENGTHS
    if SYNTAXES[syntax] == ExplicitVRBigEndian:
        lengths = {tag: value[::-1] for tag, value in GROUP_LENGTHS.items()}
    out = assert_goes_through(odd_series(tmp_path / "source", lengths, SYNTAXES[syntax]), tmp_path)
    derived = pydicom.dcmread(next(out.iterdir()))
    assert not [element for element in derived if element.tag.element == 0]


def unnumbered(folder: Path, syntax: str) -> list[Path]:
    """Slices without InstanceNumber, of which dciodvfy finds two faults."""
    slices = [ct_slice(index, InstanceNumber=None) for index in range(SLICES)]
    return [save(one, folder / f"{index}.dcm", syntax) for index, one in enumerate(slices)]


@pytest.mark.parametrize("how", ["zipped", "deflated", "bare"])
def test_the_faults_of_a_source_that_dciodvfy_cannot_read_are_the_sources(
    tmp_path, require_program, how
):
    require_program("dciodvfy")
    deflated = how == "deflated"
    syntax = DeflatedExplicitVRLittleEndian if deflated else ExplicitVRLittleEndian
    paths = unnumbered(tmp_path / "in", syntax)
    if how == "zipped":
        with zipfile.ZipFile(tmp_path / "in" / "study.zip", "w") as archive:
            for path in paths:
                archive.write(path, path.name)
                path.unlink()
    if how == "bare":
        for path in paths:
            content = path.read_bytes()
            path.write_bytes(content[content.index(b"\x08\0\x05\0CS") :])
    assert exported(tmp_path / "in", tmp_path / "out").instances == SLICES


@pytest.mark.parametrize(("found", "stated"), [("implicit", "explicit"), ("explicit", "implicit")])
def test_a_data_set_in_another_encoding_than_stated_is_exported_with_a_remark(
    tmp_path, found, stated
):
    source = tmp_path / "source"
    odd_series(source, {}, SYNTAXES[found], stated=SYNTAXES[stated])
    out = assert_goes_through(source, tmp_path)
    assert pydicom.dcmread(next(out.iterdir())).original_encoding == (False, True)
    (series,) = find_series(source).series
    assert f"TransferSyntaxUID says {stated} VR, the data set is in {found} VR" in str(
        series.warnings
    )


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


@pytest.mark.parametrize("form", ["seg", "labelmap", "rtstruct"])
@pytest.mark.parametrize("syntax", SYNTAXES)
@pytest.mark.parametrize("case", [*ODD, "group lengths", "no patient"])
def test_structures_of_odd_sources_go_through_too(tmp_path, case, syntax, form):
    values: Mapping[int | str, bytes | None] = {"PatientID": b""}
    if case == "group lengths":
        values = GROUP_LENGTHS
    elif case in ODD:
        values = ODD[case]
    source = odd_series(tmp_path / "source", values, SYNTAXES[syntax])
    assert_structures_go_through(source, tmp_path, form)


@pytest.mark.parametrize("form", ["seg", "labelmap", "rtstruct"])
@pytest.mark.parametrize("kind", ODD_UIDS)
def test_structures_of_sources_with_odd_uids_go_through_too(tmp_path, kind, form):
    source = series_with_uids(tmp_path / "source", ODD_UIDS[kind], ImplicitVRLittleEndian)
    assert_structures_go_through(source, tmp_path, form)


def assert_structures_go_through(source: Path, tmp_path: Path, form: str) -> None:
    (series,) = find_series(source).series
    labels = np.zeros((SLICES, ROWS, COLUMNS), np.uint8)
    labels[:, 4:9, 3:8] = 1
    export_labels(LabelMap(labels, {1: "liver"}), series, tmp_path / "out", SEGMENTED, form=form)
    (checked,) = check_tree(tmp_path / "out", source)
    assert checked.problems == []


def test_codes_in_lower_case_are_told(tmp_path):
    source = odd_series(tmp_path / "source", ODD["codes in lower case"], ExplicitVRLittleEndian)
    (series,) = find_series(source).series
    (remark,) = [text for text in series.warnings if "lower case" in text]
    assert remark.endswith(": ImageType, Modality, PhotometricInterpretation")
    derived = pydicom.dcmread(next(assert_goes_through(source, tmp_path).iterdir()))
    assert derived.ImageType == ["DERIVED", "SECONDARY", "AXIAL"]
    assert derived.PatientSex == "m"


def test_a_localizer_is_known_by_its_code_in_any_case(tmp_path):
    padded = {"ImageType": b"ORIGINAL\\PRIMARY\\ localizer \\M "}
    source = odd_series(tmp_path / "source", padded, ImplicitVRLittleEndian)
    assert {refusal.reason for refusal in find_series(source).refusals} == {"a localizer"}


def test_a_slice_without_a_patient_id_stays_with_its_series(tmp_path):
    source = odd_series(tmp_path / "source", {}, ImplicitVRLittleEndian)
    put_bytes(source / "001.dcm", {"PatientID": b""})
    out = assert_goes_through(source, tmp_path)
    (series,) = find_series(source).series
    assert PATIENT_OF_SERIES in series.warnings
    assert NO_PATIENT not in series.warnings
    assert [pydicom.dcmread(path).PatientID for path in in_order(out)][1] == ""


def test_a_frame_without_a_tube_voltage_has_it_empty(tmp_path, require_program):
    require_program("dciodvfy")
    whole = enhanced_ct([frame_source(index) for index in range(SLICES)])
    del whole.SharedFunctionalGroupsSequence[0].CTXRayDetailsSequence
    save(whole, tmp_path / "source" / "e.dcm")
    report = exported(tmp_path / "source", tmp_path / "out").to_dict()
    for path in (tmp_path / "out").iterdir():
        derived = pydicom.dcmread(path)
        assert all(name in derived for name in TYPE_2_KEYWORDS)
        assert derived.KVP is None
    missing = [text for text in report["check"]["from_source"] if "Type 2" in text]
    assert not [text for text in missing if any(name in text for name in TYPE_2_KEYWORDS)]


def test_the_faults_of_a_source_that_dciodvfy_gives_up_on_are_the_sources(
    tmp_path, require_program
):
    """It aborts on private elements behind the pixels in implicit VR, as Siemens writes them."""
    require_program("dciodvfy")
    for index in range(SLICES):
        source = ct_slice(index, InstanceNumber=None)
        source.add_new(0x7FE10010, "LO", "SIEMENS CSA NON-IMAGE")
        source.add_new(0x7FE11010, "OB", bytes(500))
        save(source, tmp_path / "in" / f"{index}.dcm", ImplicitVRLittleEndian)
    assert exported(tmp_path / "in", tmp_path / "out").instances == SLICES


def test_private_values_that_no_dictionary_expects_stop_no_frame(tmp_path):
    """(7005,101D) is a UL of Toshiba's in pydicom's dictionary; this one holds two bytes."""
    whole = enhanced_ct([frame_source(index) for index in range(SLICES)])
    whole.add_new(0x70050010, "LO", "TOSHIBA_MEC_CT3")
    whole.add_new(0x7005101D, "UN", b"\1\0")
    save(whole, tmp_path / "in" / "0.dcm", ImplicitVRLittleEndian)
    assert exported(tmp_path / "in", tmp_path / "out").instances == SLICES


@pytest.mark.parametrize("compression", ["jpegls", "rle"])
@pytest.mark.parametrize("case", ["blank name", "blanks about numbers", "list of sets"])
def test_odd_values_go_through_compressed_too(tmp_path, case, compression):
    source = odd_series(tmp_path / "source", ODD[case], ImplicitVRLittleEndian)
    assert exported(source, tmp_path / "out", syntax=compression).instances == SLICES
    (checked,) = check_tree(tmp_path / "out", source)
    assert checked.problems == []


@pytest.mark.parametrize("syntax", ["implicit", "explicit"])
def test_values_keep_their_bytes(tmp_path, syntax):
    names = ("blanks about numbers", "padded text", "name with empty components")
    values = {name: value for case in names for name, value in ODD[case].items()}
    source = odd_series(tmp_path / "source", values, SYNTAXES[syntax])
    out = assert_goes_through(source, tmp_path)
    del values["SeriesDescription"]
    kept = {name: value + b" " * (len(value) % 2) for name, value in values.items()}
    for path in out.iterdir():
        found = encoded(path)
        assert {name: found[tag_of(str(name))][1] for name in kept} == kept


def test_private_attributes_go_also_from_sequences_of_unknown_vr(tmp_path):
    """PS3.5 6.2.2: UN holds items in implicit VR little endian."""
    source = odd_series(tmp_path / "source", {}, ExplicitVRLittleEndian)
    request = Dataset()
    request.add_new(0x00110010, "LO", "MAKER")
    request.RequestedProcedureDescription = "thorax"
    for path in source.iterdir():
        dataset = pydicom.dcmread(path)
        dataset.RequestAttributesSequence = [request]
        save(dataset, path, ImplicitVRLittleEndian)
        content = pydicom.dcmread(path).get_item("RequestAttributesSequence").value
        dataset = pydicom.dcmread(path)
        tag = Tag("RequestAttributesSequence")
        del dataset[tag]
        save(dataset, path)
        dataset = pydicom.dcmread(path)
        dataset[tag] = RawDataElement(tag, "UN", len(content), content, 0, True, True)
        dataset.save_as(path)
        assert pydicom.dcmread(path).get_item(tag).VR == "UN"
    out = assert_goes_through(source, tmp_path)
    for path in out.iterdir():
        assert b"MAKER" not in path.read_bytes()
        (item,) = pydicom.dcmread(path).RequestAttributesSequence
        assert item.RequestedProcedureDescription == "thorax"


def test_words_of_big_endian_are_swapped_also_in_items(tmp_path):
    """pydicom leaves words of VR OW, such as a table's for display, in their order of bytes."""
    values = np.array([1, 256, 4095], "<u2")
    table = Dataset()
    table.LUTDescriptor = [3, 0, 16]
    table["LUTDescriptor"].VR = "US"
    table.add_new("LUTData", "OW", values.astype(">u2").tobytes())
    for index in range(SLICES):
        dataset = ct_slice(index, VOILUTSequence=[table], WindowCenter="40", WindowWidth="400")
        save(dataset, tmp_path / "source" / f"{index}.dcm", ExplicitVRBigEndian)
    exported(tmp_path / "source", tmp_path / "out")
    for path in (tmp_path / "out").iterdir():
        (kept,) = pydicom.dcmread(path).VOILUTSequence
        assert kept.LUTData == values.tobytes()
        assert kept.LUTDescriptor == [3, 0, 16]


@pytest.mark.parametrize("charset", ["ISO_IR 192", "GB18030", "\\ISO 2022 IR 87"])
def test_a_long_description_in_another_script_is_cut_by_its_bytes(
    tmp_path, require_program, charset
):
    require_program("dciodvfy")
    for index in range(SLICES):
        source = ct_slice(
            index, SpecificCharacterSet=charset.split("\\"), SeriesDescription="胸部" * 10
        )
        save(source, tmp_path / "in" / f"{index}.dcm")
    assert exported(tmp_path / "in", tmp_path / "out").instances == SLICES
    derived = pydicom.dcmread(next((tmp_path / "out").iterdir()))
    assert len(derived.get_item("SeriesDescription").value) <= 64
    assert "胸部胸" in derived.SeriesDescription
