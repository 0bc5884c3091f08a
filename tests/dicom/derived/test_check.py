"""Each rule is broken once, alone, and is then the one rule named; a good series breaks none."""

from __future__ import annotations

import json
import shutil
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pydicom
import pytest
from helpers.derived import write_derived
from helpers.dicom import (
    OPERATION,
    ROOT_UID,
    identifying,
    in_order,
    only_series,
    put_bytes,
    ramp,
    write_series,
)
from pydicom.dataset import Dataset

from pipeline.core.errors import LdctError, NothingUsableError
from pipeline.dicom.deidentify.identity_text import identity_in
from pipeline.dicom.derived import dicom3tools
from pipeline.dicom.derived.check import check_series, check_tree
from pipeline.dicom.derived.series_check import Problem
from pipeline.dicom.derived.write import SUBTRACTED, code_item
from pipeline.dicom.read.volume import read_volume

SHA256 = "ab" * 32
NAMED = replace(OPERATION, description=f"Noise reduction. Model test version 1, weights {SHA256}.")
SLICES = 3
Edit = Callable[[Dataset], object]


def burdened(dataset: Dataset, index: int) -> None:
    """A source that has something for every rule to see kept."""
    stored = ramp(index)
    stored[0, :4] = -2000
    dataset.PixelData = stored.tobytes()
    dataset.add_new("PixelPaddingValue", "SS", -2000)
    dataset.AccessionNumber = "ACC-471199"
    dataset.WindowCenter, dataset.WindowWidth = ["40", "-600"], ["400", "1500"]
    dataset.LossyImageCompression = "01"
    dataset.LossyImageCompressionRatio = "12.5"
    dataset.LossyImageCompressionMethod = "ISO_15444_1"
    dataset.SeriesDescription = "Thorax"


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """A derived series as it should be, of the source in tmp_path / "source"."""
    write_series(tmp_path / "source", SLICES, edit=burdened)
    return derive(tmp_path / "source", tmp_path / "out")


def derive(source: Path, out: Path) -> Path:
    reading = read_volume(only_series(source))
    write_derived(reading.volume.image_hu, reading.series, NAMED, out)
    return out


def change(out: Path, edit: Edit, *, every: bool = False) -> None:
    """Edit the first file, or every file, of a derived series, and leave the other bytes."""
    paths = sorted(out.iterdir())
    for path in paths if every else paths[:1]:
        dataset = pydicom.dcmread(path)
        edit(dataset)
        dataset.save_as(path)


def own_rules(problems: list[Problem]) -> set[str]:
    return {problem.rule for problem in problems} - {
        dicom3tools.IOD_PROGRAM,
        dicom3tools.ENTITY_PROGRAM,
    }


def broken_alone(out: Path) -> set[str]:
    (checked,) = check_tree(out)
    return own_rules(checked.problems)


def broken_beside(out: Path) -> set[str]:
    return own_rules(check_series(out, only_series(out.parent / "source")).problems)


def setting(keyword: str, value: object) -> Edit:
    return lambda dataset: setattr(dataset, keyword, value)


def without(keyword: str) -> Edit:
    return lambda dataset: delattr(dataset, keyword)


def in_item(sequence: str, edit: Edit) -> Edit:
    return lambda dataset: edit(dataset[sequence].value[-1])


def meta_too(edit: Edit) -> Edit:
    def both(dataset: Dataset) -> None:
        edit(dataset)
        dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID

    return both


def test_a_good_series_breaks_no_rule(out):
    checked = check_series(out, only_series(out.parent / "source"))
    assert checked.problems == []
    assert checked.passed
    assert checked.instances == SLICES
    checked.require()
    (alone,) = check_tree(out)
    assert alone.problems == []


@pytest.mark.parametrize("name", ["chest-ge-lidc0001", "abdomen-ge-crlm1004", "head-ge-tilted"])
def test_a_good_series_of_a_real_scan_breaks_no_rule(tmp_path, test_data, name):
    paths = in_order(test_data / "ct" / name)
    (tmp_path / "source").mkdir()
    for path in paths[len(paths) // 2 :][:3]:
        shutil.copy(path, tmp_path / "source" / path.name)
    derive(tmp_path / "source", tmp_path / "out")
    (checked,) = check_tree(tmp_path / "out", tmp_path / "source")
    assert checked.problems == []


CODES = "DerivationCodeSequence"
SOURCE = "SourceImageSequence"
EQUIPMENT = "ContributingEquipmentSequence"
PURPOSE = "PurposeOfReferenceCodeSequence"

#: What a file is changed to, the rule that breaks, and the attribute that is named.
ALONE: dict[str, tuple[Edit, str, str]] = {
    "original": (setting("ImageType", ["ORIGINAL", "PRIMARY", "AXIAL"]), "image-type", "ImageType"),
    "primary": (setting("ImageType", ["DERIVED", "PRIMARY", "AXIAL"]), "image-type", "ImageType"),
    "no image type": (without("ImageType"), "image-type", "ImageType"),
    "no words": (without("DerivationDescription"), "derivation", "DerivationDescription"),
    "no code": (without(CODES), "derivation", CODES),
    "a subtraction of one": (
        setting(CODES, [code_item(*SUBTRACTED)]),
        "derivation-code one-to-one",
        CODES,
    ),
    "no source": (without(SOURCE), "source", SOURCE),
    "no purpose": (in_item(SOURCE, without(PURPOSE)), "source", PURPOSE),
    "another purpose": (
        in_item(SOURCE, in_item(PURPOSE, setting("CodeValue", "121320"))),
        "source code-meaning",
        PURPOSE,
    ),
    "no class": (in_item(SOURCE, without("ReferencedSOPClassUID")), "source", ""),
    "wrong meaning": (
        in_item(CODES, setting("CodeMeaning", "Noise reduction")),
        "code-meaning",
        "CodeMeaning",
    ),
    "unknown code": (in_item(CODES, setting("CodeValue", "999999")), "code-meaning", "CodeValue"),
    "113062 is no denoising": (
        setting("ReferencedImageSequence", [code_item("113062", "DCM", "Denoising")]),
        "code-meaning",
        "CodeMeaning",
    ),
    "no equipment": (without(EQUIPMENT), "equipment", EQUIPMENT),
    "no model": (in_item(EQUIPMENT, without("ManufacturerModelName")), "equipment", ""),
    "no version": (in_item(EQUIPMENT, without("SoftwareVersions")), "equipment", ""),
    "no digest": (
        in_item(EQUIPMENT, setting("ContributionDescription", "Noise reduction.")),
        "equipment",
        "ContributionDescription",
    ),
    "no equipment purpose": (in_item(EQUIPMENT, without(PURPOSE)), "equipment", PURPOSE),
    "file meta": (
        lambda dataset: setattr(dataset.file_meta, "MediaStorageSOPInstanceUID", "1.2.3"),
        "file-meta",
        "MediaStorageSOPInstanceUID",
    ),
    "invalid UID": (meta_too(setting("SOPInstanceUID", "1.02.3")), "uid", "SOPInstanceUID"),
    "invalid place": (setting("FrameOfReferenceUID", "1.02.3"), "uid one-series", ""),
    "its own source": (
        meta_too(setting("SOPInstanceUID", f"{ROOT_UID}.3.1")),
        "uid-reuse",
        "SOPInstanceUID",
    ),
    "lossy without ratio": (without("LossyImageCompressionRatio"), "lossy", ""),
    "no slope": (without("RescaleSlope"), "rescale", "RescaleSlope"),
    "slope 0": (setting("RescaleSlope", "0"), "rescale", "RescaleSlope"),
    "high bit": (setting("HighBit", 11), "pixel-data", "HighBit"),
    "short": (lambda d: setattr(d, "PixelData", d.PixelData[:-2]), "pixel-data", "PixelData"),
    "no pixels": (without("PixelData"), "pixel-data", "PixelData"),
    "address": (
        lambda d: (setattr(d, "PatientIdentityRemoved", "YES"), setattr(d, "PatientAddress", "x")),
        "identity-removed",
        "PatientAddress",
    ),
    "name in words": (
        setting("DerivationDescription", "Of Gisela Geheim."),
        "identity",
        "DerivationDescription",
    ),
    "ID at the equipment": (
        in_item(EQUIPMENT, setting("InstitutionName", "for SECRET-4711")),
        "identity",
        "InstitutionName",
    ),
    "another study": (
        setting("StudyInstanceUID", f"{ROOT_UID}.99"),
        "one-series",
        "StudyInstanceUID",
    ),
    "another patient": (setting("PatientID", "X-1"), "one-series", "PatientID"),
    "another kernel": (setting("ConvolutionKernel", "LUNG"), "one-series", ""),
}


@pytest.mark.parametrize("case", ALONE)
def test_a_rule_that_a_file_breaks_alone_is_named(out, case):
    edit, rules, attribute = ALONE[case]
    change(out, edit)
    (checked,) = check_tree(out)
    assert own_rules(checked.problems) == set(rules.split())
    assert attribute in {problem.attribute for problem in checked.problems} or not attribute
    assert {problem.file for problem in checked.problems} <= {"CT.0001.dcm", ""}
    assert_shows_no_identity(json.dumps(checked.to_dict()), out)


def assert_shows_no_identity(text: str, out: Path) -> None:
    secrets = identifying(out / "CT.0002.dcm") | identifying(out.parent / "source" / "001.dcm")
    assert len(secrets) > 5
    assert [value for value in secrets if value in text] == []


@pytest.mark.parametrize(
    "description", ["Thorax", "", "AI DENOISED SECRET-4711", "AI DENOISED Geheim", "AI 19520304"]
)
def test_a_description_must_be_marked_and_show_no_identity(out, description):
    change(out, setting("SeriesDescription", description), every=True)
    assert broken_alone(out) == {"identity" if description.startswith("AI ") else "marking"}


@pytest.mark.parametrize("where", ["file", "folder"])
def test_names_of_files_and_folders_must_show_no_identity_nor_are_shown(out, where):
    if where == "file":
        (out / "CT.0001.dcm").rename(out / "Geheim_Gisela_1.dcm")
    else:
        out.rename(out.with_name("SECRET-4711"))
        out = out.with_name("SECRET-4711")
    (checked,) = check_tree(out)
    assert own_rules(checked.problems) == {"identity"}
    assert len(checked.problems) == (1 if where == "file" else SLICES)
    secrets = json.dumps(checked.to_dict())
    assert "Geheim" not in secrets
    assert "4711" not in secrets


def test_files_named_by_their_uid_are_not_named(out):
    path = out / "CT.0001.dcm"
    dataset = pydicom.dcmread(path)
    path.rename(out / f"{dataset.SOPInstanceUID}.{ROOT_UID}.dcm")
    assert broken_alone(out) == set()
    change(out, without("DerivationDescription"))
    (checked,) = check_tree(out)
    assert [problem.file for problem in checked.problems] == ["file 1"]


def test_two_images_with_one_uid_are_found(out):
    uid = pydicom.dcmread(out / "CT.0002.dcm").SOPInstanceUID
    change(out, meta_too(setting("SOPInstanceUID", uid)))
    assert broken_alone(out) == {"uid-reuse"}


def test_two_images_of_one_source_are_found(out):
    other = pydicom.dcmread(out / "CT.0002.dcm").SourceImageSequence
    change(out, setting("SourceImageSequence", other))
    assert broken_alone(out) == {"one-to-one"}
    assert broken_beside(out) >= {"one-to-one"}


def test_a_damaged_file_among_derived_ones_is_found(out):
    (out / "CT.0002.dcm").write_bytes(b"not DICOM")
    (out / "notes.txt").write_text("mine")
    assert broken_alone(out) == {"readable"}
    assert broken_beside(out) == {"readable", "one-to-one"}


#: The same beside the source.
BESIDE: dict[str, tuple[Edit, str, str]] = {
    "position": (
        setting("ImagePositionPatient", ["-10.5", "-20.25", "0.01"]),
        "geometry",
        "ImagePositionPatient",
    ),
    "orientation": (
        setting("ImageOrientationPatient", ["1", "0", "0", "0", "0", "1"]),
        "geometry",
        "ImageOrientationPatient",
    ),
    "spacing": (setting("PixelSpacing", ["0.70", "0.80"]), "geometry", "PixelSpacing"),
    "birth date": (setting("PatientBirthDate", "19520305"), "patient", "PatientBirthDate"),
    "sex": (setting("PatientSex", "F"), "patient", "PatientSex"),
    "study date": (setting("StudyDate", "20000101"), "study", "StudyDate"),
    "accession": (setting("AccessionNumber", ""), "study", "AccessionNumber"),
    "window": (setting("WindowCenter", ["50", "-600"]), "window", "WindowCenter"),
    "no window": (without("WindowWidth"), "window", "WindowWidth"),
    "loss denied": (setting("LossyImageCompression", "00"), "lossy", "LossyImageCompression"),
    "loss forgotten": (without("LossyImageCompression"), "lossy", "LossyImageCompression"),
    "intercept": (setting("RescaleIntercept", "-1000"), "values", "RescaleIntercept"),
    "private": (lambda d: d.add_new(0x00110010, "LO", "MAKER"), "stale", "(0011,0010)"),
    "overlay": (lambda d: d.add_new(0x60000010, "US", 1), "stale", "(6000,0010)"),
    "smallest": (
        lambda d: d.add_new("SmallestImagePixelValue", "SS", 1),
        "stale",
        "SmallestImagePixelValue",
    ),
    "padding lost": (
        lambda d: setattr(d, "PixelData", bytes(2) + d.PixelData[2:]),
        "padding",
        "PixelData",
    ),
    "padding made": (
        lambda d: setattr(d, "PixelData", d.PixelData[:-2] + np.int16(-2000).tobytes()),
        "padding",
        "PixelData",
    ),
    "series UID": (
        setting("SeriesInstanceUID", f"{ROOT_UID}.2"),
        "uid-reuse one-series",
        "SeriesInstanceUID",
    ),
    "UID of another source": (
        meta_too(setting("SOPInstanceUID", f"{ROOT_UID}.3.2")),
        "uid-reuse",
        "SOPInstanceUID",
    ),
    "unknown source": (
        in_item(SOURCE, setting("ReferencedSOPInstanceUID", "1.2.3")),
        "one-to-one",
        "SourceImageSequence",
    ),
}


@pytest.mark.parametrize("case", BESIDE)
def test_a_rule_that_a_file_breaks_beside_its_source_is_named(out, case):
    edit, rules, attribute = BESIDE[case]
    change(out, edit)
    checked = check_series(out, only_series(out.parent / "source"))
    assert own_rules(checked.problems) == set(rules.split())
    assert attribute in {problem.attribute for problem in checked.problems}
    assert_shows_no_identity(json.dumps(checked.to_dict()), out)
    assert not checked.passed
    with pytest.raises(
        LdctError, match=f"fails its check and is not written: rule ({rules.replace(' ', '|')}): "
    ):
        checked.require()


@pytest.mark.parametrize(
    ("keyword", "same", "other"),
    [
        ("ImagePositionPatient", b"-10.50\\ -20.25\\0 ", b"-10.51\\-20.25\\0"),
        ("PatientID", b"SECRET-4711\0", b"SECRET-4712 "),
        ("PatientName", b"Geheim^Gisela^^ ", b"Geheim^^Gisela"),
        ("StudyDate", b"1999.12.31", b"20000101"),
        ("StudyID", b" 1  ", b" 11 "),
        ("StudyInstanceUID", f"{ROOT_UID}.1\0\0".encode(), f"{ROOT_UID}.01\0".encode()),
    ],
)
def test_values_are_compared_by_their_meaning(out, keyword, same, other):
    path = out / "CT.0001.dcm"
    put_bytes(path, {keyword: same + b" " * (len(same) % 2)})
    assert broken_beside(out) == set()
    put_bytes(path, {keyword: other + b" " * (len(other) % 2)})
    rule = {"I": "geometry", "P": "patient", "S": "study"}[keyword[0]]
    assert rule in broken_beside(out)


def test_a_slice_without_a_derived_one_is_missed_unless_it_cannot_be_read(out):
    (out / "CT.0002.dcm").unlink()
    checked = check_series(out, only_series(out.parent / "source"))
    assert [problem.rule for problem in checked.problems] == ["one-to-one"]
    assert checked.problems[0].value == "1 of 3 source images have no derived one"
    series = only_series(out.parent / "source")
    change(out.parent / "source", lambda d: None)
    middle = out.parent / "source" / "001.dcm"
    middle.write_bytes(middle.read_bytes()[:-100])
    assert check_series(out, series).problems == []


@pytest.mark.parametrize("fault", ["study", "address", "meaning", "two places"])
def test_faults_that_come_from_the_source_are_not_the_derived_series(tmp_path, fault):
    def edit(dataset: Dataset, index: int) -> None:
        if fault == "study":
            dataset.StudyInstanceUID = "1.02.3"
        elif fault == "address":
            dataset.PatientIdentityRemoved, dataset.PatientAddress = "YES", "Geheimweg 1"
        elif fault == "meaning":
            dataset.ProcedureCodeSequence = [code_item("113062", "DCM", "Denoising")]
        elif index:
            dataset.SeriesNumber, dataset.FrameOfReferenceUID = 9, f"{ROOT_UID}.88"

    write_series(tmp_path / "source", 3, edit=edit)
    out = derive(tmp_path / "source", tmp_path / "out")
    assert broken_beside(out) == set()
    assert broken_alone(out) != set()


def test_originals_are_left_alone_and_derived_series_are_found_wherever_they_lie(out, tmp_path):
    def edit(dataset: Dataset, index: int) -> None:
        reference = Dataset()
        reference.ReferencedSOPInstanceUID = "1.2.3"
        dataset.SourceImageSequence = [reference]  # as scanners have it

    write_series(tmp_path / "all" / "deep" / "original", 2, edit=edit)
    shutil.copytree(out, tmp_path / "all" / "deep" / "derived")
    (tmp_path / "all" / "report.json").write_text("{}")
    (tmp_path / "all" / ".partial-1").mkdir()
    shutil.copy(out / "CT.0001.dcm", tmp_path / "all" / ".partial-1")
    (checked,) = check_tree(tmp_path / "all")
    assert checked.name == "deep/derived"
    assert checked.problems == []
    change(tmp_path / "all" / "deep" / "derived", without("DerivationDescription"))
    (checked,) = check_tree(tmp_path / "all")
    assert [problem.file for problem in checked.problems] == ["deep/derived/CT.0001.dcm"]


def test_derived_series_in_an_archive_are_checked(out, tmp_path):
    with zipfile.ZipFile(tmp_path / "out.zip", "w") as archive:
        for path in out.iterdir():
            archive.write(path, path.name)
    for source in (None, tmp_path / "source"):
        (checked,) = check_tree(tmp_path / "out.zip", source)
        assert checked.problems == []
        assert not checked.validation.to_dict()["validated"]


def test_nothing_to_check_is_an_error(tmp_path, out):
    for folder in ("source", "nowhere"):
        with pytest.raises(NothingUsableError):
            check_tree(tmp_path / folder)


def test_a_source_that_is_another_scans_is_reported(tmp_path, out):
    def rename(dataset: Dataset, index: int) -> None:
        dataset.SOPInstanceUID += ".9"

    write_series(tmp_path / "other", 3, edit=rename)
    (checked,) = check_tree(out, tmp_path / "other")
    assert own_rules(checked.problems) == {"one-to-one"}


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("AI DENOISED test v1 | SECRET-4711", "PatientID"),
        ("secret-4711_1.dcm", "PatientID"),
        ("XSECRET-47110", ""),
        ("of 04.03.1952", "PatientBirthDate"),
        ("Gisela, Geheim", "PatientName"),
        ("Geheim", "PatientName"),
        ("Gisela", ""),
        ("Geheimnis", ""),
        ("AI DENOISED test v1 | Thorax", ""),
    ],
)
def test_identity_is_found_as_whole_words(text, found):
    patient = Dataset()
    patient.PatientID, patient.PatientName = "SECRET-4711", "Geheim^Gisela"
    patient.PatientBirthDate = "19520304"
    assert identity_in(text, patient) == found


def test_surnames_that_are_words_of_ours_stop_nothing():
    patient = Dataset()
    patient.PatientName = "Dose^Ai"
    assert identity_in("SIMULATED 25% DOSE", patient) == ""
    patient.PatientName = "Model^Ai"
    assert identity_in("Model test version 1.", patient, surname_alone=False) == ""
    patient.PatientID = "1"
    assert identity_in("Model test version 1.", patient, surname_alone=False) == ""


def test_new_findings_of_the_programs_are_reported(out, require_program):
    require_program("dciodvfy")
    require_program("dcentvfy")
    source = only_series(out.parent / "source")
    change(out, setting("BodyPartExamined", "geheim"), every=True)
    checked = check_series(out, source)
    assert {problem.rule for problem in checked.problems} == {"dciodvfy"}
    assert {problem.attribute for problem in checked.problems} == {"BodyPartExamined"}
    assert "geheim" not in json.dumps(checked.to_dict())
    change(out, without("BodyPartExamined"), every=True)
    assert check_series(out, source).problems == []
    change(out, setting("ReferringPhysicianName", "Geheim^Otto"), every=True)
    rules = {problem.rule: problem.attribute for problem in check_series(out, source).problems}
    assert rules == {"study": "ReferringPhysicianName", "dcentvfy": "ReferringPhysicianName"}


def test_without_the_programs_our_own_rules_decide(out, monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda name: None)
    checked = check_series(out, only_series(out.parent / "source"))
    assert checked.problems == []
    facts = {"problems": 0, "validated": False, "programs": [], "files": 0, "of": SLICES}
    assert checked.summary().to_dict() == {**facts, "from_source": []}


def test_findings_keep_nothing_that_a_patient_could_be_known_by():
    lines = {
        "Error - </StudyDate(0008,0020)[1]> - Value invalid for this VR [DA] = <Geheim - <x>> - "
        "Length invalid = <7>": "StudyDate",
        "Error - </PatientName(0010,0010)[1]> - Value invalid = <Geheim": "PatientName",
        "Error - </PatientAge(0010,1010)[1]> - Character invalid for this VR = 'G' (0x47)": (
            "PatientAge"
        ),
        "Error - </A(0008,1032)[1]/CodeValue(0008,0100)[1]> - Odd = <Geheim>": "A/CodeValue",
    }
    for line, attribute in lines.items():
        finding = dicom3tools._of_attribute(line)
        assert "Geheim" not in finding
        assert "'G'" not in finding
        assert dicom3tools.attribute_of(finding) == attribute
    line = (
        "Error - String attribute has different value - Element=<PatientName> IE=<Patient> for "
        "file <Geheim/0.dcm> versus <1.dcm> Value 1 <Geheim^Gisela> versus <Other^One>"
    )
    assert dicom3tools._of_entity(line) == (
        "Error - String attribute has different value - PatientName"
    )
    line = "Error - Different PatientID for same StudyInstanceUID - PatientID=<Geheim> for file <x>"
    assert dicom3tools._of_entity(line) == ("Error - Different PatientID for same StudyInstanceUID")


def test_of_a_long_series_a_hundred_files_are_validated(monkeypatch, tmp_path):
    seen: list[Path] = []
    monkeypatch.setattr(shutil, "which", lambda name: name)
    monkeypatch.setattr(dicom3tools, "_of_file", lambda path: seen.append(path) or set())
    monkeypatch.setattr(dicom3tools, "_of_set", lambda paths: set())
    pairs = [(tmp_path / f"d{n}", tmp_path / f"s{n}") for n in range(250)]
    validation = dicom3tools.validate(pairs, tmp_path)
    assert (validation.files, validation.of) == (100, 250)
    assert len(set(seen)) == 200
    assert {tmp_path / name for name in ("d0", "s0", "d249", "s249")} <= set(seen)


def test_a_program_that_hangs_is_an_error(out, monkeypatch, tmp_path):
    slow = tmp_path / "bin" / "dciodvfy"
    slow.parent.mkdir()
    slow.write_text("#!/bin/sh\nexec sleep 60\n")
    slow.chmod(0o755)
    monkeypatch.setenv("PATH", f"{slow.parent}:/usr/bin:/bin")
    monkeypatch.setattr(dicom3tools, "TIMEOUT_S", 0.2)
    with pytest.raises(LdctError, match="dciodvfy did not end well"):
        check_series(out, only_series(out.parent / "source"))
