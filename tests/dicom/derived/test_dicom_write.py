"""Derived series: the source's geometry and patient to the byte, new pixels, and saying so."""

from __future__ import annotations

import re
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pydicom
import pytest
from helpers.derived import write_derived
from helpers.dicom import (
    COLUMNS,
    OPERATION,
    ROOT_UID,
    ROWS,
    copy_slices,
    ct_slice,
    encoded,
    in_order,
    only_series,
    patch,
    ramp,
    raw_stored,
    save,
    tag_of,
    write_series,
)
from pydicom.sequence import Sequence
from pydicom.uid import (
    CTImageStorage,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLSLossless,
    JPEGLSNearLossless,
    RLELossless,
)

import pipeline.dicom.derived.write
from pipeline.core.errors import ConfigError, LdctError
from pipeline.dicom.derived.publish import derived_series
from pipeline.dicom.derived.quantise import ClippedPixels
from pipeline.dicom.derived.write import Operation, derived_uid, series_number, write_slice
from pipeline.dicom.read.ingest_options import IngestOptions
from pipeline.dicom.read.series import Series, find_series
from pipeline.dicom.read.volume import read_volume
from pipeline.dicom.synthetic.phantom_series import write_phantom_series
from pipeline.physics.phantoms.patient import patient_phantom

REAL = ["chest-ge-lidc0001", "abdomen-ge-crlm1004", "abdomen-ge-crlm1006", "head-ge-tilted"]

#: All that a derived header may differ in, besides what is gone on purpose.
CHANGED = {
    "ImageType",
    "SOPInstanceUID",
    "SeriesInstanceUID",
    "SeriesNumber",
    "SeriesDescription",
}
ADDED = {"DerivationDescription"}
GONE = {
    "InstanceCreationDate",
    "InstanceCreationTime",
    "SmallestImagePixelValue",
    "LargestImagePixelValue",
}
#: Named one by one as well, lest a source without them make the comparison empty.
KEPT = (
    "PatientID",
    "PatientName",
    "StudyInstanceUID",
    "StudyDate",
    "FrameOfReferenceUID",
    "ImagePositionPatient",
    "ImageOrientationPatient",
    "PixelSpacing",
    "SliceThickness",
    "RescaleSlope",
    "RescaleIntercept",
    "Rows",
    "Columns",
)


def derive(series: Series, folder: Path, operation: Operation = OPERATION) -> list[Path]:
    """The series as a network that changes nothing would leave it."""
    reading = read_volume(series)
    clipped = write_derived(reading.volume.image_hu, reading.series, operation, folder)
    paths = sorted(folder.iterdir())
    assert len(paths) == len(series.instances)
    assert clipped == ClippedPixels(0, 0)
    return paths


def few_slices(source: Path, folder: Path, count: int = 3) -> Path:
    """Copies of some neighbouring slices from the middle, byte for byte."""
    paths = in_order(source)
    middle = len(paths) // 2
    folder.mkdir()
    for path in paths[middle : middle + count]:
        (folder / path.name).write_bytes(path.read_bytes())
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture
def small(tmp_path) -> Series:
    write_series(tmp_path / "source", 3)
    return only_series(tmp_path / "source")


@pytest.mark.parametrize("name", REAL)
def test_unchanged_hu_come_back_with_every_stored_bit(tmp_path, test_data, name):
    series = only_series(few_slices(test_data / "ct" / name, tmp_path / "in"))
    source = read_volume(series).volume
    derived = derive(series, tmp_path / "out")
    for path, instance in zip(derived, series.instances, strict=True):
        # Padding included: the very bits that the scanner wrote outside its circle.
        np.testing.assert_array_equal(raw_stored(path), raw_stored(instance.path))
    again = read_volume(only_series(tmp_path / "out")).volume
    np.testing.assert_array_equal(again.image_hu, source.image_hu)
    np.testing.assert_array_equal(again.valid, source.valid)
    np.testing.assert_array_equal(again.affine_lps, source.affine_lps)
    np.testing.assert_array_equal(again.slice_origins_mm, source.slice_origins_mm)


@pytest.mark.parametrize("name", REAL)
def test_all_but_what_must_change_is_the_sources_own_bytes(tmp_path, test_data, name):
    series = only_series(few_slices(test_data / "ct" / name, tmp_path / "in"))
    allowed = {tag_of(keyword) for keyword in CHANGED}
    gone = {tag_of(keyword) for keyword in GONE}
    for path, instance in zip(derive(series, tmp_path / "out"), series.instances, strict=True):
        before, after = encoded(instance.path), encoded(path)
        private = {tag for tag in before if tag >> 16 & 1}
        assert private
        assert set(before) - set(after) - gone == private
        assert set(after) - set(before) <= {tag_of(keyword) for keyword in ADDED | CHANGED}
        assert {tag for tag in set(before) & set(after) if before[tag] != after[tag]} <= allowed
        assert {tag_of(keyword) for keyword in KEPT} <= set(before)


@pytest.mark.parametrize(
    ("keyword", "value"),
    [
        ("ImagePositionPatient", b" -10.50 \\-20.25\\ +0.000 "),
        ("ImageOrientationPatient", b"1.000000\\-0.0\\0\\0\\1.0E0\\0 "),
        ("PixelSpacing", b"0.80000000000000001\\0.70"),
        ("PixelSpacing", b" 0.8\\0.700"),
        ("SliceThickness", b"+2.50 "),
        ("SliceThickness", b"2.5\0"),
        ("PatientID", b" SECRET-4711"),
        ("PatientID", b"SECRET-4711\0"),
        ("PatientName", b"Geheim^Gisela^^^"),
        ("StudyDate", b"1999.12.31"),
        ("StudyID", b"longer than 16 characters "),
    ],
)
def test_unusual_bytes_of_patient_study_and_geometry_are_kept(tmp_path, keyword, value):
    (path,) = write_series(tmp_path / "in", 1)
    patch(path, keyword, value)
    assert encoded(path)[tag_of(keyword)][1] == value
    (derived,) = derive(only_series(tmp_path / "in"), tmp_path / "out")
    assert encoded(derived)[tag_of(keyword)][1] == value


@pytest.mark.parametrize(
    ("character_set", "name"),
    [
        (["", "ISO 2022 IR 87"], "Yamada^Tarou=山田^太郎=やまだ^たろう"),
        (["", "ISO 2022 IR 149"], "Hong^Gildong=洪^吉洞=홍^길동"),
        ("ISO_IR 144", "Люкceмбypг"),
        ("ISO_IR 126", "Διονυσιος"),
        ("ISO_IR 192", "Wang^XiaoDong=王^小东="),
        ("GB18030", "Wang^XiaoDong=王^小东="),
        ("ISO_IR 100", "Buc^Jérôme"),
    ],
)
def test_names_in_other_scripts_stay_as_they_are(tmp_path, character_set, name):
    (path,) = write_series(tmp_path / "in", 1, SpecificCharacterSet=character_set, PatientName=name)
    before = encoded(path)
    in_file = before[tag_of("PatientName")][1]
    assert b"\x1b" in in_file or not in_file.isascii()
    (derived,) = derive(only_series(tmp_path / "in"), tmp_path / "out")
    after = encoded(derived)
    for keyword in ("PatientName", "SpecificCharacterSet"):
        assert after[tag_of(keyword)] == before[tag_of(keyword)]
    assert str(pydicom.dcmread(derived).PatientName) == name.rstrip("=")


def test_a_derived_image_says_so_and_from_what(tmp_path, test_data):
    source = few_slices(test_data / "ct" / "chest-ge-lidc0001", tmp_path / "in")
    series = only_series(source)
    paths = derive(series, tmp_path / "out")
    assert [path.name for path in paths] == ["CT.0001.dcm", "CT.0002.dcm", "CT.0003.dcm"]
    for path, instance in zip(paths, series.instances, strict=True):
        derived, original = pydicom.dcmread(path), pydicom.dcmread(instance.path)
        assert list(derived.ImageType) == ["DERIVED", "SECONDARY", "AXIAL"]
        assert derived.SeriesDescription.startswith(OPERATION.label)
        assert derived.DerivationDescription == OPERATION.description
        (code,) = derived.DerivationCodeSequence
        assert (code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning) == OPERATION.code
        (reference,) = derived.SourceImageSequence
        assert reference.ReferencedSOPInstanceUID == original.SOPInstanceUID
        assert reference.ReferencedSOPClassUID == CTImageStorage
        (purpose,) = reference.PurposeOfReferenceCodeSequence
        assert (purpose.CodeValue, purpose.CodingSchemeDesignator) == ("121322", "DCM")
        # One to one: the picture is that very source's.
        assert derived.ImagePositionPatient == original.ImagePositionPatient
        np.testing.assert_array_equal(raw_stored(path), raw_stored(instance.path))
        equipment = derived.ContributingEquipmentSequence[-1]
        (purpose,) = equipment.PurposeOfReferenceCodeSequence
        assert (purpose.CodeValue, purpose.CodingSchemeDesignator) == ("109102", "DCM")
        assert equipment.ManufacturerModelName == "test"
        assert derived.SOPClassUID == derived.file_meta.MediaStorageSOPClassUID == CTImageStorage
        assert derived.file_meta.MediaStorageSOPInstanceUID == derived.SOPInstanceUID
        assert derived.file_meta.TransferSyntaxUID == ExplicitVRLittleEndian


def test_the_description_keeps_the_label_and_fits_its_field(tmp_path):
    write_series(tmp_path / "in", 1, SeriesDescription="Thorax nativ " * 5)
    (path,) = derive(only_series(tmp_path / "in"), tmp_path / "out")
    description = pydicom.dcmread(path).SeriesDescription
    assert description.startswith(f"{OPERATION.label} | Thorax nativ")
    assert len(description) <= 64


def test_equipment_that_was_there_stays_before_ours(tmp_path):
    scanner = pydicom.Dataset()
    scanner.Manufacturer = "an archive"
    write_series(tmp_path / "in", 1, ContributingEquipmentSequence=Sequence([scanner]))
    (path,) = derive(only_series(tmp_path / "in"), tmp_path / "out")
    names = [str(e.Manufacturer) for e in pydicom.dcmread(path).ContributingEquipmentSequence]
    assert names == ["an archive", "ldct"]


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        (["ORIGINAL", "PRIMARY", "AXIAL"], ["DERIVED", "SECONDARY", "AXIAL"]),
        (
            ["ORIGINAL", "PRIMARY", "AXIAL", "CT_SOM5 SPI"],
            ["DERIVED", "SECONDARY", "AXIAL", "CT_SOM5 SPI"],
        ),
        (["DERIVED", "SECONDARY", "REFORMATTED"], ["DERIVED", "SECONDARY", "REFORMATTED"]),
        (["ORIGINAL", "PRIMARY"], ["DERIVED", "SECONDARY", "AXIAL"]),
        ("ORIGINAL", ["DERIVED", "SECONDARY", "AXIAL"]),
        (None, ["DERIVED", "SECONDARY", "AXIAL"]),
    ],
)
def test_the_image_type_is_derived_whatever_it_was(tmp_path, source, expected):
    write_series(tmp_path / "in", 1, ImageType=source)
    (path,) = derive(only_series(tmp_path / "in"), tmp_path / "out")
    assert list(pydicom.dcmread(path).ImageType) == expected


def uids(folder: Path) -> tuple[list[str], set[str]]:
    datasets = [pydicom.dcmread(path) for path in sorted(folder.iterdir())]
    return [d.SOPInstanceUID for d in datasets], {d.SeriesInstanceUID for d in datasets}


def test_uids_are_new_valid_and_the_same_at_every_run(small, tmp_path):
    derive(small, tmp_path / "one")
    derive(small, tmp_path / "two")
    instances, series = uids(tmp_path / "one")
    assert (instances, series) == uids(tmp_path / "two")
    assert len(set(instances)) == 3
    assert len(series) == 1
    for uid in (*instances, *series):
        assert uid.startswith("2.25.")
        assert uid.is_valid
        assert len(uid) <= 64


@pytest.mark.parametrize("change", ["operation", "software", "source"])
def test_another_operation_or_source_has_other_uids(small, tmp_path, monkeypatch, change):
    derive(small, tmp_path / "one")
    if change == "operation":
        derive(small, tmp_path / "two", replace(OPERATION, identity="test/2/abc"))
    elif change == "software":  # the image names it, and one UID is one image
        monkeypatch.setattr(pipeline.dicom.derived.write, "VERSION", "99.0")
        derive(small, tmp_path / "two")
    else:

        def rename(dataset, index):
            dataset.SOPInstanceUID += ".7"
            dataset.SeriesInstanceUID += ".7"

        write_series(tmp_path / "other", 3, edit=rename)
        derive(only_series(tmp_path / "other"), tmp_path / "two")
    (one, one_series), (two, two_series) = uids(tmp_path / "one"), uids(tmp_path / "two")
    assert not set(one) & set(two)
    assert not one_series & two_series


def test_a_second_write_gives_the_same_bytes_and_leaves_an_equal_folder(small, tmp_path):
    derive(small, tmp_path / "one")
    before = contents(tmp_path / "one")
    derive(small, tmp_path / "two")
    assert contents(tmp_path / "two") == before
    inode = (tmp_path / "one").stat().st_ino
    derive(small, tmp_path / "one")
    assert contents(tmp_path / "one") == before
    assert (tmp_path / "one").stat().st_ino == inode
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one", "source", "two"]


@pytest.mark.parametrize("there", ["changed", "more", "fewer", "file"])
def test_what_is_there_and_differs_is_refused_and_left_alone(small, tmp_path, there):
    out = tmp_path / "out"
    if there == "file":
        out.write_text("mine")
    else:
        paths = derive(small, out)
        if there == "changed":
            paths[0].write_bytes(paths[0].read_bytes()[:-2] + b"xx")
        elif there == "more":
            (out / "notes.txt").write_text("mine")
        else:
            paths[0].unlink()
    before = out.read_text() if there == "file" else contents(out)
    with pytest.raises(LdctError, match="exists"):
        write_derived(read_volume(small).volume.image_hu, small, OPERATION, out)
    assert (out.read_text() if there == "file" else contents(out)) == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "source"]


def test_what_is_no_longer_true_is_gone(tmp_path):
    def burden(dataset, index):
        dataset.add_new("SmallestImagePixelValue", "SS", 1)
        dataset.add_new("LargestImagePixelValue", "SS", 9)
        dataset.private_block(0x0011, "MAKER", create=True).add_new(1, "LO", "Geheim")
        dataset.ProcedureCodeSequence = Sequence([pydicom.Dataset()])
        nested = dataset.ProcedureCodeSequence[0]
        nested.CodeMeaning = "CT"
        nested.private_block(0x0011, "MAKER", create=True).add_new(1, "LO", "Geheim")
        dataset.IconImageSequence = Sequence([pydicom.Dataset()])
        dataset.InstanceCreationDate = "20200101"
        dataset.SourceImageSequence = Sequence([pydicom.Dataset()])
        dataset.add_new(0x60000010, "US", ROWS)
        dataset.add_new(0x60000011, "US", COLUMNS)
        dataset.add_new(0x60003000, "OW", bytes(ROWS * COLUMNS // 8))
        dataset.add_new(0x60020022, "LO", "a second overlay")

    write_series(tmp_path / "in", 1, edit=burden)
    (path,) = derive(only_series(tmp_path / "in"), tmp_path / "out")
    derived = pydicom.dcmread(path)
    groups = {element.tag.group for element in derived.iterall()}
    assert not [group for group in groups if group % 2 or 0x6000 <= group <= 0x60FF]
    for keyword in (*sorted(GONE), "IconImageSequence"):
        assert keyword not in derived
    assert derived.ProcedureCodeSequence[0].CodeMeaning == "CT"
    assert derived.SourceImageSequence[0].ReferencedSOPInstanceUID == f"{ROOT_UID}.3.1"


def test_lossy_compression_of_the_source_stays_told(tmp_path):
    write_series(
        tmp_path / "in",
        2,
        LossyImageCompression="01",
        LossyImageCompressionRatio="12.5",
        LossyImageCompressionMethod="ISO_15444_1",
    )
    for path in derive(only_series(tmp_path / "in"), tmp_path / "out"):
        derived = pydicom.dcmread(path)
        assert derived.LossyImageCompression == "01"
        assert derived.LossyImageCompressionRatio == 12.5
        assert derived.LossyImageCompressionMethod == "ISO_15444_1"


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, ExplicitVRBigEndian, JPEG2000Lossless])
def test_other_encodings_of_the_source_become_explicit_little_endian(tmp_path, syntax):
    for index in range(2):
        dataset = ct_slice(index, np.tile(ramp(index), (4, 4)))  # JPEG 2000 needs some size
        dataset.add_new("PixelPaddingValue", "SS", -2000)
        path = tmp_path / "in" / f"{index}.dcm"
        if syntax == JPEG2000Lossless:
            save(dataset, path)
            dataset.compress(syntax, generate_instance_uid=False)
            dataset.save_as(path, enforce_file_format=True)
        else:
            save(dataset, path, syntax)
    for index, path in enumerate(derive(only_series(tmp_path / "in"), tmp_path / "out")):
        derived = pydicom.dcmread(path)
        assert derived.file_meta.TransferSyntaxUID == ExplicitVRLittleEndian
        assert derived.PixelPaddingValue == -2000
        assert not derived["PixelData"].is_undefined_length
        np.testing.assert_array_equal(raw_stored(path), np.tile(ramp(index), (4, 4)))


def rewritten(tmp_path: Path, image_hu: np.ndarray, source) -> tuple[np.ndarray, int]:
    """What is stored of an image [rows, columns] derived from a one-slice source."""
    save(source, tmp_path / "in" / "0.dcm")
    series = only_series(tmp_path / "in")
    clipped = write_derived(image_hu[None].astype(np.float32), series, OPERATION, tmp_path / "out")
    return raw_stored(tmp_path / "out" / "CT.0001.dcm"), clipped.pixels


def test_hu_are_rounded_to_the_nearest_stored_value(tmp_path):
    hu = np.linspace(-900, 900, ROWS * COLUMNS).reshape(ROWS, COLUMNS)
    source = ct_slice(0, RescaleSlope="0.5", RescaleIntercept="-1000")
    stored, clipped = rewritten(tmp_path, hu, source)
    error = stored * 0.5 - 1000 - hu.astype(np.float32)
    assert clipped == 0
    # Rounding errs by half a step at most, to both sides; truncation would err to one.
    assert np.abs(error).max() <= 0.25 + 1e-4
    assert abs(error.mean()) < 0.02
    assert error.min() < -0.2
    assert error.max() > 0.2


@pytest.mark.parametrize(
    ("dtype", "bits", "low", "high"),
    [(np.int16, 16, -32768, 32767), (np.uint16, 12, 0, 4095), (np.int16, 12, -2048, 2047)],
)
def test_hu_that_do_not_fit_are_clipped_and_counted(tmp_path, dtype, bits, low, high):
    stored = ramp().astype(dtype)
    source = ct_slice(0, stored, BitsStored=bits, HighBit=bits - 1)
    hu = np.zeros((ROWS, COLUMNS))
    hu[0, :3], hu[1, :2] = high - 1024 + 1, low - 1024 - 1
    hu[2, :2] = high - 1024, low - 1024
    result, clipped = rewritten(tmp_path, hu, source)
    assert clipped == 5
    assert (result[0, :3] == high).all()
    assert (result[1, :2] == low).all()
    assert result[2, :2].tolist() == [high, low]


def test_padding_is_restored_whatever_the_network_made_of_it(tmp_path):
    stored = ramp()
    stored[0, :4] = -2000
    source = ct_slice(0, stored)
    source.add_new("PixelPaddingValue", "US", 63536)
    hu = stored - 1024.0
    hu[0, :4] = [50, -1000, 1e6, -1e6]
    result, clipped = rewritten(tmp_path, hu, source)
    np.testing.assert_array_equal(result, stored)
    assert clipped == 0, "padding is no measurement that could be clipped"


def test_a_measured_pixel_never_becomes_padding(tmp_path):
    stored = ramp().astype(np.uint16)
    stored[0, :4] = 0
    source = ct_slice(0, stored)
    source.add_new("PixelPaddingValue", "US", 0)
    hu = stored - 1024.0
    hu[5, :3] = [-1024, -1023.6, -1100]  # what a network may well make of noise in air
    rewritten(tmp_path, hu, source)
    again = read_volume(only_series(tmp_path / "out")).volume
    np.testing.assert_array_equal(again.valid[0], stored != 0)
    assert (np.abs(again.image_hu[0, 5, :2] - hu[5, :2]) <= 1).all()


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_values_that_are_no_numbers_are_refused_and_leave_nothing(small, tmp_path, value):
    image_hu = read_volume(small).volume.image_hu.copy()
    image_hu[2, 3, 4] = value
    with pytest.raises(LdctError, match="not numbers"):
        write_derived(image_hu, small, OPERATION, tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["source"]


@pytest.mark.parametrize("cause", ["full disk", "kill", "source gone"])
def test_a_failure_midway_leaves_nothing(small, tmp_path, monkeypatch, cause):
    image_hu = read_volume(small).volume.image_hu
    make_header, made = pipeline.dicom.derived.write.derive_header, []

    def failing(source, *arguments, **options):
        made.append(source)
        if len(made) == 3:
            raise OSError("no space left") if cause == "full disk" else KeyboardInterrupt
        return make_header(source, *arguments, **options)

    if cause == "source gone":
        small.instances[2].path.unlink()
    else:
        monkeypatch.setattr(pipeline.dicom.derived.write, "derive_header", failing)
    with pytest.raises((OSError, KeyboardInterrupt)):
        write_derived(image_hu, small, OPERATION, tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["source"]


COMPRESSED = {"j2k": JPEG2000Lossless, "jpegls": JPEGLSLossless, "rle": RLELossless}


@pytest.mark.parametrize("syntax", COMPRESSED)
@pytest.mark.parametrize(
    ("dtype", "bits", "low", "high"),
    [
        (np.int16, 16, -32768, 32767),
        (np.uint16, 16, 0, 65535),
        (np.int16, 12, -2048, 2047),
        (np.uint16, 12, 0, 4095),
        (np.int16, 13, -2048, 4095),
    ],
)
def test_compression_keeps_every_bit(tmp_path, syntax, dtype, bits, low, high):
    stored = np.random.default_rng(0).integers(low, high + 1, (64, 48)).astype(dtype)
    stored[0, :2] = low, high
    stored[1:3] = low
    slope = "0.25" if bits == 16 else "1"  # every value is a CT number
    source = ct_slice(0, stored, BitsStored=bits, HighBit=bits - 1, RescaleSlope=slope)
    source.add_new("PixelPaddingValue", "US", low % 65536)
    save(source, tmp_path / "in" / "0.dcm")
    series = only_series(tmp_path / "in")
    image_hu = read_volume(series).volume.image_hu
    for run in ("one", "two"):
        write_derived(image_hu, series, OPERATION, tmp_path / run, syntax=syntax)
    assert contents(tmp_path / "one") == contents(tmp_path / "two")
    derived = pydicom.dcmread(tmp_path / "one" / "CT.0001.dcm")
    assert derived.file_meta.TransferSyntaxUID == COMPRESSED[syntax]
    assert derived.pixel_array.dtype == dtype
    np.testing.assert_array_equal(derived.pixel_array, stored)
    assert (derived.BitsStored, derived.HighBit) == (bits, bits - 1)
    assert "LossyImageCompression" not in derived
    again = read_volume(only_series(tmp_path / "one")).volume
    np.testing.assert_array_equal(again.image_hu, image_hu)
    np.testing.assert_array_equal(again.valid[0], stored != low)


def large_slice(folder: Path, **attributes: object) -> Series:
    """A series that JPEG 2000 can hold: it needs 32 rows and columns."""
    save(ct_slice(0, np.tile(ramp(), (4, 4)), **attributes), folder / "0.dcm")
    return only_series(folder)


def test_a_compressed_copy_is_the_same_object(tmp_path):
    series = large_slice(tmp_path / "in")
    image_hu = read_volume(series).volume.image_hu
    for syntax in ("none", *COMPRESSED):
        folder = tmp_path / "out" / syntax
        write_derived(image_hu, series, OPERATION, folder, syntax=syntax)
        assert uids(folder) == uids(tmp_path / "out" / "none")


def test_lossy_history_stays_declared_when_compressed_without_loss(tmp_path):
    series = large_slice(
        tmp_path / "in",
        LossyImageCompression="01",
        LossyImageCompressionRatio="12.5",
        LossyImageCompressionMethod="ISO_15444_1",
    )
    image_hu = read_volume(series).volume.image_hu
    write_derived(image_hu, series, OPERATION, tmp_path / "out", syntax="j2k")
    derived = pydicom.dcmread(tmp_path / "out" / "CT.0001.dcm")
    assert derived.LossyImageCompression == "01"
    assert derived.LossyImageCompressionRatio == 12.5


@pytest.mark.parametrize(("near", "expected"), [(0, None), (3, "01")])
def test_loss_that_only_the_encoding_shows_is_declared(tmp_path, near, expected):
    source = ct_slice(0, np.tile(ramp(), (4, 4)).astype(np.uint16))
    path = save(source, tmp_path / "in" / "0.dcm")
    options = {"jls_error": near, "encoding_plugin": "pyjpegls"}
    source.compress(JPEGLSNearLossless, generate_instance_uid=False, **options)
    for name in ("LossyImageCompression", "LossyImageCompressionRatio"):
        if name in source:
            delattr(source, name)
    source.save_as(path, enforce_file_format=True)
    (path,) = derive(only_series(tmp_path / "in"), tmp_path / "out")
    derived = pydicom.dcmread(path)
    assert derived.get("LossyImageCompression") == expected
    if expected:
        assert derived.LossyImageCompressionMethod == "ISO_14495_1"
        assert derived.LossyImageCompressionRatio > 1


def test_padding_beyond_the_stored_bits_is_kept_or_refused_by_name(tmp_path):
    stored = ramp().astype(np.uint16)
    stored[0, :4] = 63536
    save(ct_slice(0, stored, BitsStored=12, HighBit=11), tmp_path / "in" / "0.dcm")
    series = only_series(tmp_path / "in")
    (path,) = derive(series, tmp_path / "out")
    np.testing.assert_array_equal(raw_stored(path), stored)
    image_hu = read_volume(series).volume.image_hu
    with pytest.raises(LdctError, match="PixelData cannot be compressed as 'j2k'"):
        write_derived(image_hu, series, OPERATION, tmp_path / "j2k", syntax="j2k")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in", "out"]


def test_an_unknown_syntax_is_refused_with_the_known_ones(small, tmp_path):
    known = "'zip': choose one of none, j2k, jpegls, rle"
    with (
        pytest.raises(ConfigError, match=known),
        derived_series(tmp_path / "out", small, OPERATION, write_slice, syntax="zip"),
    ):
        raise AssertionError("begun")


def test_a_range_of_padding_is_kept_and_avoided(tmp_path):
    stored = ramp()
    stored[0, :4] = -2000, -1990, -1980, -1970
    source = ct_slice(0, stored, BitsStored=16)
    source.add_new("PixelPaddingValue", "SS", -2000)
    source.add_new("PixelPaddingRangeLimit", "SS", -1970)
    hu = stored - 1024.0
    hu[5, :3] = [-2000 - 1024, -1972 - 1024, -1998 - 1024]
    result, _ = rewritten(tmp_path, hu, source)
    np.testing.assert_array_equal(result[0, :4], stored[0, :4])
    assert result[5, :3].tolist() == [-2001, -1969, -2001]


def test_the_excess_of_clipped_pixels_is_reported_in_hu(tmp_path):
    save(ct_slice(0, ramp(), RescaleSlope="0.5"), tmp_path / "in" / "0.dcm")
    series = only_series(tmp_path / "in")
    image_hu = read_volume(series).volume.image_hu
    image_hu[0, 3, 3] = 32767 * 0.5 - 1024 + 20
    clipped = write_derived(image_hu, series, OPERATION, tmp_path / "out")
    assert clipped == ClippedPixels(1, 20)


@pytest.mark.parametrize(
    ("number", "hundreds"),
    [("3", 3), ("0", 0), (None, 0), ("-2", 2), ("3000566", 3000566), ("2147483647", 21474835)],
)
def test_series_numbers_are_stable_fit_and_are_the_sources_never(number, hundreds):
    source = ct_slice(0, SeriesNumber=number)
    mine = series_number(source, OPERATION)
    assert mine == series_number(source, OPERATION)
    assert mine // 100 == hundreds
    assert mine <= 2**31 - 1
    second = series_number(source, replace(OPERATION, product="difference"))
    assert second == mine + 1
    source.SeriesNumber = str(mine)
    assert series_number(source, OPERATION) != mine


def test_models_seldom_share_a_series_number():
    source = ct_slice(0)
    numbers = {series_number(source, replace(OPERATION, identity=f"m/{n}")) for n in range(10)}
    assert len(numbers) > 5


def test_a_number_that_is_none_is_no_obstacle(tmp_path):
    (path,) = write_series(tmp_path / "in", 1)
    patch(path, "SeriesNumber", b"3A")
    (derived,) = derive(only_series(tmp_path / "in"), tmp_path / "out")
    assert 0 < pydicom.dcmread(derived).SeriesNumber < 100


def test_volumes_of_one_series_become_two_series(small, tmp_path):
    one = replace(small, part=r"ImageType ORIGINAL\PRIMARY", exact_part="one")
    two = replace(small, part="AcquisitionNumber 2", exact_part="two")
    described = set()
    for name, series in {"whole": small, "one": one, "two": two}.items():
        path, *_ = derive(series, tmp_path / name)
        described.add(str(pydicom.dcmread(path).SeriesDescription))
    assert described == {
        OPERATION.label,
        f"{OPERATION.label} | ImageType ORIGINAL/PRIMARY",
        f"{OPERATION.label} | AcquisitionNumber 2",
    }
    assert len({*uids(tmp_path / "one")[1], *uids(tmp_path / "two")[1]}) == 2
    images = [uid for name in ("whole", "one", "two") for uid in uids(tmp_path / name)[0]]
    assert len(set(images)) == 3 * len(small.instances)
    assert not uids(tmp_path / "one")[1] & uids(tmp_path / "whole")[1]


def test_a_description_that_names_the_patient_is_left_out(tmp_path):
    write_series(tmp_path / "in", 1, SeriesDescription="Thorax Frau Geheim")
    (path,) = derive(only_series(tmp_path / "in"), tmp_path / "out")
    assert pydicom.dcmread(path).SeriesDescription == OPERATION.label


def test_a_source_without_a_name_is_refused(tmp_path):
    write_series(tmp_path / "in", 2, StudyInstanceUID="")
    (series,) = find_series(tmp_path / "in", intake=IngestOptions(unidentified="folder")).series
    expected = "a source without StudyInstanceUID cannot be exported"
    with (
        pytest.raises(LdctError, match=expected),
        derived_series(tmp_path / "out", series, OPERATION, write_slice),
    ):
        raise AssertionError("begun")
    assert [path.name for path in tmp_path.iterdir()] == ["in"]


def test_no_uid_hangs_on_the_order_of_what_it_is_made_of():
    one = derived_uid(["1.2"], replace(OPERATION, identity="a", product="b"))
    assert one != derived_uid(["1.2"], replace(OPERATION, identity="b", product="a"))


def findings(program: str, path: Path) -> set[str]:
    """What dciodvfy says of a file, but for the values it quotes."""
    ran = subprocess.run([program, str(path)], capture_output=True, text=True, check=False)
    lines = (ran.stdout + ran.stderr).splitlines()
    assert "CTImage" in lines
    return {re.sub(r"= <[^>]*> - |for value \d+", "", line) for line in lines}


def assert_no_new_finding(program: str, series: Series, out: Path) -> None:
    for path, instance in zip(derive(series, out), series.instances, strict=True):
        assert findings(program, path) - findings(program, instance.path) == set()


@pytest.mark.parametrize("name", [*REAL, "phantom"])
def test_dciodvfy_finds_nothing_that_the_source_does_not_have(
    tmp_path, test_data, require_program, name
):
    program = require_program("dciodvfy")
    if name == "phantom":
        phantom = patient_phantom(np.random.default_rng(0), slices=2, matrix=64)
        write_phantom_series(phantom, tmp_path / "in", patient_number=1, seed=0)
    else:
        few_slices(test_data / "ct" / name, tmp_path / "in", 2)
    assert_no_new_finding(program, only_series(tmp_path / "in"), tmp_path / "out")


def test_dciodvfy_accepts_the_siemens_series_with_its_uids(tmp_path, test_data, require_program):
    def name(dataset, index):
        dataset.PatientID = "torso"
        dataset.SOPClassUID = CTImageStorage
        dataset.StudyInstanceUID, dataset.SeriesInstanceUID = f"{ROOT_UID}.1", f"{ROOT_UID}.2"
        dataset.SOPInstanceUID = f"{ROOT_UID}.3.{index}"
        dataset.file_meta.MediaStorageSOPClassUID = CTImageStorage
        dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID

    copy_slices(in_order(test_data / "ct" / "torso-siemens")[:2], tmp_path / "in", name)
    program = require_program("dciodvfy")
    assert_no_new_finding(program, only_series(tmp_path / "in"), tmp_path / "out")
