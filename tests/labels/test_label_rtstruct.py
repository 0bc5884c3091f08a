"""RTSTRUCT out and in: the same voxels by contours in patient coordinates, holes kept."""

from __future__ import annotations

import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pydicom
import pytest
from helpers.dicom import copy_slices, ct_slice, in_order, only_series, save
from helpers.labels import (
    COLUMN_MM,
    ROW_MM,
    SEGMENTED,
    SHAPE,
    assert_same_structures,
    ball,
    dice,
    make_series,
    of_another,
    structures,
    tilted,
)
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian

from pipeline.core.errors import LdctError
from pipeline.core.label_map import LabelMap
from pipeline.core.refusals import Unreadable
from pipeline.dicom.derived.check import check_structures
from pipeline.dicom.derived.rtstruct import FILE, make_rtstruct, write_rtstruct
from pipeline.dicom.read.series import find_series
from pipeline.labels.grid import LabelGrid
from pipeline.labels.rtstruct import read_rtstruct


def written(series, folder: Path, labelmap: LabelMap | None = None) -> Path:
    write_rtstruct(labelmap or structures(), series, SEGMENTED, folder)
    return folder / FILE


def edited(path: Path, edit) -> Path:
    dataset = pydicom.dcmread(path)
    edit(dataset)
    dataset.save_as(path.with_name("x.dcm"))
    return path.with_name("x.dcm")


def contours(dataset: Dataset) -> list[Dataset]:
    return [c for roi in dataset.ROIContourSequence for c in roi.get("ContourSequence") or ()]


def moved(dataset: Dataset, axis: int, by_mm: float) -> None:
    for contour in contours(dataset):
        points = np.array(contour.ContourData, float).reshape(-1, 3)
        points[:, axis] += by_mm
        contour.ContourData = points.ravel().tolist()


def drawn(series, outlines: list[list[float]], **attributes) -> Dataset:
    """A structure set of one ROI with these outlines, (column, row) in pixels, in slice 3."""
    dataset = make_rtstruct(structures(), series, SEGMENTED)
    origin = series.instances[3].origin_mm
    kept = dataset.ROIContourSequence[0]
    kept.ContourSequence = []
    for outline in outlines:
        places = np.array(outline, float)
        contour = Dataset()
        contour.ContourGeometricType = "CLOSED_PLANAR"
        points = origin + places @ [[COLUMN_MM, 0, 0], [0, ROW_MM, 0]]
        contour.ContourData = [f"{part:.3f}" for part in points.ravel()]
        for name, value in attributes.items():
            setattr(contour, name, value)
        kept.ContourSequence.append(contour)
    dataset.ROIContourSequence = [kept]
    dataset.StructureSetROISequence = [dataset.StructureSetROISequence[0]]
    return dataset


def read_drawn(dataset: Dataset, series, tmp_path: Path) -> LabelMap:
    dataset.save_as(tmp_path / "drawn.dcm", enforce_file_format=True)
    return read_rtstruct(tmp_path / "drawn.dcm", LabelGrid.of_series(series))


@pytest.mark.parametrize("attributes", [{}, tilted()], ids=["upright", "tilted"])
def test_labels_come_back_from_rtstruct_exactly_with_their_holes(tmp_path, attributes):
    series = make_series(tmp_path / "in", **attributes)
    found = read_rtstruct(written(series, tmp_path / "out"), LabelGrid.of_series(series))
    assert_same_structures(found, structures())
    assert found.source == {"kind": "RTSTRUCT"}


def test_contours_follow_a_smooth_shape_in_patient_coordinates(tmp_path):
    """An ellipsoid's outlines, checked against its formula and not against our own reader."""
    series = make_series(tmp_path / "in")
    shape = ball((3.5, 20, 18), (3, 15, 14))
    known = LabelMap(shape.astype(np.uint8), {1: "liver"})
    path = written(series, tmp_path / "out", known)
    found = read_rtstruct(path, LabelGrid.of_series(series))
    assert dice(found.mask(1), shape) > 0.98
    sources = {i.header.SOPInstanceUID: i for i in series.instances}
    for contour in contours(pydicom.dcmread(path)):
        (item,) = contour.ContourImageSequence
        origin = sources[item.ReferencedSOPInstanceUID].origin_mm
        points = np.array(contour.ContourData, float).reshape(-1, 3) - origin
        np.testing.assert_allclose(points[:, 2], 0, atol=1e-3)
        assert contour.NumberOfContourPoints == len(points)
        height = (origin[2] / 2.5 - 3.5) / 3
        radius = np.hypot(points[:, 0] / COLUMN_MM - 18, points[:, 1] / ROW_MM - 20)
        about = np.sqrt(max(0, 1 - height**2)) * 14.5
        assert (np.abs(radius - about) < 2).all()


def test_holes_are_reached_by_keyhole(tmp_path):
    """One contour for a ring: what reads CLOSED_PLANAR alone needs no rule for nested ones."""
    series = make_series(tmp_path / "in")
    ring = np.zeros(SHAPE, np.uint8)
    ring[3, 10:30, 5:30] = 1
    ring[3, 15:20, 10:20] = ring[3, 22:25, 22:26] = 0
    dataset = make_rtstruct(LabelMap(ring, {1: "liver"}), series, SEGMENTED)
    (contour,) = contours(dataset)
    assert contour.ContourGeometricType == "CLOSED_PLANAR"


def test_nested_contours_are_holes(tmp_path):
    series = make_series(tmp_path / "in")
    outer = [[4.5, 4.5], [24.5, 4.5], [24.5, 24.5], [4.5, 24.5]]
    inner = [[9.5, 9.5], [14.5, 9.5], [14.5, 14.5], [9.5, 14.5]]
    found = read_drawn(drawn(series, [outer, inner]), series, tmp_path)
    assert found.labels[3].astype(bool).sum() == 400 - 25
    assert not found.labels[3, 12, 12]
    assert "warnings" not in found.source


def test_contours_that_cross_are_reported(tmp_path):
    series = make_series(tmp_path / "in")
    first = [[4.5, 4.5], [14.5, 4.5], [14.5, 14.5], [4.5, 14.5]]
    second = [[9.5, 9.5], [24.5, 9.5], [24.5, 24.5], [9.5, 24.5]]
    found = read_drawn(drawn(series, [first, second]), series, tmp_path)
    assert found.source["warnings"] == ["kidney_left: 1 slices with contours that cross each other"]


def test_points_and_open_contours_are_left_out_and_reported(tmp_path):
    series = make_series(tmp_path / "in")
    square = [[4.5, 4.5], [14.5, 4.5], [14.5, 14.5], [4.5, 14.5]]
    dataset = drawn(series, [square, [[3, 3]], square])
    dataset.ROIContourSequence[0].ContourSequence[1].ContourGeometricType = "POINT"
    dataset.ROIContourSequence[0].ContourSequence[2].ContourGeometricType = "OPEN_PLANAR"
    found = read_drawn(dataset, series, tmp_path)
    assert found.labels[3].astype(bool).sum() == 100
    assert found.source["warnings"] == ["kidney_left: 2 points or open contours left out"]


def test_overlapping_structures_are_kept_and_reported(tmp_path):
    series = make_series(tmp_path / "in")
    body = np.ones(SHAPE, np.uint8)
    dataset = make_rtstruct(LabelMap(body, {1: "body"}), series, SEGMENTED)
    other = make_rtstruct(structures(), series, SEGMENTED)
    for name in ("StructureSetROISequence", "ROIContourSequence"):
        for item in other[name].value:
            key = "ROINumber" if "ROINumber" in item else "ReferencedROINumber"
            item[key].value += 1
            dataset[name].value.append(item)
    found = read_drawn(dataset, series, tmp_path)
    assert_same_structures(found, structures())
    assert_same_structures(found, LabelMap(body, {1: "body"}))
    assert found.source["warnings"] == ["structures overlap"]


@pytest.mark.parametrize(("axis", "message"), [(2, r"3\.0 mm off its slice"), (1, None)])
def test_contours_off_their_slice_are_refused_and_reported(tmp_path, axis, message):
    """A shift within the plane cannot be seen in contours: they may be anywhere in it."""
    series = make_series(tmp_path / "in")
    path = edited(written(series, tmp_path / "out"), lambda ds: moved(ds, axis, 3.0))
    if message:
        with pytest.raises(Unreadable, match=message):
            read_rtstruct(path, LabelGrid.of_series(series))
    else:
        assert read_rtstruct(path, LabelGrid.of_series(series)).labels.any()


def test_contours_between_slices_go_to_the_nearest_only_if_asked(tmp_path):
    series = make_series(tmp_path / "in")

    def between(dataset):
        moved(dataset, 2, 0.9)
        for contour in contours(dataset):
            del contour.ContourImageSequence

    path = edited(written(series, tmp_path / "out"), between)
    with pytest.raises(Unreadable, match=r"0\.9 mm off"):
        read_rtstruct(path, LabelGrid.of_series(series))
    found = read_rtstruct(path, LabelGrid.of_series(series), between_slices=True)
    assert_same_structures(found, structures())
    assert all("moved to the nearest slice" in message for message in found.source["warnings"])


def test_contours_on_slices_that_the_series_lacks_are_left_out_and_reported(tmp_path):
    series = make_series(tmp_path / "in")
    path = written(series, tmp_path / "out")
    for number in (0, 1, 2):
        (tmp_path / "in" / f"{number:03d}.dcm").unlink()
    found = read_rtstruct(path, LabelGrid.of_series(only_series(tmp_path / "in")))
    np.testing.assert_array_equal(found.mask(2), structures().mask(5)[3:])
    assert any("on slices that the series lacks" in message for message in found.source["warnings"])


def test_another_studys_structures_are_refused_by_attribute(tmp_path):
    series = make_series(tmp_path / "in")
    path = written(series, tmp_path / "out")
    copy_slices(in_order(tmp_path / "in"), tmp_path / "other", of_another)
    with pytest.raises(Unreadable) as fault:
        read_rtstruct(path, LabelGrid.of_series(only_series(tmp_path / "other")))
    assert fault.value.attribute == "StudyInstanceUID"
    assert "1.2.826" not in fault.value.reason + fault.value.value


def test_other_coordinates_are_refused(tmp_path):
    series = make_series(tmp_path / "in")

    def elsewhere(dataset):
        for roi in dataset.StructureSetROISequence:
            roi.ReferencedFrameOfReferenceUID = "1.2.3.4"

    path = edited(written(series, tmp_path / "out"), elsewhere)
    with pytest.raises(Unreadable, match="other coordinates"):
        read_rtstruct(path, LabelGrid.of_series(series))


@pytest.mark.parametrize(
    ("edit", "reason"),
    [
        (lambda ds: ds.__delattr__("ROIContourSequence"), "no closed contour"),
        (lambda ds: ds.__delattr__("StructureSetROISequence"), "no described structure"),
        (lambda ds: setattr(contours(ds)[0], "ContourData", ["1", "2"]), "three numbers"),
    ],
)
def test_damaged_structure_sets_are_refused(tmp_path, edit, reason):
    series = make_series(tmp_path / "in")
    path = edited(written(series, tmp_path / "out"), edit)
    with pytest.raises(Unreadable, match=reason):
        read_rtstruct(path, LabelGrid.of_series(series))


def test_the_same_source_and_model_give_the_same_bytes(tmp_path):
    series = make_series(tmp_path / "in")
    first, second = (written(series, tmp_path / name) for name in ("a", "b"))
    assert first.read_bytes() == second.read_bytes()
    other = make_rtstruct(structures(), series, replace(SEGMENTED, identity="test/2"))
    assert other.SOPInstanceUID != pydicom.dcmread(first).SOPInstanceUID


def test_a_name_that_identifies_the_patient_is_not_written(tmp_path):
    labels = replace(structures(), names={2: "SECRET-4711", 5: "liver"})
    with pytest.raises(LdctError, match="identifies the patient"):
        make_rtstruct(labels, make_series(tmp_path), SEGMENTED)


def test_a_name_that_identifies_the_patient_is_not_read(tmp_path):
    series = make_series(tmp_path / "in")
    path = edited(
        written(series, tmp_path / "out"),
        lambda ds: setattr(ds.StructureSetROISequence[1], "ROIName", "Geheim Gisela liver"),
    )
    found = read_rtstruct(path, LabelGrid.of_series(series))
    assert found.names == {1: "kidney_left", 2: "structure 2", 3: "spleen"}


def test_a_real_tilted_series_round_trips_and_is_clean(test_data, tmp_path, require_program):
    program = require_program("dciodvfy")
    series = find_series(test_data / "ct" / "head-ge-tilted").series[0]
    labels = np.zeros((len(series.instances), series.header.Rows, series.header.Columns), np.uint8)
    labels[4:9, 100:220, 150:300] = 1
    labels[5:8, 130:140, 170:200] = 0
    known = LabelMap(labels, {1: "brain"})
    path = written(series, tmp_path / "out", known)
    assert_same_structures(read_rtstruct(path, LabelGrid.of_series(series)), known)
    errors = [
        {
            line
            for line in subprocess.run(
                [program, "-new", str(file)], capture_output=True, text=True, check=False
            ).stderr.splitlines()
            if line.startswith("Error")
        }
        for file in (path, series.instances[0].path)
    ]
    assert errors[0] <= errors[1]


def test_contours_of_more_than_64_kilobytes_are_written_and_read(tmp_path):
    """As of a body with many holes. Others write such contours without VR, in explicit VR."""
    rows, columns = 512, 512
    stored = np.full((rows, columns), 1000, np.int16)
    for index in range(3):
        save(ct_slice(index, stored), tmp_path / "in" / f"{index}.dcm")
    series = find_series(tmp_path / "in").series[0]
    labels = np.ones((3, rows, columns), np.uint8)
    labels[1, 5::20, 5::20] = 0  # 676 holes in one slice
    sieve = LabelMap(labels, {1: "body"})
    path = written(series, tmp_path / "out", sieve)
    (largest,) = [c for c in contours(pydicom.dcmread(path)) if c.NumberOfContourPoints > 1000]
    assert len("\\".join(map(str, largest.ContourData))) > 2**16
    explicit = pydicom.dcmread(path)
    explicit.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    with pytest.warns(UserWarning, match="64 kByte"):
        explicit.save_as(tmp_path / "explicit.dcm", implicit_vr=False, little_endian=True)
    for file in (path, tmp_path / "explicit.dcm"):
        found = read_rtstruct(file, LabelGrid.of_series(series))
        np.testing.assert_array_equal(found.labels, labels)
    assert check_structures(tmp_path / "explicit.dcm", series, name="x").problems == []
