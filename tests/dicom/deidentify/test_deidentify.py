"""De-identification: nothing of the patient is left anywhere, and nothing else is lost."""

from __future__ import annotations

import json
import re
import subprocess
import warnings
import zipfile
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from dicomanonymizer.dicom_anonymization_databases import dicomfields_2026c as table
from helpers.dicom import (
    KEY,
    ROOT_UID,
    ct_slice,
    encoded,
    identifying,
    in_order,
    only_series,
    patch,
    put_bytes,
    save,
    tag_of,
    write_series,
)
from pydicom.datadict import DicomDictionary, dictionary_has_tag, dictionary_VR
from pydicom.dataset import Dataset
from pydicom.uid import (
    CTImageStorage,
    DeflatedExplicitVRLittleEndian,
    EnhancedCTImageStorage,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    RLELossless,
    SecondaryCaptureImageStorage,
)

from pipeline.core.errors import ConfigError, NothingUsableError
from pipeline.dicom.deidentify.profile import deidentify
from pipeline.dicom.deidentify.rules import GROUPS_REMOVED, TABLE, Options
from pipeline.dicom.read.volume import patient_key

REAL = ("chest-ge-lidc0001", "head-ge-tilted", "abdomen-ge-crlm1004")
PLAIN = Options()
ALL = Options(shift_dates=True, safe_private=True, retain_device=True)
GEOMETRY = (
    "ImagePositionPatient",
    "ImageOrientationPatient",
    "PixelSpacing",
    "SliceThickness",
    "RescaleSlope",
    "RescaleIntercept",
    "KVP",
    "ConvolutionKernel",
    "Rows",
    "ImageType",
)
#: A value of each VR that no de-identified file may hold, and how it would look in its bytes.
SECRET_VALUES: dict[str, Any] = {
    **dict.fromkeys(("AE", "CS", "LO", "LT", "PN", "SH", "ST", "UC", "UR", "UT"), "GEHEIM47"),
    **dict.fromkeys(("OB", "OD", "OF", "OL", "OV", "OW", "UN"), b"GEHEIM47"),
    "AS": "047Y",
    "DA": "19520304",
    "DT": "19520304101112",
    "TM": "101112.471147",
    "UI": "1.2.3.4711.47",
    "IS": "47114711",
    "DS": "4711.4711",
}
IN_BYTES = (b"GEHEIM47", b"047Y", b"19520304", b"471147", b"4711.47", b"47114711")


def run(source: Path, out: Path, options: Options = PLAIN, key: bytes = KEY) -> dict[str, Any]:
    return deidentify(source, out, key=key, options=options).to_dict()


def copies(out: Path) -> list[Path]:
    return sorted(path for path in out.rglob("*") if path.is_file())


def one(
    source: Dataset,
    tmp_path: Path,
    options: Options = PLAIN,
    syntax: str = ExplicitVRLittleEndian,
) -> Dataset:
    """The copy of one slice."""
    save(source, tmp_path / "in" / "0.dcm", syntax)
    run(tmp_path / "in", tmp_path / "out", options)
    (path,) = copies(tmp_path / "out")
    return pydicom.dcmread(path)


def told_by(out: Path, report: dict[str, Any]) -> bytes:
    """All that leaves: contents, names of files and folders, and the report."""
    names = "\n".join(str(path.relative_to(out)) for path in out.rglob("*"))
    contents = b"\n".join(path.read_bytes() for path in copies(out))
    return contents + names.encode() + json.dumps(report).encode()


def few_slices(source: Path, folder: Path, count: int = 3) -> Path:
    for number, path in enumerate(in_order(source)[10 : 10 + count]):
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{number}.dcm").write_bytes(path.read_bytes())
    return folder


def item(**attributes: Any) -> Dataset:
    dataset = Dataset()
    for name, value in attributes.items():
        setattr(dataset, name, value)
    return dataset


def burden(dataset: Dataset, index: int = 0) -> None:
    """All over the header: whose image this is."""
    dataset.SoftwareVersions = "made for Gisela Geheim"
    dataset.OtherPatientIDs = ["OTHER-4712", "OTHER-4713"]
    dataset.ReferringPhysicianName = "Doktor^Dora"
    dataset.InstitutionName = "Klinik Krähenberg"
    dataset.ImageComments = "Frau Geheim hat am 31.12.1999 Husten"
    dataset.StudyDescription = "Thorax Geheim"
    dataset.AccessionNumber = "ACC-4714"
    dataset.PatientBirthDateInAlternativeCalendar = "13310304"
    dataset.PlacerOrderNumberProcedure = "ORDER-4715"
    dataset.RetrieveURL = "https://pacs.kraehenberg.example/4716"
    dataset.ProcedureCodeSequence = [
        item(CodeValue="1", CodeMeaning="CT of Geheim", CodingSchemeDesignator="99X")
    ]
    nested = item(ReferencedSOPInstanceUID=f"{ROOT_UID}.3.1", PatientName="Geheim^Gisela")
    nested.add_new(0x00091001, "LO", "Geheim privately")
    nested.PurposeOfReferenceCodeSequence = [item(PersonName="Doktor^Dora", UID=f"{ROOT_UID}.9")]
    dataset.ReferencedImageSequence = [nested]
    block = dataset.private_block(0x0011, "KRAEHENBERG 1", create=True)
    block.add_new(0x01, "PN", "Geheim^Gisela")
    block.add_new(0x02, "SQ", [item(PatientID="SECRET-4711")])
    dataset.add_new(0x60003000, "OW", b"Geheim")
    dataset.add_new(0x50003000, "OW", b"Geheim")
    dataset.add_new(0xFFFCFFFC, "OB", b"Geheim")


BURDEN = (
    *("geheim", "gisela", "doktor", "dora", "4711", "4712", "4713", "4714", "4715", "4716"),
    *("klinik", "krähenberg", "kraehenberg", "husten", "13310304", "19520304", "19991231"),
    *(ROOT_UID, "thorax"),
)


@pytest.mark.parametrize("options", [PLAIN, ALL], ids=["plain", "all options"])
def test_nothing_of_the_patient_is_left(tmp_path, options):
    write_series(tmp_path / "in" / "Geheim, Gisela" / "SECRET-4711", 3, edit=burden)
    report = run(tmp_path / "in", tmp_path / "out", options)
    left = told_by(tmp_path / "out", report).lower()
    assert report["written"] == len(copies(tmp_path / "out")) == 3
    assert [word for word in BURDEN if word.encode() in left] == []
    assert [word for word in BURDEN if word.encode("latin-1") in left] == []


@pytest.mark.parametrize("name", REAL)
def test_nothing_that_identifies_real_ct_is_left(tmp_path, test_data, name):
    source = few_slices(test_data / "ct" / name, tmp_path / "in")
    report = run(source, tmp_path / "out")
    secrets = set.union(*(identifying(path) for path in source.iterdir()))
    left = told_by(tmp_path / "out", report)
    secrets.discard("REMOVED")  # a dummy of whoever de-identified the source before
    assert len(secrets) > 5
    assert [text for text in secrets if text.encode() in left] == []
    assert not any(tag.is_private for path in copies(tmp_path / "out") for tag in tags(path))


def tags(path: Path) -> list[Any]:
    return [element.tag for element in pydicom.dcmread(path).iterall()]


def with_secret(tag: int, into: Dataset) -> None:
    # Some entries of the table are newer than the dictionary.
    vr = dictionary_VR(tag).split(" or ")[0] if dictionary_has_tag(tag) else "LO"
    if vr == "SQ":
        inner = item(PatientName="GEHEIM47", ReferencedSOPInstanceUID=SECRET_VALUES["UI"])
        into.add_new(tag, "SQ", [inner])
    elif vr in SECRET_VALUES:
        into.add_new(tag, vr, SECRET_VALUES[vr])


def full(tags: list[int]) -> Dataset:
    """A slice with a secret under every tag, at the top and again within an item."""
    dataset, inner = ct_slice(), Dataset()
    with warnings.catch_warnings(action="ignore"):
        for tag in tags:
            with_secret(tag, inner)
            with_secret(tag, dataset)
    dataset.SourceImageSequence = [inner]
    return dataset


def test_every_attribute_of_the_table_is_treated(tmp_path):
    """At any depth. Entries of groups 0000 to 0004 cannot occur in a file's data set."""
    entries = {entry for entry in table.ALL_TAGS if len(entry) == 2 and entry[0] >= 8}
    assert {entry[0] for entry in table.ALL_TAGS if len(entry) == 4} <= GROUPS_REMOVED
    assert {group << 16 | element for group, element in entries} <= set(TABLE)
    source = full([group << 16 | element for group, element in sorted(entries)])
    assert len(source) > 600
    copy = one(source, tmp_path)
    content = copies(tmp_path / "out")[0].read_bytes()
    assert [secrets for secrets in IN_BYTES if secrets in content] == []
    for element in copy.iterall():
        if (element.tag.group, element.tag.element) in entries and element.VR != "SQ":
            assert element.value != SECRET_VALUES.get(element.VR), element.tag


#: What makes a file an image of a certain kind: with a secret for a value it would be none.
OF_THE_IMAGE = {
    tag_of(keyword)
    for keyword in (
        *("SOPClassUID", "SpecificCharacterSet", "ImageType", "BurnedInAnnotation"),
        *("ConversionType", "PixelData", "FloatPixelData", "DoubleFloatPixelData"),
    )
}


def test_no_attribute_of_the_whole_dictionary_holds_what_identifies(tmp_path):
    """In labels and code strings the patient's ID is found; all else goes by table or VR."""
    every = [
        tag
        for tag, (vr, *_) in DicomDictionary.items()
        if 8 <= tag >> 16 < 0x7FE0 and tag not in OF_THE_IMAGE and vr not in ("IS", "DS")
        if tag >> 16 != 0x0028 or vr not in ("OB", "OW")
    ]
    source = full(every)
    assert len(source) > 3000
    source.PatientID = "GEHEIM47"
    one(source, tmp_path)
    content = copies(tmp_path / "out")[0].read_bytes()
    assert [secrets for secrets in IN_BYTES if secrets in content] == []


@pytest.mark.parametrize("name", REAL)
def test_pixels_and_geometry_are_the_sources_own_bytes(tmp_path, test_data, name):
    source = few_slices(test_data / "ct" / name, tmp_path / "in")
    run(source, tmp_path / "out")
    by_place = {str(pydicom.dcmread(path).ImagePositionPatient): path for path in source.iterdir()}
    for path in copies(tmp_path / "out"):
        copy = pydicom.dcmread(path)
        original = by_place.pop(str(copy.ImagePositionPatient))
        assert copy.PixelData == pydicom.dcmread(original).PixelData
        before, after = encoded(original), encoded(path)
        kept = {tag_of(keyword) for keyword in GEOMETRY} & set(before)
        assert {tag: after[tag] for tag in kept} == {tag: before[tag] for tag in kept}
    assert by_place == {}


def test_unusual_bytes_of_geometry_are_kept(tmp_path):
    (path,) = write_series(tmp_path / "in", 1)
    for keyword, value in (
        ("ImagePositionPatient", b" -10.50 \\-20.25\\ +0.000 "),
        ("PixelSpacing", b"0.80000000000000001\\0.70"),
        ("ImageType", b"ORIGINAL\\PRIMARY\\AXIAL  "),
    ):
        patch(path, keyword, value)
        run(tmp_path / "in", tmp_path / keyword)
        (copy,) = copies(tmp_path / keyword)
        assert encoded(copy)[tag_of(keyword)][1] == value


@pytest.mark.parametrize(
    "syntax",
    [ImplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian, RLELossless],
)
def test_the_transfer_syntax_stays_and_so_do_its_pixels(tmp_path, syntax):
    source = ct_slice()
    burden(source)
    if syntax.is_compressed and syntax != DeflatedExplicitVRLittleEndian:
        source.file_meta = pydicom.dataset.FileMetaDataset()
        source.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        source.compress(syntax, generate_instance_uid=False)
    copy = one(source, tmp_path, Options(shift_dates=True), syntax)
    assert copy.file_meta.TransferSyntaxUID == syntax
    original = pydicom.dcmread(tmp_path / "in" / "0.dcm")
    assert copy.PixelData == original.PixelData
    np.testing.assert_array_equal(copy.pixel_array, original.pixel_array)
    assert copy.PatientID.startswith("p-")
    left = told_by(tmp_path / "out", {}) + str(copy).encode()
    assert b"Geheim" not in left


def test_references_between_series_still_resolve(tmp_path):
    def refer(dataset: Dataset, index: int) -> None:
        dataset.SeriesInstanceUID, dataset.SOPInstanceUID = f"{ROOT_UID}.8", f"{ROOT_UID}.8.{index}"
        dataset.ReferencedImageSequence = [
            item(
                ReferencedSOPClassUID=dataset.SOPClassUID,
                ReferencedSOPInstanceUID=f"{ROOT_UID}.3.{index + 1}",
            )
        ]

    write_series(tmp_path / "in" / "a", 2)
    write_series(tmp_path / "in" / "b", 2, edit=refer)
    report = run(tmp_path / "in", tmp_path / "out")
    found = [pydicom.dcmread(path) for path in copies(tmp_path / "out")]
    by_place = {(len(d.get("ReferencedImageSequence", [])), d.InstanceNumber): d for d in found}
    assert sorted(by_place) == [(0, 1), (0, 2), (1, 1), (1, 2)]
    for number in (1, 2):
        (reference,) = by_place[1, number].ReferencedImageSequence
        assert reference.ReferencedSOPInstanceUID == by_place[0, number].SOPInstanceUID
        assert reference.ReferencedSOPClassUID == by_place[0, number].SOPClassUID
    assert len({d.SOPInstanceUID for d in found}) == 4
    assert len({d.SeriesInstanceUID for d in found}) == 2
    assert len({(d.StudyInstanceUID, d.FrameOfReferenceUID, d.PatientID) for d in found}) == 1
    assert all(re.fullmatch(r"2\.25\.\d{1,39}", d.SOPInstanceUID) for d in found)
    assert all(d.file_meta.MediaStorageSOPInstanceUID == d.SOPInstanceUID for d in found)
    assert [series["images"] for series in report["series"]] == [2, 2]
    assert {path.parent.name for path in copies(tmp_path / "out")} == {
        series["series"] for series in report["series"]
    }


def test_the_same_key_gives_the_same_bytes_and_another_key_another_patient(tmp_path):
    write_series(tmp_path / "in", 2)
    for out in ("one", "two", "two"):
        run(tmp_path / "in", tmp_path / out, ALL)
    run(tmp_path / "in", tmp_path / "other", ALL, key=bytes(32))
    one, two, other = (
        {
            str(path.relative_to(tmp_path / out)): path.read_bytes()
            for path in copies(tmp_path / out)
        }
        for out in ("one", "two", "other")
    )
    assert len(one) == 2
    assert one == two
    assert set(one) & set(other) == set()
    first, second = (
        pydicom.dcmread(copies(tmp_path / "one")[0]),
        pydicom.dcmread(copies(tmp_path / "other")[0]),
    )
    for keyword in ("PatientID", "StudyInstanceUID", "FrameOfReferenceUID", "StudyDate"):
        assert first[keyword].value != second[keyword].value


def test_a_patient_has_the_pseudonym_that_the_store_gives(tmp_path):
    write_series(tmp_path / "in" / "a", 1, PatientID="AB 12 ", IssuerOfPatientID="Klinik")
    write_series(tmp_path / "in" / "b", 1, PatientID="AB 12", SOPInstanceUID=f"{ROOT_UID}.7")
    run(tmp_path / "in", tmp_path / "out")
    found = {pydicom.dcmread(path).PatientID for path in copies(tmp_path / "out")}
    assert found == {patient_key(only_series(tmp_path / "in" / name), KEY) for name in "ab"}
    assert len(found) == 2, "patients of two issuers are two patients"
    copy = pydicom.dcmread(copies(tmp_path / "out")[0])
    assert str(copy.PatientName) == copy.PatientID == copies(tmp_path / "out")[0].parts[-3]


@pytest.mark.parametrize("held", [None, "", "  "])
def test_without_a_patient_id_the_study_stands_for_the_patient(tmp_path, held):
    """Type 2 (PS3.3 C.7.1.1): it may be empty."""
    write_series(tmp_path / "in", 2, PatientID=held)
    report = run(tmp_path / "in", tmp_path / "out")
    assert report["written"] == 2
    assert [w.startswith("2 images: PatientID is missing") for w in report["warnings"]] == [
        False,  # of the face
        True,
    ]
    patient = patient_key(only_series(tmp_path / "in"), KEY)
    for path in copies(tmp_path / "out"):
        copy = pydicom.dcmread(path)
        assert copy.PatientID == str(copy.PatientName) == path.parts[-3] == patient


def test_a_series_that_lies_under_two_patients_is_told(tmp_path):
    write_series(
        tmp_path / "in", 4, edit=lambda dataset, n: setattr(dataset, "PatientID", f"AB-{n % 2}")
    )
    report = run(tmp_path / "in", tmp_path / "out")
    assert any(w.startswith("1 series lie under several patients") for w in report["warnings"])


def test_blanks_before_an_id_make_no_other_patient(tmp_path):
    write_series(
        tmp_path / "in", 2, edit=lambda dataset, n: setattr(dataset, "PatientID", " " * n + "AB-12")
    )
    run(tmp_path / "in", tmp_path / "out")
    patient = patient_key(only_series(tmp_path / "in"), KEY)
    assert {path.parts[-3] for path in copies(tmp_path / "out")} == {patient}


@pytest.mark.parametrize(
    ("written", "stated"),
    [
        (ImplicitVRLittleEndian, ExplicitVRLittleEndian),
        (ExplicitVRLittleEndian, ImplicitVRLittleEndian),
    ],
)
def test_data_in_another_encoding_than_stated_are_copied_in_the_stated_one(
    tmp_path, written, stated
):
    source = ct_slice(0, ReferencedStudySequence=[item(ReferencedSOPInstanceUID=f"{ROOT_UID}.8")])
    path = save(source, tmp_path / "in" / "0.dcm", written)
    put_bytes(path, {}, stated=stated)
    report = run(tmp_path / "in", tmp_path / "out")
    assert any("was read so (PS3.5 7.1)" in warning for warning in report["warnings"])
    (path,) = copies(tmp_path / "out")
    with warnings.catch_warnings(action="error"):
        copy = pydicom.dcmread(path)
        copy.decode()
    assert copy.file_meta.TransferSyntaxUID == stated
    assert copy.is_implicit_VR == stated.is_implicit_VR
    np.testing.assert_array_equal(copy.pixel_array, source.pixel_array)
    assert copy.ImagePositionPatient == source.ImagePositionPatient
    assert b"SECRET" not in path.read_bytes()


@pytest.mark.parametrize("name", ["SOPClassUID", "SOPInstanceUID"])
def test_what_the_file_meta_alone_states_is_taken_from_there(tmp_path, name):
    copy = one(ct_slice(0, **{name: None}), tmp_path)
    assert copy.SOPClassUID == copy.file_meta.MediaStorageSOPClassUID == CTImageStorage
    assert copy.SOPInstanceUID == copy.file_meta.MediaStorageSOPInstanceUID
    assert str(copy.SOPInstanceUID).startswith("2.25.")
    report = run(tmp_path / "in", tmp_path / "again")
    assert any(f"{name} is missing in the data set" in warning for warning in report["warnings"])


def dates_of(tmp_path: Path, patient: str) -> list[datetime]:
    """The shifted dates of two studies, 10 days and a leap day apart."""
    for study, day in (("a", "20000220"), ("b", "20000301")):
        write_series(
            tmp_path / patient / study,
            1,
            PatientID=patient,
            StudyInstanceUID=f"{ROOT_UID}.1.{ord(study)}",
            SOPInstanceUID=f"{ROOT_UID}.{ord(study)}",
            StudyDate=day,
            StudyTime="235959.5",
            AcquisitionDateTime=f"{day}101112.123456+0100",
            SeriesDate=day,
        )
    run(tmp_path / patient, tmp_path / "out" / patient, Options(shift_dates=True))
    found = [pydicom.dcmread(path) for path in copies(tmp_path / "out" / patient)]
    found.sort(key=lambda copy: copy.StudyDate)
    for copy in found:
        assert copy.StudyTime == "235959.5"
        assert copy.SeriesDate == copy.StudyDate
        assert copy.AcquisitionDateTime == f"{copy.StudyDate}101112.123456+0100"
        assert copy.PatientBirthDate == ""
        assert copy.LongitudinalTemporalInformationModified == "MODIFIED"
    return [datetime.strptime(copy.StudyDate, "%Y%m%d") for copy in found]


def test_shifted_dates_keep_their_intervals_within_a_patient_and_only_there(tmp_path):
    first, second = dates_of(tmp_path, "one"), dates_of(tmp_path, "two")
    assert [(late - early).days for early, late in (first, second)] == [10, 10]
    assert first[0] != second[0]
    assert max(first[0], second[0]) < datetime(2000, 2, 20)


def test_dates_that_everyone_knows_do_not_disclose_the_shift(tmp_path):
    version = item(ContextGroupVersion="20121129", DateOfManufacture="20100101")
    source = ct_slice(DateOfInstallation="20100101", ProcedureCodeSequence=[version])
    copy = one(source, tmp_path, ALL)
    assert "DateOfInstallation" not in copy
    (code,) = copy.ProcedureCodeSequence
    assert [(e.keyword, e.value) for e in code] == [("ContextGroupVersion", "19000101000000")]


def test_a_date_that_cannot_be_shifted_goes(tmp_path):
    source = ct_slice()
    save(source, tmp_path / "in" / "0.dcm")
    for keyword, value in (("StudyDate", b"1999.12.31"), ("PatientBirthDate", b"19520304")):
        patch(tmp_path / "in" / "0.dcm", keyword, value)
    dataset = pydicom.dcmread(tmp_path / "in" / "0.dcm")
    with warnings.catch_warnings(action="ignore"):
        dataset.AcquisitionDateTime = "1999"  # a year: legal, and not to be moved by days
        dataset.ContrastBolusStartTime = "Geheim"
        dataset.InstanceCreationDate = "19991332"
        dataset.save_as(tmp_path / "in" / "0.dcm")
    run(tmp_path / "in", tmp_path / "out", Options(shift_dates=True))
    copy = pydicom.dcmread(copies(tmp_path / "out")[0])
    assert copy.StudyDate == ""
    assert copy.AcquisitionDateTime == "19000101000000"
    assert copy.InstanceCreationDate == "19000101"
    assert "ContrastBolusStartTime" not in copy


def private(dataset: Dataset) -> None:
    for group, creator, elements in (
        (0x0019, "GEMS_ACQU_01", {0x23: ("DS", "1.5"), 0x24: ("SQ", []), 0x0F: ("DS", "2.5")}),
        (0x0019, "Geheim", {0x23: ("DS", "3.5")}),
        (0x0025, "GEMS_ACQU_01", {0x23: ("DS", "4.5")}),
    ):
        block = dataset.private_block(group, creator, create=True)
        for offset, (vr, value) in elements.items():
            block.add_new(offset, vr, value)


def test_of_private_elements_only_safe_ones_stay_and_only_by_the_option(tmp_path):
    source = ct_slice()
    private(source)
    source.ReferencedImageSequence = [Dataset()]
    private(source.ReferencedImageSequence[0])
    copy = one(source, tmp_path, Options(safe_private=True))
    for dataset in (copy, copy.ReferencedImageSequence[0]):
        left = {tag: dataset[tag].value for tag in list(dataset.keys()) if tag.is_private}
        assert left == {0x00190010: "GEMS_ACQU_01", 0x00191023: "1.5"}
    run(tmp_path / "in", tmp_path / "plain")
    assert not any(tag.is_private for tag in tags(copies(tmp_path / "plain")[0]))


def test_the_device_stays_only_by_the_option(tmp_path):
    device = {
        "StationName": "CT2",
        "DeviceSerialNumber": "SN-1",
        "DeviceUID": "1.2.3.4",
        "GantryID": "G1",
    }
    source = ct_slice(
        **device,
        InstitutionName="Klinik",
        InstitutionalDepartmentName="Radiologie",
        DateOfLastCalibration="19991231",
        StationAETitle="KLINIK_CT2",
    )
    kept = one(source, tmp_path, Options(retain_device=True))
    assert {name: kept[name].value for name in device} == device
    assert kept.InstitutionName == "REMOVED"
    for name in ("InstitutionalDepartmentName", "DateOfLastCalibration", "StationAETitle"):
        assert name not in kept
    run(tmp_path / "in", tmp_path / "plain")
    copy = pydicom.dcmread(copies(tmp_path / "plain")[0])
    assert (copy.StationName, copy.DeviceSerialNumber) == ("REMOVED", "REMOVED")
    assert copy.DeviceUID.startswith("2.25.")
    assert "GantryID" not in copy


@pytest.mark.parametrize(
    ("options", "codes", "dates"),
    [
        (PLAIN, ["113100"], "REMOVED"),
        (Options(shift_dates=True), ["113100", "113107"], "MODIFIED"),
        (ALL, ["113100", "113107", "113109", "113111"], "MODIFIED"),
    ],
)
def test_the_copy_says_what_was_done(tmp_path, options, codes, dates):
    copy = one(ct_slice(DeidentificationMethod="by Gisela"), tmp_path, options)
    assert [code.CodeValue for code in copy.DeidentificationMethodCodeSequence] == codes
    assert {code.CodingSchemeDesignator for code in copy.DeidentificationMethodCodeSequence} == {
        "DCM"
    }
    assert copy.PatientIdentityRemoved == "YES"
    assert copy.LongitudinalTemporalInformationModified == dates
    assert re.fullmatch(r"ldct \S+: PS3.15 \w+ Basic Profile", copy.DeidentificationMethod)


def test_preamble_and_file_meta_are_our_own(tmp_path):
    path = save(ct_slice(), tmp_path / "in" / "0.dcm")
    dataset = pydicom.dcmread(path)
    dataset.preamble = b"Geheim".ljust(128)
    dataset.file_meta.SourceApplicationEntityTitle = "GEHEIM_AE"
    dataset.file_meta.PrivateInformationCreatorUID = "1.2.3.4711"
    dataset.file_meta.PrivateInformation = b"Geheim"
    dataset.save_as(path)
    run(tmp_path / "in", tmp_path / "out")
    (copy,) = copies(tmp_path / "out")
    assert copy.read_bytes()[:132] == bytes(128) + b"DICM"
    assert {element.tag.element for element in pydicom.dcmread(copy).file_meta} <= {
        *(0x0000, 0x0001, 0x0002, 0x0003, 0x0010, 0x0012, 0x0013)
    }


def test_signed_and_encrypted_content_goes(tmp_path):
    encrypted = item(EncryptedContent=b"Geheim", EncryptedContentTransferSyntaxUID="1.2.3.4711")
    signature = item(Signature=b"Geheim", DigitalSignatureUID="1.2.3.4711")
    source = ct_slice(
        EncryptedAttributesSequence=[encrypted],
        MACParametersSequence=[item(MACIDNumber=1)],
        DigitalSignaturesSequence=[signature],
    )
    copy = one(source, tmp_path)
    for keyword in ("Encrypted", "MAC", "DigitalSignature"):
        assert copy.dir(keyword) == []


def overlaid(dataset: Dataset) -> None:
    dataset.add_new(0x60000100, "US", 16)
    dataset.add_new(0x60000102, "US", 12)


def coloured(dataset: Dataset) -> None:
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 3, "RGB"


DOUBTFUL = {
    "burned in": ({"BurnedInAnnotation": "YES"}, "BurnedInAnnotation"),
    "neither yes nor no": ({"BurnedInAnnotation": "PERHAPS"}, "BurnedInAnnotation"),
    "secondary capture": ({"SOPClassUID": SecondaryCaptureImageStorage}, "SOPClassUID"),
    "structured report": ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.88.11"}, "SOPClassUID"),
    "PDF": ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.104.1"}, "SOPClassUID"),
    "RT structures": ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.481.3"}, "SOPClassUID"),
    "unknown class": ({"SOPClassUID": "1.2.3.4711"}, "SOPClassUID"),
    "screen": ({"ImageType": ["ORIGINAL", "SECONDARY", "SCREEN SAVE"]}, "ImageType"),
    "dose page": ({"ImageType": ["DERIVED", "PRIMARY", "AXIAL", "DOSE_INFO"]}, "ImageType"),
    "protocol": ({"ImageType": ["ORIGINAL", "SECONDARY", "PROT"]}, "ImageType"),
    "screen that says no": (
        {"ImageType": ["ORIGINAL", "SECONDARY", "SCREENSAVE"], "BurnedInAnnotation": "NO"},
        "ImageType",
    ),
    "rendered": ({"ImageType": ["DERIVED", "SECONDARY", "VRT"]}, "ImageType"),
    "no slice": (
        {"ImageType": ["DERIVED", "SECONDARY"], "ImageOrientationPatient": None},
        "BurnedInAnnotation",
    ),
    "filmed": ({"ConversionType": "DF"}, "ConversionType"),
    "overlay in the pixels": (overlaid, "OverlayBitPosition"),
    "in colour": (coloured, "SamplesPerPixel"),
}


@pytest.mark.parametrize(
    "change",
    [
        {"ImageType": ["DERIVED", "SECONDARY", "MPR"]},
        {"ImageType": ["DERIVED", "PRIMARY", "REFORMATTED", "AVERAGE"]},
        {"ImageType": ["DERIVED", "SECONDARY", "MIP"]},
        {"ImageType": ["DERIVED", "SECONDARY"]},
        {"ImageType": None},
    ],
)
def test_a_slice_that_does_not_speak_of_annotation_is_copied(tmp_path, change):
    source = ct_slice(5, **change)
    assert "BurnedInAnnotation" not in source
    copy = one(source, tmp_path)
    assert copy.get("ImageType") == source.get("ImageType")
    assert copy.PixelData == source.PixelData


@pytest.mark.parametrize("case", ["burned in", "rendered", "no slice", "screen", "dose page"])
def test_who_has_looked_may_have_images_copied_that_may_hold_text(tmp_path, case):
    copy = one(ct_slice(5, **DOUBTFUL[case][0]), tmp_path, Options(trust_pixels=True))
    assert copy.PatientID != "SECRET-4711"


@pytest.mark.parametrize("case", ["secondary capture", "filmed", "overlay in the pixels"])
def test_what_is_no_ct_image_is_left_out_whoever_has_looked(tmp_path, case):
    change, attribute = DOUBTFUL[case]
    source = ct_slice(5) if callable(change) else ct_slice(5, **change)
    if callable(change):
        change(source)
    save(source, tmp_path / "in" / "bad.dcm")
    save(ct_slice(0), tmp_path / "in" / "good.dcm")
    report = run(tmp_path / "in", tmp_path / "out", Options(trust_pixels=True))
    (refusal,) = report["excluded"] + report["quarantined"]
    assert refusal["attribute"] == attribute


@pytest.mark.parametrize("case", DOUBTFUL)
def test_what_may_show_identity_in_its_pixels_is_refused(tmp_path, case):
    change, attribute = DOUBTFUL[case]
    source = ct_slice(5) if callable(change) else ct_slice(5, **change)
    if callable(change):
        change(source)
    save(source, tmp_path / "in" / "bad.dcm")
    save(ct_slice(0), tmp_path / "in" / "good.dcm")
    report = run(tmp_path / "in", tmp_path / "out")
    (refusal,) = report["excluded" if attribute == "SOPClassUID" else "quarantined"]
    assert (refusal["file"], refusal["attribute"]) == ("bad.dcm", attribute)
    assert "4711" not in json.dumps(report)
    assert (report["written"], len(copies(tmp_path / "out"))) == (1, 1)


@pytest.mark.parametrize(
    "attributes",
    [
        {"ImageType": ["DERIVED", "SECONDARY", "AXIAL"]},
        {"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"]},
        {"ImageType": ["DERIVED", "SECONDARY", "MPR"], "BurnedInAnnotation": "NO"},
        {"SOPClassUID": EnhancedCTImageStorage},
    ],
)
def test_ordinary_images_are_not_refused(tmp_path, attributes):
    save(ct_slice(0, **attributes), tmp_path / "in" / "0.dcm")
    assert run(tmp_path / "in", tmp_path / "out")["written"] == 1


def test_frames_of_a_multi_frame_image_are_treated_one_by_one(tmp_path):
    frames = [
        item(
            FrameContentSequence=[
                item(FrameAcquisitionDateTime="19991231101112", FrameComments="Geheim", StackID="1")
            ],
            PlanePositionSequence=[item(ImagePositionPatient=[0, 0, float(number)])],
        )
        for number in range(2)
    ]
    source = ct_slice(SOPClassUID=EnhancedCTImageStorage, PerFrameFunctionalGroupsSequence=frames)
    copy = one(source, tmp_path)
    for number, frame in enumerate(copy.PerFrameFunctionalGroupsSequence):
        (content,) = frame.FrameContentSequence
        assert (content.FrameAcquisitionDateTime, content.StackID) == ("19000101000000", "1")
        assert "FrameComments" not in content
        assert frame.PlanePositionSequence[0].ImagePositionPatient[2] == number


def damaged(tmp_path: Path) -> None:
    """Beside one good slice."""
    folder = tmp_path / "in"
    good = save(ct_slice(0), folder / "good.dcm").read_bytes()
    for name, length in (("head.dcm", 140), ("short.dcm", 400), ("cut.dcm", -10)):
        (folder / name).write_bytes(good[:length])
    (folder / "empty.dcm").write_bytes(b"")
    (folder / "text.dcm").write_text("Geheim")
    (folder / "notes.txt").write_text("Geheim")
    (folder / "twin.dcm").write_bytes(good)
    for name, attributes in (
        ("studyless.dcm", {"StudyInstanceUID": None}),
        ("nowhere.dcm", {"SeriesInstanceUID": None}),
        ("many.dcm", {"SamplesPerPixel": None}),
    ):
        save(ct_slice(1, **attributes), folder / name)
    wrong = ct_slice(2)
    wrong.add_new("BodyPartExamined", "PN", "Geheim^Gisela")
    save(wrong, folder / "wrong.dcm")
    blind = ct_slice(3)
    del blind.PixelData
    save(blind, folder / "blind.dcm")


def test_a_bad_file_is_refused_by_name_and_the_rest_goes_on(tmp_path, capfd):
    damaged(tmp_path)
    seen: list[int] = []
    report = deidentify(
        tmp_path / "in", tmp_path / "out", key=KEY, options=PLAIN, progress=seen.append
    ).to_dict()
    assert seen == list(range(1, 14))
    reasons = {refusal["file"]: refusal["reason"] for refusal in report["quarantined"]}
    assert set(reasons) == {
        *("head.dcm", "short.dcm", "cut.dcm", "empty.dcm", "text.dcm", "studyless.dcm"),
        *("nowhere.dcm", "many.dcm", "wrong.dcm", "blind.dcm", "twin.dcm"),
    }
    assert reasons["wrong.dcm"] == "a wrong VR"
    assert "StudyInstanceUID" in reasons["studyless.dcm"]
    assert [refusal["file"] for refusal in report["excluded"]] == ["notes.txt"]
    assert report["written"] == len(copies(tmp_path / "out")) == 1
    shown = capfd.readouterr()
    assert b"Geheim" not in told_by(tmp_path / "out", report)
    assert "Geheim" not in shown.out + shown.err


def test_neither_warnings_nor_faults_quote_values(tmp_path, monkeypatch):
    (path,) = write_series(tmp_path / "in", 1)
    path.write_bytes(path.read_bytes().replace(b"ISO_IR 192", b"ISO_IR GEH"))
    with warnings.catch_warnings(record=True, action="always") as given:
        run(tmp_path / "in", tmp_path / "out")
    assert given == []

    def fail(path: Path) -> Dataset:
        raise ValueError("Geheim")

    monkeypatch.setattr("pipeline.dicom.deidentify.profile.read_dataset", fail)
    with pytest.raises(NothingUsableError, match=r"damaged \(ValueError\)"):
        run(tmp_path / "in", tmp_path / "out")


def test_where_nothing_can_be_used_the_commonest_reason_is_reported(tmp_path):
    write_series(tmp_path / "in", 2, StudyInstanceUID=None)
    (tmp_path / "in" / "notes.txt").write_text("Geheim")
    with pytest.raises(NothingUsableError, match="3 files refused, 2 of them: StudyInstanceUID"):
        run(tmp_path / "in", tmp_path / "out")
    assert not (tmp_path / "out").exists()
    with pytest.raises(NothingUsableError, match="does not exist"):
        run(tmp_path / "nowhere", tmp_path / "out")
    (tmp_path / "bare").mkdir()
    with pytest.raises(NothingUsableError, match="is empty"):
        run(tmp_path / "bare", tmp_path / "out")


def test_what_is_there_is_never_overwritten(tmp_path):
    write_series(tmp_path / "in", 2)
    run(tmp_path / "in", tmp_path / "out")
    before = {path: path.stat().st_mtime_ns for path in copies(tmp_path / "out")}
    run(tmp_path / "in", tmp_path / "out")
    assert {path: path.stat().st_mtime_ns for path in copies(tmp_path / "out")} == before
    changed = copies(tmp_path / "out")[0]
    changed.write_bytes(b"someone else's")
    report = run(tmp_path / "in", tmp_path / "out")
    assert (report["written"], len(report["quarantined"])) == (1, 1)
    assert "something else" in report["quarantined"][0]["reason"]
    assert changed.read_bytes() == b"someone else's"
    assert len(copies(tmp_path / "out")) == 2, "and no partial file stays"


def test_copies_do_not_go_into_the_source(tmp_path):
    write_series(tmp_path / "in", 1)
    for out in (tmp_path / "in", tmp_path / "in" / "out"):
        with pytest.raises(ConfigError, match="outside the source"):
            run(tmp_path / "in", out)
    assert len(copies(tmp_path / "in")) == 1


def test_members_of_an_archive_give_the_same_copies(tmp_path):
    paths = write_series(tmp_path / "in", 2)
    with zipfile.ZipFile(tmp_path / "Geheim.zip", "w") as archive:
        for path in paths:
            archive.write(path, f"Gisela/{path.name}")
    report = run(tmp_path / "Geheim.zip", tmp_path / "zipped")
    assert report == run(tmp_path / "in", tmp_path / "plain")
    zipped, plain = (
        [path.read_bytes() for path in copies(tmp_path / name)] for name in ("zipped", "plain")
    )
    assert zipped == plain


@pytest.mark.parametrize(
    ("part", "warned"), [("HEAD", 1), (None, 1), ("NECK", 1), ("CHEST", 0), ("HEART", 0)]
)
def test_a_face_that_could_be_rendered_is_warned_of(tmp_path, part, warned):
    write_series(tmp_path / "in", 2, BodyPartExamined=part)
    assert len(run(tmp_path / "in", tmp_path / "out")["warnings"]) == warned


def findings(program: str, path: Path) -> set[str]:
    """What dciodvfy says of a file, but for the values it quotes."""
    ran = subprocess.run([program, str(path)], capture_output=True, text=True, check=False)
    lines = (ran.stdout + ran.stderr).splitlines()
    assert "CTImage" in lines
    return {re.sub(r"= <[^>]*> - |for value \d+", "", line) for line in lines}


@pytest.mark.parametrize("options", [PLAIN, ALL], ids=["plain", "all options"])
@pytest.mark.parametrize("name", REAL)
def test_dciodvfy_finds_no_error_that_the_source_does_not_have(
    tmp_path, test_data, require_program, name, options
):
    program = require_program("dciodvfy")
    source = few_slices(test_data / "ct" / name, tmp_path / "in", 1)
    run(source, tmp_path / "out", options)
    (original,), (copy,) = source.iterdir(), copies(tmp_path / "out")
    new = findings(program, copy) - findings(program, original)
    assert {line for line in new if line.startswith("Error")} == set()
