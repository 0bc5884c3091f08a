"""Ingest finds labels and their images: by what DICOM names, by place, and never by guess."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import nibabel
import numpy as np
import pytest
from helpers.dicom import KEY
from helpers.labels import (
    SEGMENTED,
    SHAPE,
    assert_same_structures,
    make_series,
    nifti_labels,
    structures,
    tilted,
)
from helpers.pairs import write_dose

from pipeline.config.sections import Pairs
from pipeline.core.errors import NothingUsableError
from pipeline.core.label_map import LabelMap
from pipeline.dicom.derived.rtstruct import write_rtstruct
from pipeline.dicom.derived.seg import LABELMAP, write_seg
from pipeline.dicom.read.ingest_options import IngestOptions
from pipeline.dicom.read.series import find_series
from pipeline.ingest.ingest import IngestReport, ingest
from pipeline.labels.files import write_labels
from pipeline.labels.grid import LabelGrid
from pipeline.store.store import Store


def run(tmp_path: Path, **intake: str) -> tuple[IngestReport, Store]:
    store = Store(tmp_path / "store")
    return ingest(tmp_path / "in", store, key=KEY, intake=IngestOptions(**intake)), store


def image(folder: Path, seed: int = 0, *, shift_mm: float = 0) -> np.ndarray:
    """A CT as a NIfTI file; its affine in LPS."""
    affine = np.diag([0.7, 0.8, 2.5, 1.0])
    affine[:3, 3] = [-120.5, -80.25 + shift_mm, 33.0]
    hu = np.random.default_rng(seed).integers(-1000, 400, SHAPE).astype(np.int16)
    nifti_labels(folder / "ct.nii.gz", hu, affine)
    return affine


def as_masks(folder: Path, affine: np.ndarray, names: dict[int, str]) -> None:
    for value, name in names.items():
        mask = (structures().labels == value).astype(np.uint8)
        nifti_labels(folder / f"{name}.nii.gz", mask, affine)


@pytest.mark.parametrize("kind", ["seg", "label map", "rtstruct", "mask"])
def test_labels_are_stored_beside_the_series_that_they_are_of(tmp_path, kind):
    series = make_series(tmp_path / "in" / "ct", **(tilted() if kind != "mask" else {}))
    folder = tmp_path / "in" / "labels"
    if kind == "rtstruct":
        write_rtstruct(structures(), series, SEGMENTED, folder)
    elif kind == "mask":
        nifti_labels(
            folder / "a.nii.gz", structures().labels, LabelGrid.of_series(series).affine_lps
        )
    else:
        options = {"kind": LABELMAP} if kind == "label map" else {}
        write_seg(structures(), series, SEGMENTED, folder, **options)
    report, store = run(tmp_path)
    assert report.to_dict()["quarantined"] == report.to_dict()["excluded"] == []
    (labels,) = report.labels
    name = "seg" if kind == "label map" else kind
    assert (labels.labels, labels.new, labels.warnings) == (name, True, [])
    found = store.load_labels(labels.series, name)
    if kind == "mask":
        np.testing.assert_array_equal(found.labels, structures().labels)
    else:
        assert_same_structures(found, structures())
        assert labels.structures == ["kidney_left", "liver"]
    again, _ = run(tmp_path)
    assert again.labels == [replace(labels, new=False)]


def test_labels_alone_are_no_data_set(tmp_path):
    nifti_labels(tmp_path / "in" / "a.nii.gz", structures().labels, np.eye(4))
    with pytest.raises(NothingUsableError, match="not CT in HU"):
        run(tmp_path)


def test_a_mask_off_every_grid_is_quarantined_in_millimetres(tmp_path):
    affine = image(tmp_path / "in")
    affine[1, 3] += 3.0
    nifti_labels(tmp_path / "in" / "a.nii.gz", structures().labels, affine)
    report, _ = run(tmp_path)
    (entry,) = report.to_dict()["quarantined"]
    assert report.labels == []
    assert "labels on the grid of no image here; of s-" in entry["reason"]
    assert "labels 3.0 mm off the image's grid" in entry["reason"]


def test_a_mask_that_fits_two_images_is_refused_with_their_names(tmp_path):
    affine = image(tmp_path / "in" / "1", seed=1)
    image(tmp_path / "in" / "2", seed=2)
    nifti_labels(tmp_path / "in" / "a.nii.gz", structures().labels, affine)
    report, store = run(tmp_path)
    (entry,) = report.to_dict()["quarantined"]
    for key in store.records():
        assert key in entry["reason"]
        assert store.label_names(key) == []


def test_each_mask_finds_the_image_of_its_own_grid(tmp_path):
    for number in (1, 2):
        affine = image(tmp_path / "in" / str(number), seed=number, shift_mm=5.0 * number)
        labels = np.roll(structures().labels, number, 1)
        nifti_labels(tmp_path / "in" / f"l{number}.nii.gz", labels, affine)
    report, store = run(tmp_path)
    assert len(report.labels) == 2
    for key in store.records():
        number = round((store.load(key).affine_lps[1, 3] + 80.25) / 5.0)
        expected = np.roll(structures().labels, number, 1)
        np.testing.assert_array_equal(store.load_labels(key, "mask").labels, expected)


def test_a_file_for_each_structure_named_after_it_makes_one_label_map(tmp_path):
    """As TotalSegmentator's data come: ct.nii.gz and segmentations/liver.nii.gz..."""
    affine = image(tmp_path / "in")
    as_masks(tmp_path / "in" / "segmentations", affine, {2: "kidney_left", 5: "liver"})
    report, store = run(tmp_path)
    (labels,) = report.labels
    assert labels.structures == ["kidney_left", "liver"]
    found = store.load_labels(labels.series, "mask")
    for name, value in (("kidney_left", 2), ("liver", 5)):
        of = {text: number for number, text in found.names.items()}[name]
        np.testing.assert_array_equal(found.mask(of), structures().labels == value)


def test_files_of_unknown_names_are_structures_of_their_own_beside_known_ones(tmp_path):
    """And their names, which could be a person's, are not kept."""
    affine = image(tmp_path / "in")
    as_masks(tmp_path / "in", affine, {2: "kidney_left", 5: "Gisela_Geheim"})
    as_masks(tmp_path / "in", affine, {5: "another"})
    report, store = run(tmp_path)
    (labels,) = report.labels
    assert sorted(name.partition(" ")[0] for name in labels.structures) == [
        "kidney_left",
        "unnamed",
        "unnamed",
    ]
    found = store.load_labels(labels.series, "mask")
    of = {text: number for number, text in found.names.items()}
    np.testing.assert_array_equal(found.mask(of["kidney_left"]), structures().labels == 2)
    assert "Geheim" not in json.dumps(report.to_dict())


def test_two_files_that_name_a_structure_alike_are_refused_by_name(tmp_path):
    affine = image(tmp_path / "in")
    as_masks(tmp_path / "in" / "a", affine, {5: "liver"})
    as_masks(tmp_path / "in" / "b", affine, {5: "liver"})
    report, _ = run(tmp_path)
    entries = report.to_dict()["quarantined"]
    assert report.labels == []
    assert len(entries) == 2
    assert "several files name a structure 'liver'" in entries[0]["reason"]


def test_a_files_name_is_reported_only_if_it_is_a_structures(tmp_path):
    affine = image(tmp_path / "in")
    as_masks(tmp_path / "in", affine, {5: "Gisela_Geheim"})
    report, _ = run(tmp_path)
    assert report.labels[0].structures == ["label 1"]
    assert "Geheim" not in json.dumps(report.to_dict())
    stored = [path for path in (tmp_path / "store").rglob("*") if path.is_file()]
    assert not any(b"Geheim" in path.read_bytes() for path in stored)
    assert not any("Geheim" in str(path) for path in stored)


def test_labels_of_images_that_are_not_here_are_excluded_and_reported(tmp_path):
    series = make_series(tmp_path / "other")
    write_seg(structures(), series, SEGMENTED, tmp_path / "in" / "seg")
    image(tmp_path / "in")
    report, _ = run(tmp_path)
    (entry,) = report.to_dict()["excluded"]
    assert entry["reason"] == "labels of images that are not here"
    assert "1.2.826" not in json.dumps(report.to_dict())


def test_another_grid_is_resampled_where_the_owner_asks_for_it(tmp_path):
    affine = image(tmp_path / "in") @ np.diag([2, 2, 1, 1])
    affine[:3, 3] += [0.35, 0.4, 0]
    coarse = structures().labels[:, ::2, ::2]
    nifti_labels(tmp_path / "in" / "a.nii.gz", coarse, affine)
    assert run(tmp_path)[0].labels == []
    report, store = run(tmp_path, labels="nearest")
    (labels,) = report.labels
    found = store.load_labels(labels.series, "mask").labels
    np.testing.assert_array_equal(found, coarse.repeat(2, axis=1).repeat(2, axis=2))
    assert "nearest neighbour" in labels.warnings[0]


def test_labels_follow_a_volume_that_was_resampled(tmp_path):
    """A tilted series made upright: its labels are moved with it, and that is told."""
    series = make_series(tmp_path / "in" / "ct", **tilted())
    write_seg(structures(), series, SEGMENTED, tmp_path / "in" / "seg")
    report, store = run(tmp_path, tilt="unshear")
    (labels,) = report.labels
    volume, found = (
        store.load(labels.series),
        store.load_labels(labels.series, "seg"),
    )
    assert found.labels.shape == volume.image_hu.shape != SHAPE
    assert "with its image resampled" in labels.warnings[0]
    liver = {name: value for value, name in found.names.items()}["liver"]
    centres = [
        np.argwhere(mask).mean(axis=0)[::-1] for mask in (found.mask(liver), structures().mask(5))
    ]
    affines = [volume.affine_lps, LabelGrid.of_series(series).affine_lps]
    places = [
        affine[:3, :3] @ c + affine[:3, 3] for affine, c in zip(affines, centres, strict=True)
    ]
    np.testing.assert_allclose(places[0], places[1], atol=0.4)


def test_labels_of_an_image_without_names_are_used(tmp_path, test_data):
    """torso-siemens has no UIDs: named by its folder it is a volume, and its grid is its own."""
    (tmp_path / "in").mkdir()
    for path in sorted((test_data / "ct" / "torso-siemens").iterdir()):
        shutil.copy(path, tmp_path / "in")
    shutil.copy(test_data / "volumes" / "torso-siemens-labels.nii.gz", tmp_path / "in")
    with pytest.raises(NothingUsableError):
        run(tmp_path)
    report, store = run(tmp_path, unidentified="folder")
    (labels,) = report.labels
    assert {"liver", "spleen", "aorta"} <= set(labels.structures)
    assert report.to_dict()["quarantined"] == []
    stored = nibabel.load(tmp_path / "in" / "torso-siemens-labels.nii.gz").dataobj
    found = store.load_labels(labels.series, "mask").labels
    # Its rows and slices run against the series', as its affine says.
    np.testing.assert_array_equal(found, np.asarray(stored).T[:, ::-1])
    assert isinstance(found, np.memmap)


@pytest.mark.parametrize("as_seg", [True, False], ids=["seg", "rtstruct"])
def test_labels_of_a_real_pair_are_of_its_full_dose_series(tmp_path, as_seg):
    """One slice more at low dose: its volume is what both have, and so are the labels."""
    places = [0.0, 5.0, 10.0]
    write_dose(tmp_path / "in" / "low", "low dose", [*places, 15.0], noise_hu=20.0)
    write_dose(tmp_path / "in" / "full", "full dose", places)
    series = find_series(tmp_path / "in" / "full").series[0]
    drawn = np.zeros((3, 48, 48), np.uint8)
    drawn[1, 10:20, 5:30] = 1
    write = write_seg if as_seg else write_rtstruct
    write(LabelMap(drawn, {1: "liver"}), series, SEGMENTED, tmp_path / "in" / "labels")
    store = Store(tmp_path / "store")
    report = ingest(tmp_path / "in", store, key=KEY, pairs=Pairs())
    (labels,) = report.labels
    assert labels.warnings == []
    np.testing.assert_array_equal(store.load_labels(labels.series, labels.labels).labels, drawn)


def test_a_value_named_after_the_patient_loses_its_name_and_it_is_reported(tmp_path):
    series = make_series(tmp_path / "in" / "ct", PatientName="Geheim^Gisela")
    grid = LabelGrid.of_series(series)
    named = LabelMap(structures().labels, {2: "Tumour of Gisela Geheim", 5: "liver"})
    write_labels(named, grid, tmp_path / "in" / "labels.nii.gz")
    report, _ = run(tmp_path)
    (labels,) = report.labels
    assert labels.structures == ["label 2", "liver"]
    assert labels.warnings == ["the name of value 2 identifies the patient: left out"]
    stored = [path for path in (tmp_path / "store").rglob("*") if path.is_file()]
    assert not any(b"Geheim" in path.read_bytes() for path in stored)


def test_other_xml_stays_what_it_was(tmp_path):
    image(tmp_path / "in")
    (tmp_path / "in" / "x.xml").write_text("<a/>")
    report, _ = run(tmp_path)
    assert [e["reason"] for e in report.to_dict()["excluded"]] == ["not a DICOM file"]
