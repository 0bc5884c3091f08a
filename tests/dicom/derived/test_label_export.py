"""Structures handed over: as their image came, checked first, and judged again by `ldct check`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pydicom
import pytest
from helpers.dicom import in_order
from helpers.labels import (
    SEGMENTED,
    SHAPE,
    assert_same_structures,
    even_volume,
    make_series,
    nifti_labels,
    structures,
    tilted,
)
from pydicom.dataset import Dataset

from pipeline.core.errors import ConfigError, LdctError, NothingUsableError
from pipeline.core.label_map import LabelMap
from pipeline.dicom.derived.check import CheckResult, check_tree
from pipeline.dicom.read.series import find_series
from pipeline.export.labels import (
    FORMS,
    LABELMAP,
    NIFTI,
    RTSTRUCT,
    SEG,
    export_labels,
    segmentation_by,
)
from pipeline.labels.files import read_mask
from pipeline.labels.grid import LabelGrid
from pipeline.models.adapters.card import ModelCard

#: The forms that are DICOM objects, which can be checked and need names.
OBJECTS = (SEG, LABELMAP, RTSTRUCT)
CARD = ModelCard("organs", 3, "0123456789abcdef" * 4, "c", "d", 1000)


def exported(tmp_path: Path, form: str = "seg", **attributes) -> Path:
    """The one file of an export of a small series, which lies in `in`."""
    series = make_series(tmp_path / "in", **attributes)
    export_labels(structures(), series, tmp_path / "out" / form, SEGMENTED, form=form)
    (path,) = (tmp_path / "out" / form).iterdir()
    return path


def checked(tmp_path: Path) -> list[CheckResult]:
    return check_tree(tmp_path / "out", tmp_path / "in")


@pytest.mark.parametrize("form", OBJECTS)
@pytest.mark.parametrize("attributes", [{}, tilted()], ids=["upright", "tilted"])
def test_what_is_handed_over_passes_its_check(tmp_path, form, attributes):
    exported(tmp_path, form, **attributes)
    (found,) = checked(tmp_path)
    assert found.problems == []
    assert check_tree(tmp_path / "out")[0].passed  # and without the source
    assert not list(tmp_path.rglob(".partial*"))


def test_the_programs_of_dicom3tools_find_nothing_new(tmp_path, require_program):
    require_program("dciodvfy")
    for form in ("seg", "rtstruct"):
        exported(tmp_path / form, form)
        (found,) = checked(tmp_path / form)
        assert found.validation.to_dict()["validated"]
        assert found.passed


@pytest.mark.parametrize("form", ["seg", "rtstruct"])
def test_what_the_study_says_besides_is_said_by_its_structures_too(tmp_path, form):
    """Or dcentvfy finds two instances of one study that differ, and nothing is exported."""
    code = Dataset()
    code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = "CTABD", "99TEST", "CT abdomen"
    said = {"ProcedureCodeSequence": [code], "PhysiciansOfRecord": "Reader^R"}
    made = pydicom.dcmread(exported(tmp_path, form, **said))
    assert made.ProcedureCodeSequence[0].CodeValue == "CTABD"
    assert made.PhysiciansOfRecord == "Reader^R"
    (found,) = checked(tmp_path)
    assert found.problems == []


def test_a_segmentation_that_fails_is_not_handed_over(tmp_path, monkeypatch):
    import pipeline.dicom.derived.highdicom_objects as common

    series = make_series(tmp_path / "in")
    monkeypatch.setattr(common, "series_description", lambda *_: "Liver")
    with pytest.raises(LdctError, match="rule marking"):
        export_labels(structures(), series, tmp_path / "out", SEGMENTED)
    assert not (tmp_path / "out").exists()


def shifted(seg: pydicom.Dataset) -> None:
    frame = seg.PerFrameFunctionalGroupsSequence[1]
    frame.PlanePositionSequence[0].ImagePositionPatient[2] += 0.01


def renamed(seg: pydicom.Dataset) -> None:
    seg.PatientName = "Other^One"


def without_patient(seg: pydicom.Dataset) -> None:
    del seg.PatientID


def elsewhere(seg: pydicom.Dataset) -> None:
    seg.FrameOfReferenceUID = "1.2.3"


def of_other_images(seg: pydicom.Dataset) -> None:
    seg.ReferencedSeriesSequence[0].ReferencedInstanceSequence[0].ReferencedSOPInstanceUID = "1.2"


def disguised(seg: pydicom.Dataset) -> None:
    seg.SeriesDescription = "Liver"


def unsigned(seg: pydicom.Dataset) -> None:
    del seg.SegmentSequence[0].SegmentationAlgorithmIdentificationSequence


def miscoded(seg: pydicom.Dataset) -> None:
    family = seg.SegmentSequence[0].SegmentationAlgorithmIdentificationSequence[0]
    family.AlgorithmFamilyCodeSequence[0].CodeMeaning = "Magic"


def in_the_source(seg: pydicom.Dataset) -> None:
    seg.SeriesInstanceUID = seg.ReferencedSeriesSequence[0].SeriesInstanceUID


@pytest.mark.parametrize(
    ("edit", "rule"),
    [
        (shifted, "place"),
        (renamed, "patient-and-study"),
        (without_patient, "patient-and-study"),
        (elsewhere, "frame-of-reference"),
        (of_other_images, "source-image"),
        (disguised, "marking"),
        (unsigned, "algorithm"),
        (miscoded, "code-meaning"),
        (in_the_source, "uid-reuse"),
    ],
)
def test_an_edited_segmentation_is_found_out_by_its_rule(tmp_path, edit, rule):
    path = exported(tmp_path)
    seg = pydicom.dcmread(path)
    edit(seg)
    seg.save_as(path)
    (found,) = checked(tmp_path)
    assert rule in {problem.rule for problem in found.problems}
    assert all(problem.remedy and "Geheim" not in str(problem) for problem in found.problems)


def test_a_contour_out_of_its_plane_is_found_out(tmp_path):
    path = exported(tmp_path, "rtstruct", **tilted())
    dataset = pydicom.dcmread(path)
    contour = dataset.ROIContourSequence[0].ContourSequence[0]
    contour.ContourData[2] = float(contour.ContourData[2]) + 0.01
    dataset.save_as(path)
    (found,) = checked(tmp_path)
    assert [problem.rule for problem in found.problems] == ["place"]


def test_check_does_not_mind_segmentations_of_others(tmp_path):
    path = exported(tmp_path)
    seg = pydicom.dcmread(path)
    seg.SeriesDescription = "Somebody's liver"
    del seg.ContributingEquipmentSequence
    seg.save_as(path)
    with pytest.raises(NothingUsableError, match="no derived CT series"):
        checked(tmp_path)


def test_a_folder_with_segmentations_still_holds_its_series(tmp_path):
    exported(tmp_path)
    exported(tmp_path, "labelmap")
    found = find_series(tmp_path)
    assert len(found.series) == 1
    assert len(found.series[0].instances) == len(in_order(tmp_path / "in"))
    assert {refusal.attribute for refusal in found.refusals} == {"SOPClassUID"}
    assert {str(refusal.disposition) for refusal in found.refusals} == {"excluded"}


@pytest.mark.parametrize("suffix", [".nii.gz", ".nii"])
def test_an_image_file_has_a_label_file_of_its_own_format(tmp_path, suffix):
    affine = np.diag([0.7, 0.8, 2.5, 1.0])
    hu = np.full(SHAPE, -500, np.int16)
    path = nifti_labels(tmp_path / f"ct{suffix}", hu, affine)
    report = export_labels(structures(), path, tmp_path / "out", SEGMENTED)
    (written,) = (tmp_path / "out").iterdir()
    assert written.name == f"ct-ai-segmentation-test-v1{suffix}"
    assert report.details["structures"] == 3
    assert_same_structures(
        read_mask(written, LabelGrid.of_volume(even_volume(affine))), structures()
    )


@pytest.mark.parametrize("attributes", [{}, tilted()], ids=["upright", "tilted"])
def test_a_series_has_a_label_file_in_its_place_on_request(tmp_path, attributes):
    series = make_series(tmp_path / "in", **attributes)
    export_labels(structures(), series, tmp_path / "out", SEGMENTED, form=NIFTI)
    (written,) = (tmp_path / "out").iterdir()
    found = read_mask(written, LabelGrid.of_series(series))
    assert_same_structures(found, structures())
    assert "warnings" not in found.source


@pytest.mark.parametrize("form", OBJECTS)
def test_an_object_shows_the_model_that_made_it(tmp_path, form):
    series = make_series(tmp_path / "in")
    export_labels(structures(), series, tmp_path / "out" / form, segmentation_by(CARD), form=form)
    (path,) = (tmp_path / "out" / form).iterdir()
    dataset = pydicom.dcmread(path)
    assert dataset.SeriesDescription.startswith("AI SEGMENTED organs v3")
    assert dataset.ManufacturerModelName == "organs"
    assert dataset.SoftwareVersions[1] == "3 sha256:0123456789abcdef"
    for segment in dataset.get("SegmentSequence") or ():
        if not segment.get("SegmentationAlgorithmIdentificationSequence"):
            continue  # the background of a label map
        (made_by,) = segment.SegmentationAlgorithmIdentificationSequence
        assert made_by.AlgorithmName == "organs"
        assert made_by.AlgorithmVersion == "3 sha256:0123456789abcdef"
        assert CARD.weights_sha256 in made_by.AlgorithmParameters
    assert checked(tmp_path)[0].passed


@pytest.mark.parametrize("form", OBJECTS)
def test_nothing_found_is_a_result_too(tmp_path, form):
    """A series without a nodule: the object says which structure was looked for."""
    series = make_series(tmp_path / "in")
    nothing = LabelMap(np.zeros(SHAPE, np.uint8), {1: "nodule"})
    export_labels(nothing, series, tmp_path / "out" / form, SEGMENTED, form=form)
    (found,) = checked(tmp_path)
    assert found.problems == []


def test_another_form_is_wrong_usage(tmp_path):
    with pytest.raises(ConfigError, match="one of seg, labelmap, rtstruct, nifti"):
        export_labels(structures(), make_series(tmp_path), tmp_path / "o", SEGMENTED, form="x")


def test_labels_of_another_shape_are_a_mistake_of_the_caller(tmp_path):
    series = make_series(tmp_path / "in")
    wrong = replace(structures(), labels=np.zeros((2, 3, 4), np.uint8))
    for form in FORMS:
        with pytest.raises(ValueError, match=r"for an? (series|image) of"):
            export_labels(wrong, series, tmp_path / "out", SEGMENTED, form=form)
    assert not (tmp_path / "out").exists()


def test_slices_of_several_frames_of_reference_are_reported(tmp_path):
    """As some archives make them, each slice with one of its own."""
    series = make_series(tmp_path / "in")
    for number, instance in enumerate(series.instances):
        dataset = pydicom.dcmread(instance.path)
        dataset.FrameOfReferenceUID = f"1.2.3.{number}"
        dataset.save_as(instance.path)
    series = find_series(tmp_path / "in").series[0]
    report = export_labels(structures(), series, tmp_path / "out" / "seg", SEGMENTED)
    assert report.details["warnings"] == [
        "the slices have 8 frames of reference: the object has the first one"
    ]
    assert checked(tmp_path)[0].passed


def test_a_label_map_without_structures_is_not_written(tmp_path):
    nothing = LabelMap(np.zeros(SHAPE, np.uint8), {})
    for form in OBJECTS:
        with pytest.raises(LdctError, match="no structure to write"):
            export_labels(
                nothing, make_series(tmp_path / form), tmp_path / "o", SEGMENTED, form=form
            )
