"""DICOM SEG out and in: the same voxels, on the same slices, of the same patient."""

from __future__ import annotations

import json
import subprocess
from dataclasses import replace
from pathlib import Path

import highdicom
import numpy as np
import pydicom
import pytest
from helpers.dicom import COLUMNS, ROWS, copy_slices, in_order, only_series, save
from helpers.enhanced import enhanced_ct, frame_source
from helpers.labels import (
    COLUMN_MM,
    ROW_MM,
    SEGMENTED,
    SHAPE,
    WEIGHTS,
    assert_same_structures,
    ball,
    make_series,
    of_another,
    structures,
    tilted,
)
from pydicom.sr.codedict import codes
from pydicom.uid import EnhancedCTImageStorage

from pipeline.core.errors import ConfigError, LdctError
from pipeline.core.label_map import Canvas, LabelMap
from pipeline.core.refusals import Unreadable
from pipeline.dicom.derived.seg import BINARY, FILE, LABELMAP, make_seg, write_seg
from pipeline.dicom.derived.structure_codes import ORGANS, Anatomy, codes_of
from pipeline.dicom.read.ingest_options import IngestOptions
from pipeline.dicom.read.series import find_series
from pipeline.labels.grid import LabelGrid
from pipeline.labels.seg import read_seg


def written(series, folder: Path, labelmap: LabelMap | None = None, **options) -> Path:
    write_seg(labelmap or structures(), series, SEGMENTED, folder, **options)
    return folder / FILE


def saved(dataset: pydicom.Dataset, path: Path) -> Path:
    dataset.save_as(path, enforce_file_format=True)
    return path


def overlapping() -> LabelMap:
    canvas = Canvas(SHAPE, {1: "liver", 2: "liver_tumor"})
    for number, plane in enumerate(ball((3, 15, 12), (2.6, 12, 9))):
        canvas.paint(number, plane, 1)
    for number, plane in enumerate(ball((3, 18, 12), (2.6, 4, 4))):
        canvas.paint(number, plane, 2)
    return canvas.labelmap({})


@pytest.mark.parametrize("kind", [BINARY, LABELMAP])
@pytest.mark.parametrize("attributes", [{}, tilted()], ids=["upright", "tilted"])
def test_labels_come_back_from_seg_exactly(tmp_path, kind, attributes):
    series = make_series(tmp_path / "in", **attributes)
    path = written(series, tmp_path / "out", kind=kind)
    found = read_seg(path, LabelGrid.of_series(series))
    assert_same_structures(found, structures())
    assert found.source == {"kind": "DICOM SEG", "type": kind.value}


def test_highdicom_reads_the_same_labels_from_each_source_image(tmp_path):
    """An independent reader, asked by the SOP Instance UIDs of the source."""
    series = make_series(tmp_path / "in", **tilted())
    seg = highdicom.seg.segread(written(series, tmp_path / "out"))
    uids = [str(instance.header.SOPInstanceUID) for instance in series.instances]
    pixels = seg.get_pixels_by_source_instance(uids, assert_missing_frames_are_empty=True)
    for number, value in enumerate(sorted(structures().names), start=1):
        assert seg.get_segment_description(number).segment_label == structures().names[value]
        np.testing.assert_array_equal(pixels[..., number - 1], structures().mask(value))


def test_every_frame_lies_where_the_slice_that_it_names_does(tmp_path):
    series = make_series(tmp_path / "in", **tilted())
    seg = pydicom.dcmread(written(series, tmp_path / "out"))
    sources = {ds.SOPInstanceUID: ds for ds in map(pydicom.dcmread, in_order(tmp_path / "in"))}
    (listed,) = seg.ReferencedSeriesSequence
    assert {i.ReferencedSOPInstanceUID for i in listed.ReferencedInstanceSequence} == set(sources)
    shared = seg.SharedFunctionalGroupsSequence[0]
    for groups in seg.PerFrameFunctionalGroupsSequence:
        (item,) = groups.DerivationImageSequence[0].SourceImageSequence
        source = sources[item.ReferencedSOPInstanceUID]
        np.testing.assert_allclose(
            groups.PlanePositionSequence[0].ImagePositionPatient,
            source.ImagePositionPatient,
            atol=1e-3,
        )
        orientation = shared.PlaneOrientationSequence[0].ImageOrientationPatient
        np.testing.assert_allclose(orientation, source.ImageOrientationPatient, atol=1e-6)
    assert shared.PixelMeasuresSequence[0].PixelSpacing == [ROW_MM, COLUMN_MM]


def test_patient_and_study_are_the_sources_and_the_rest_says_what_made_it(tmp_path):
    series = make_series(tmp_path / "in", SpecificCharacterSet="ISO_IR 100", PatientName="Götz^Ä ")
    seg = pydicom.dcmread(written(series, tmp_path / "out"))
    source = pydicom.dcmread(tmp_path / "in" / "000.dcm")
    for name in ("PatientID", "PatientName", "PatientBirthDate", "StudyInstanceUID", "StudyDate"):
        assert seg[name].value == source[name].value
    assert seg.get_item("PatientName").value == source.get_item("PatientName").value
    assert seg.FrameOfReferenceUID == source.FrameOfReferenceUID
    assert seg.Modality == "SEG"
    assert seg.SeriesDescription.startswith("AI SEGMENTATION test v1")
    assert seg.SeriesNumber // 100 == source.SeriesNumber
    assert WEIGHTS in seg.ContributingEquipmentSequence[0].ContributionDescription
    (algorithm,) = seg.SegmentSequence[0].SegmentationAlgorithmIdentificationSequence
    assert (algorithm.AlgorithmName, algorithm.AlgorithmVersion) == (
        "test",
        "1 sha256:0123456789abcdef",
    )
    assert WEIGHTS in algorithm.AlgorithmParameters
    assert algorithm.AlgorithmFamilyCodeSequence[0].CodeValue == "123110"


def test_segments_are_coded_with_side(tmp_path):
    seg = make_seg(structures(), make_series(tmp_path), SEGMENTED)
    kidney = seg.SegmentSequence[0]
    kind = kidney.SegmentedPropertyTypeCodeSequence[0]
    assert (kind.CodeValue, kind.CodeMeaning) == ("64033007", "Kidney")
    assert kind.SegmentedPropertyTypeModifierCodeSequence[0].CodeMeaning == "Left"
    assert kidney.SegmentedPropertyCategoryCodeSequence[0].CodeMeaning == "Anatomical Structure"
    assert kidney.SegmentLabel == "kidney_left"


def test_the_same_source_and_model_give_the_same_bytes_and_another_model_other_uids(tmp_path):
    series = make_series(tmp_path / "in")
    first = written(series, tmp_path / "a")
    second = written(series, tmp_path / "b")
    assert first.read_bytes() == second.read_bytes()
    written(series, tmp_path / "a")  # again, into the same folder: harmless
    other = make_seg(structures(), series, replace(SEGMENTED, identity="test/2"))
    labels = make_seg(structures(), series, SEGMENTED, kind=LABELMAP)
    objects = [pydicom.dcmread(first), other, labels]
    for name in ("SOPInstanceUID", "SeriesInstanceUID"):
        assert len({dataset[name].value for dataset in objects}) == 3
    assert {str(d.SOPInstanceUID)[:5] for d in objects} == {"2.25."}


def test_an_object_already_there_that_is_another_is_not_overwritten(tmp_path):
    series = make_series(tmp_path / "in")
    before = written(series, tmp_path / "out").read_bytes()
    empty = replace(structures(), labels=np.zeros(SHAPE, np.uint8))
    with pytest.raises(LdctError, match="holds something else"):
        written(series, tmp_path / "out", empty)
    assert (tmp_path / "out" / FILE).read_bytes() == before


def test_overlapping_segments_are_kept_and_reported(tmp_path):
    series = make_series(tmp_path / "in")
    found = read_seg(written(series, tmp_path / "out", overlapping()), LabelGrid.of_series(series))
    assert_same_structures(found, overlapping())
    assert found.overlaps
    assert found.source["warnings"] == ["segments overlap"]
    with pytest.raises(ValueError, match="LABELMAP cannot hold"):
        make_seg(overlapping(), series, SEGMENTED, kind=LABELMAP)


def test_what_was_not_found_is_a_segment_without_frames(tmp_path):
    series = make_series(tmp_path / "in")
    empty = replace(structures(), labels=np.zeros(SHAPE, np.uint8))
    found = read_seg(written(series, tmp_path / "out", empty), LabelGrid.of_series(series))
    assert set(found.names.values()) == {"liver", "kidney_left", "spleen"}
    assert not found.labels.any()


def test_a_name_without_a_code_is_refused_unless_codes_are_given(tmp_path):
    series = make_series(tmp_path / "in")
    labels = replace(structures(), names={2: "warp core", 5: "liver"})
    with pytest.raises(ConfigError, match="no code for the structure 'warp core'"):
        make_seg(labels, series, SEGMENTED)
    given = {"warp core": Anatomy(codes.SCT.PhysicalObject, codes.SCT.Stent)}
    seg = make_seg(labels, series, SEGMENTED, anatomy=given)
    assert seg.SegmentSequence[0].SegmentedPropertyTypeCodeSequence[0].CodeMeaning == "Stent"


def test_a_name_that_identifies_the_patient_is_not_written(tmp_path):
    labels = replace(structures(), names={2: "liver Gisela Geheim", 5: "liver"})
    with pytest.raises(LdctError, match="identifies the patient"):
        make_seg(labels, make_series(tmp_path), SEGMENTED)


def test_a_source_without_names_is_refused(tmp_path):
    series = make_series(tmp_path / "in")
    for instance in series.instances:
        dataset = pydicom.dcmread(instance.path)
        dataset.StudyInstanceUID = ""
        dataset.save_as(instance.path)
    nameless = find_series(tmp_path / "in", intake=IngestOptions(unidentified="folder")).series[0]
    with pytest.raises(LdctError, match="cannot be exported"):
        make_seg(structures(), nameless, SEGMENTED)


def test_a_source_without_coordinates_is_refused(tmp_path):
    series = make_series(tmp_path, FrameOfReferenceUID=None)
    with pytest.raises(LdctError, match="without FrameOfReferenceUID"):
        make_seg(structures(), series, SEGMENTED)


def test_another_studys_segmentation_is_refused_by_attribute(tmp_path):
    series = make_series(tmp_path / "in")
    path = written(series, tmp_path / "out")
    copy_slices(in_order(tmp_path / "in"), tmp_path / "other", of_another)
    other = LabelGrid.of_series(only_series(tmp_path / "other"))
    with pytest.raises(Unreadable) as fault:
        read_seg(path, other)
    assert fault.value.attribute == "StudyInstanceUID"
    assert "1.2.826" not in fault.value.reason + fault.value.value


def test_another_frame_of_reference_is_refused(tmp_path):
    series = make_series(tmp_path / "in")
    seg = pydicom.dcmread(written(series, tmp_path / "out"))
    seg.FrameOfReferenceUID = "1.2.3.4"
    path = saved(seg, tmp_path / "x.dcm")
    with pytest.raises(Unreadable, match="another one than the image's") as fault:
        read_seg(path, LabelGrid.of_series(series))
    assert fault.value.attribute == "FrameOfReferenceUID"


def test_a_segmentation_of_another_series_of_the_study_is_refused(tmp_path):
    series = make_series(tmp_path / "in")
    path = written(series, tmp_path / "out")

    def rename(dataset, index):
        dataset.SOPInstanceUID += ".9"

    copy_slices(in_order(tmp_path / "in"), tmp_path / "other", rename)
    with pytest.raises(Unreadable, match="none of 7 images") as fault:
        read_seg(path, LabelGrid.of_series(only_series(tmp_path / "other")))
    assert fault.value.attribute == "SourceImageSequence"


@pytest.mark.parametrize("axis", range(3))
def test_frames_three_millimetres_off_are_refused_and_reported(tmp_path, axis):
    series = make_series(tmp_path / "in", **tilted())
    seg = pydicom.dcmread(written(series, tmp_path / "out"))
    for groups in seg.PerFrameFunctionalGroupsSequence:
        groups.PlanePositionSequence[0].ImagePositionPatient[axis] += 3.0
    path = saved(seg, tmp_path / "x.dcm")
    with pytest.raises(Unreadable, match=r"frames 3\.0 mm off the slices"):
        read_seg(path, LabelGrid.of_series(series))


def test_frames_turned_and_flipped_land_in_their_places(tmp_path):
    """Rows that run the other way, and slices from the top: another program's order."""
    series = make_series(tmp_path / "in")
    grid = LabelGrid.of_series(series)
    seg = pydicom.dcmread(written(series, tmp_path / "out"))
    pixels = np.flip(seg.pixel_array, 1)
    seg.PixelData = np.packbits(pixels.ravel().astype(np.uint8), bitorder="little").tobytes()
    shared = seg.SharedFunctionalGroupsSequence[0]
    shared.PlaneOrientationSequence[0].ImageOrientationPatient = [1, 0, 0, 0, -1, 0]
    for groups in seg.PerFrameFunctionalGroupsSequence:
        groups.PlanePositionSequence[0].ImagePositionPatient[1] += ROW_MM * (SHAPE[1] - 1)
    found = read_seg(saved(seg, tmp_path / "x.dcm"), grid)
    assert_same_structures(found, structures())


def test_a_segmentation_of_more_slices_than_the_series_has_is_used_and_reported(tmp_path):
    series = make_series(tmp_path / "in")
    path = written(series, tmp_path / "out")
    for number in (0, 1, 2):
        (tmp_path / "in" / f"{number:03d}.dcm").unlink()
    found = read_seg(path, LabelGrid.of_series(only_series(tmp_path / "in")))
    np.testing.assert_array_equal(found.mask(2), structures().mask(5)[3:])
    assert found.source["warnings"] == ["of 2 more images, which the series lacks"]


def test_fractions_are_refused_unless_a_threshold_says_what_counts(tmp_path):
    series = make_series(tmp_path / "in")
    fractions = np.zeros(SHAPE, np.float32)
    fractions[3, 10:20, 5:9] = 0.4
    fractions[3, 10:20, 9:15] = 0.8
    seg = fractional(series, fractions)
    path = saved(seg, tmp_path / "x.dcm")
    with pytest.raises(Unreadable, match="fractions, not labels") as fault:
        read_seg(path, LabelGrid.of_series(series))
    assert fault.value.attribute == "SegmentationType"
    for threshold in (0.3, 0.5):
        found = read_seg(path, LabelGrid.of_series(series), threshold=threshold)
        np.testing.assert_array_equal(found.mask(1), fractions >= threshold)


def fractional(series, fractions) -> pydicom.Dataset:
    sources = [pydicom.dcmread(instance.path) for instance in series.instances]
    for source in sources:
        source.AccessionNumber = source.StudyTime = source.PatientSex = ""
    described = highdicom.seg.SegmentDescription(
        1, "liver", codes.SCT.AnatomicalStructure, codes.SCT.Liver, "MANUAL"
    )
    return highdicom.seg.Segmentation(
        sources,
        fractions,
        "FRACTIONAL",
        [described],
        "1.2.3.1",
        1,
        "1.2.3.2",
        1,
        "someone",
        "else",
        "1",
        "1",
    )


def test_a_segmentation_on_another_grid_is_resampled_only_if_asked(tmp_path):
    """Half the pixels each way, as some programs segment: 2 x 2 pixels take one label."""
    series = make_series(tmp_path / "in")
    seg = pydicom.dcmread(written(series, tmp_path / "out"))
    coarse = seg.pixel_array[:, ::2, ::2]
    seg.Rows, seg.Columns = coarse.shape[1:]
    seg.PixelData = np.packbits(coarse.ravel().astype(np.uint8), bitorder="little").tobytes()
    shared = seg.SharedFunctionalGroupsSequence[0]
    shared.PixelMeasuresSequence[0].PixelSpacing = [2 * ROW_MM, 2 * COLUMN_MM]
    for groups in seg.PerFrameFunctionalGroupsSequence:
        position = groups.PlanePositionSequence[0].ImagePositionPatient
        position[0] += COLUMN_MM / 2
        position[1] += ROW_MM / 2
    path = saved(seg, tmp_path / "x.dcm")
    with pytest.raises(Unreadable, match="resample them if that is right"):
        read_seg(path, LabelGrid.of_series(series))
    found = read_seg(path, LabelGrid.of_series(series), resample=True)
    expected = structures().mask(5)[:, ::2, ::2].repeat(2, axis=1).repeat(2, axis=2)
    values = {name: value for value, name in found.names.items()}
    np.testing.assert_array_equal(found.mask(values["liver"]), expected)
    assert any("nearest neighbour" in warning for warning in found.source["warnings"])


@pytest.mark.parametrize(
    ("edit", "reason"),
    [
        (lambda seg: seg.__delattr__("SegmentSequence"), "no segments"),
        (lambda seg: seg.__delattr__("PerFrameFunctionalGroupsSequence"), "without its place"),
        (lambda seg: setattr(seg, "PixelData", b"\0"), "cannot be decoded"),
        (lambda seg: setattr(seg, "SegmentationType", "CURVED"), "expected BINARY"),
    ],
)
def test_damaged_objects_are_refused(tmp_path, edit, reason):
    series = make_series(tmp_path / "in")
    seg = pydicom.dcmread(written(series, tmp_path / "out"))
    edit(seg)
    with pytest.raises(Unreadable, match=reason):
        read_seg(saved(seg, tmp_path / "x.dcm"), LabelGrid.of_series(series))


@pytest.mark.parametrize("name", ["head-ge-tilted", "abdomen-ge-crlm1004"])
def test_real_series_round_trip_and_are_clean(test_data, tmp_path, require_program, name):
    """dciodvfy's errors are at most those of the source itself."""
    program = require_program("dciodvfy")
    series = find_series(test_data / "ct" / name).series[0]
    header, slices = series.header, len(series.instances)
    labels = np.zeros((slices, header.Rows, header.Columns), np.uint8)
    labels[slices // 3 : slices // 2, 100:220, 150:300] = 1
    labels[slices // 2 :, 200:260, 180:200] = 2
    known = LabelMap(labels, {1: "brain", 2: "skull"})
    path = written(series, tmp_path / "out", known)
    assert_same_structures(read_seg(path, LabelGrid.of_series(series)), known)
    errors = [errors_of(program, file) for file in (path, series.instances[0].path)]
    assert errors[0] <= errors[1]


def errors_of(program: str, path: Path) -> set[str]:
    ran = subprocess.run([program, "-new", str(path)], capture_output=True, text=True, check=False)
    return {line for line in ran.stderr.splitlines() if line.startswith("Error")}


def test_slices_that_are_frames_of_one_file_are_named_as_such(tmp_path):
    singles = [frame_source(index) for index in (2, 0, 3, 1)]
    save(enhanced_ct(singles), tmp_path / "in" / "e.dcm")
    series = only_series(tmp_path / "in")
    labels = np.zeros((4, ROWS, COLUMNS), np.uint8)
    labels[1:3, 3:9, 2:7] = 1
    known = LabelMap(labels, {1: "liver"})
    path = written(series, tmp_path / "out", known)
    assert_same_structures(read_seg(path, LabelGrid.of_series(series)), known)
    seg = pydicom.dcmread(path)
    (listed,) = seg.ReferencedSeriesSequence[0].ReferencedInstanceSequence
    assert listed.ReferencedSOPClassUID == EnhancedCTImageStorage
    named = [
        groups.DerivationImageSequence[0].SourceImageSequence[0]
        for groups in seg.PerFrameFunctionalGroupsSequence
    ]
    assert {item.ReferencedSOPInstanceUID for item in named} == {listed.ReferencedSOPInstanceUID}
    frames = pydicom.dcmread(tmp_path / "in" / "e.dcm").PerFrameFunctionalGroupsSequence
    assert {int(item.ReferencedFrameNumber) for item in named} == {4, 1}
    for item, groups in zip(named, seg.PerFrameFunctionalGroupsSequence, strict=True):
        source = frames[int(item.ReferencedFrameNumber) - 1]
        assert groups.PlanePositionSequence == source.PlanePositionSequence


def test_codes_are_those_of_the_standards_own_groups():
    """Types of CID 7151 and CID 7159 by pydicom's dictionary, whose meanings they carry."""
    types = {
        code.value
        for cid in (7151, 7159, 7191)
        for code in getattr(codes, f"CID{cid}").concepts.values()
    }
    wider = {codes.SCT.SkeletalMuscle.value}
    for name in ORGANS:
        meant = codes_of(name)
        assert meant.type.value in types | wider, name
        assert meant.category.value in {c.value for c in codes.CID7150.concepts.values()}


@pytest.mark.parametrize(
    ("name", "value", "side", "region"),
    [
        ("Liver", "10200004", None, None),
        ("left kidney", "64033007", "Left", None),
        ("rib_right_7", "113197003", "Right", None),
        ("vertebrae_L5", "49668003", None, None),
        ("lungs", "39607008", "Bilateral", None),
        ("nodule", "27925004", None, None),
        ("kidney_cyst_left", "367643001", "Left", "Kidney"),
        ("liver-tumour", "108369006", None, "Liver"),
        ("lung nodules", "27925004", None, "Lung"),
        ("bones", "3138006", None, None),
        ("back_muscles", "127954009", None, None),
        ("vertebrae", "51282000", None, None),
        ("body", "38266002", None, None),
    ],
)
def test_names_find_their_codes(name, value, side, region):
    meant = codes_of(name)
    assert meant.type.value == value
    assert (meant.side.meaning if meant.side else None) == side
    assert (meant.region.meaning if meant.region else None) == region


def test_every_totalsegmentator_class_has_codes(test_data):
    classes = json.loads((test_data / "volumes" / "totalseg-classes.json").read_text())
    assert len([codes_of(name) for name in classes.values()]) == 117
