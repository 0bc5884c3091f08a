"""What a source's values are padded with, and how they are coded, stops no export: each goes
through the export with its own check, which `ldct check` repeats, and no HU changes."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import pydicom
import pytest
from helpers.dicom import (
    ct_slice,
    encoded,
    save,
    tag_of,
)
from helpers.enhanced import enhanced_ct, frame_source
from helpers.odd_values import (
    GROUP_LENGTHS,
    ODD,
    SLICES,
    SYNTAXES,
    assert_goes_through,
    exported,
    odd_series,
)
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.tag import Tag
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

from pipeline.dicom.derived.check import check_tree
from pipeline.dicom.read.enhanced import TYPE_2_KEYWORDS
from pipeline.dicom.read.series import find_series


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
