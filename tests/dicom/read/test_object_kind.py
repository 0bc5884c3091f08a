"""Objects of other classes are excluded by name; a damaged class hides no CT slice."""

from __future__ import annotations

import numpy as np
import pydicom
import pytest
from helpers.derived import write_derived
from helpers.dicom import OPERATION, ct_slice, only_series, ramp, save, write_series
from pydicom.dataset import Dataset
from pydicom.uid import CTImageStorage, MRImageStorage, ParametricMapStorage

from pipeline.core.refusals import Disposition
from pipeline.dicom.read.series import find_series
from pipeline.dicom.read.volume import read_volume

SIEMENS_NON_IMAGE = "1.3.12.2.1107.5.9.1"
NEWER_THAN_THIS_SOFTWARE = "1.2.840.10008.5.1.4.1.1.2.99"
#: As it may be after damage: of no class, or no UID at all.
DAMAGED = ["1.2.840.10008.5.1.4.1.7.2", "1.2.840.10008.5.1.4.1.1.", "1.2.840.1@008.5.1.4.1.1.2"]
#: In the data set a class of the standard's, but another one.
MISTAKEN = "1.2.840.10008.5.1.4.1.1.4"


def bare_object(sop_class, **attributes):
    """An object with identifiers and a modality, but nothing of an image."""
    dataset = Dataset()
    dataset.SOPClassUID, dataset.SOPInstanceUID = sop_class, "1.2.3.9"
    dataset.Modality, dataset.PatientID = "CT", "SECRET"
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = "1.2.3.1", "1.2.3.2"
    for name, value in attributes.items():
        setattr(dataset, name, value)
    return dataset


def with_class(path, sop_class):
    """Change the class in the data set alone: the file meta information keeps its own."""
    dataset = pydicom.dcmread(path)
    dataset.SOPClassUID = sop_class
    dataset.save_as(path)


@pytest.mark.parametrize("sop_class", [SIEMENS_NON_IMAGE, NEWER_THAN_THIS_SOFTWARE])
def test_an_object_of_a_private_or_unknown_class_is_excluded_by_its_class(tmp_path, sop_class):
    write_series(tmp_path / "ct", 3)
    save(bare_object(sop_class), tmp_path / "other.dcm")
    (refusal,) = find_series(tmp_path).refusals
    assert refusal.disposition is Disposition.EXCLUDED
    assert (refusal.attribute, refusal.value) == ("SOPClassUID", sop_class)
    assert "private class" in refusal.reason or "unknown class" in refusal.reason


def test_an_image_of_a_private_class_is_not_taken_for_a_ct_image(tmp_path):
    save(ct_slice(0, SOPClassUID=SIEMENS_NON_IMAGE), tmp_path / "other.dcm")
    (refusal,) = find_series(tmp_path).refusals
    assert refusal.disposition is Disposition.EXCLUDED
    assert refusal.value == SIEMENS_NON_IMAGE


def test_a_parametric_map_of_floats_is_excluded_by_name(tmp_path):
    dataset = bare_object(ParametricMapStorage, Rows=2, Columns=2, BitsAllocated=32)
    dataset.FloatPixelData = np.zeros(4, "<f4").tobytes()
    save(dataset, tmp_path / "map.dcm")
    (refusal,) = find_series(tmp_path).refusals
    assert refusal.disposition is Disposition.EXCLUDED
    assert "Parametric Map" in refusal.reason


@pytest.mark.parametrize("sop_class", DAMAGED)
@pytest.mark.parametrize("both", [True, False])
def test_a_slice_with_a_damaged_class_is_used_with_a_remark(tmp_path, sop_class, both):
    paths = write_series(tmp_path / "in", 3)
    if both:
        save(ct_slice(1, SOPClassUID=sop_class), paths[1])
    else:
        with_class(paths[1], sop_class)
    series = only_series(tmp_path / "in")
    image_hu = read_volume(series).volume.image_hu
    np.testing.assert_array_equal(image_hu[1], ramp(1).astype(np.float32) - 1024)
    assert [w for w in series.warnings if w.startswith("SOPClassUID")]
    write_derived(image_hu, series, OPERATION, tmp_path / "out")
    derived = pydicom.dcmread(tmp_path / "out" / "CT.0002.dcm")
    assert derived.SOPClassUID == derived.file_meta.MediaStorageSOPClassUID == CTImageStorage


def test_a_slice_whose_two_classes_differ_does_not_vanish(tmp_path):
    paths = write_series(tmp_path, 3)
    with_class(paths[2], MISTAKEN)
    (refusal,) = find_series(tmp_path).refusals
    assert refusal.disposition is Disposition.QUARANTINED
    assert refusal.attribute == "SOPClassUID"
    assert "CT Image Storage" in refusal.reason


@pytest.mark.parametrize("sop_class", DAMAGED[1:])
def test_what_lacks_more_than_its_class_is_damaged_and_not_another_object(tmp_path, sop_class):
    path = save(ct_slice(0, ImagePositionPatient=None), tmp_path / "0.dcm")
    with_class(path, sop_class)
    (refusal,) = find_series(tmp_path).refusals
    assert refusal.disposition is Disposition.QUARANTINED
    assert refusal.attribute == "ImagePositionPatient"


def test_another_object_whose_file_meta_was_copied_from_an_image_is_still_another(tmp_path):
    path = save(bare_object(CTImageStorage), tmp_path / "0.dcm")
    with_class(path, MRImageStorage)
    (refusal,) = find_series(tmp_path).refusals
    assert refusal.disposition is Disposition.EXCLUDED
