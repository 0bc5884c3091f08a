"""Several volumes in one series, copies, gaps: named, kept apart or refused, never guessed."""

from __future__ import annotations

import shutil
import zipfile
from pathlib import Path

import numpy as np
import pydicom
import pytest
from helpers.dicom import (
    KEY,
    ROOT_UID,
    STEP_MM,
    ct_slice,
    in_order,
    only_series,
    quarantined,
    ramp,
    save,
    write_series,
)
from pydicom.fileset import FileSet

from pipeline.core.refusals import Disposition
from pipeline.dicom.read.ingest_options import IngestOptions
from pipeline.dicom.read.series import find_series
from pipeline.dicom.read.volume import read_volume, series_key


def uids_of(series) -> list[str]:
    return [str(instance.header.SOPInstanceUID) for instance in series.instances]


def has_warning(series, words: str) -> bool:
    return any(words in warning for warning in series.warnings)


@pytest.mark.parametrize(
    "name",
    [
        "AcquisitionNumber",
        "TemporalPositionIndex",
        "NominalPercentageOfCardiacPhase",
        "TriggerTime",
    ],
)
def test_phases_at_the_same_places_become_volumes_with_names(tmp_path, name):
    for phase in (1, 2, 3):
        for index in range(4):
            dataset = ct_slice(
                index,
                stored=ramp(index) + phase,
                InstanceNumber=4 * phase + index,
                SOPInstanceUID=f"{ROOT_UID}.{phase}.{index + 1}",
                **{name: 10 * phase},
            )
            save(dataset, tmp_path / f"{phase}-{index}.dcm")
    found = find_series(tmp_path)
    assert found.refusals == []
    parts = sorted(series.part.removesuffix(".0") for series in found.series)
    assert parts == [f"{name} {10 * phase}" for phase in (1, 2, 3)]
    for series in found.series:
        phase = int(float(series.part.split()[1])) // 10
        assert uids_of(series) == [f"{ROOT_UID}.{phase}.{index + 1}" for index in range(4)]
        assert has_warning(series, f"one of several volumes in its series: {series.part}")
        assert series.evenly_spaced
    assert len({series_key(series, KEY) for series in found.series}) == 3


def test_two_acquisitions_off_one_grid_are_two_volumes(tmp_path):
    def edit(dataset, index):
        second = index >= 4
        dataset.AcquisitionNumber = 1 + second
        dataset.ImagePositionPatient = ["0", "0", f"{index * STEP_MM + 3.1 * second:.2f}"]

    write_series(tmp_path, 8, edit=edit)
    found = find_series(tmp_path)
    assert [len(series.instances) for series in found.series] == [4, 4]
    assert all(series.evenly_spaced for series in found.series)


def test_the_shots_of_a_step_and_shoot_scan_stay_together(tmp_path):
    def edit(dataset, index):
        dataset.AcquisitionNumber = 1 + index // 4

    write_series(tmp_path, 12, edit=edit)
    series = only_series(tmp_path)
    assert len(series.instances) == 12
    assert series.warnings == ()


def test_volumes_are_named_by_what_sets_them_apart(tmp_path):
    def edit(dataset, index):
        dataset.ConvolutionKernel = ["LUNG", "STANDARD"][index % 2]

    write_series(tmp_path, 6, edit=edit)
    found = find_series(tmp_path)
    parts = {"ConvolutionKernel LUNG", "ConvolutionKernel STANDARD"}
    assert {series.part for series in found.series} == parts


def test_copies_are_left_out_and_reported(tmp_path):
    paths = write_series(tmp_path, 4)
    shutil.copy(paths[2], tmp_path / "copy.dcm")
    save(ct_slice(1, SOPInstanceUID=f"{ROOT_UID}.77"), tmp_path / "sent twice.dcm")
    found = find_series(tmp_path)
    (series,) = found.series
    assert len(series.instances) == 4
    assert has_warning(series, "2 duplicate slices left out")
    assert [r.disposition for r in found.refusals] == [Disposition.EXCLUDED] * 2
    assert {r.path.parent for r in found.refusals} == {tmp_path}


def test_other_pixels_at_one_place_that_nothing_distinguishes_are_refused(tmp_path):
    write_series(tmp_path / "a", 4)
    other = ct_slice(2, stored=ramp(2) + 1, SOPInstanceUID=f"{ROOT_UID}.77")
    save(other, tmp_path / "a" / "other.dcm")
    write_series(tmp_path / "b", 3, SeriesInstanceUID=f"{ROOT_UID}.9")
    found = find_series(tmp_path)
    assert [len(series.instances) for series in found.series] == [3]
    assert len(quarantined(found.refusals)) == 5
    assert {r.attribute for r in found.refusals} == {"ImagePositionPatient"}


def test_one_uid_at_two_places_is_refused(tmp_path):
    write_series(tmp_path, 4, SOPInstanceUID=f"{ROOT_UID}.3")
    found = find_series(tmp_path)
    assert found.series == []
    assert {r.attribute for r in found.refusals} == {"SOPInstanceUID"}


def test_the_real_series_with_copies_is_read_from_its_archive(test_data):
    archive = test_data / "edge" / "dupe-positions.zip"
    found = find_series(archive, intake=IngestOptions(gaps="slices"))
    (series,) = found.series
    assert len(series.instances) == 10  # 11 files, two of them at one place with equal pixels
    assert [r.disposition for r in found.refusals] == [Disposition.EXCLUDED]
    with zipfile.ZipFile(archive) as members:
        stored = {}
        for name in members.namelist():
            with members.open(name) as stream:
                dataset = pydicom.dcmread(stream)
                stored[str(dataset.SOPInstanceUID)] = dataset.pixel_array
    volume = read_volume(series).volume
    for image_hu, valid, uid in zip(volume.image_hu, volume.valid, uids_of(series), strict=True):
        np.testing.assert_array_equal(image_hu[valid], stored[uid][valid] - 1024.0)


@pytest.mark.parametrize("lost", [[3], [3, 4], [2, 6], [5]])
def test_lost_slices_that_positions_and_numbers_agree_on_refuse_the_series(tmp_path, lost):
    paths = write_series(tmp_path, 10)
    for number in lost:
        paths[number].unlink()
    found = find_series(tmp_path)
    assert found.series == []
    assert len(found.refusals) == 10 - len(lost)
    assert {r.attribute for r in found.refusals} == {"ImagePositionPatient"}
    assert f"{len(lost)} slice" in found.refusals[0].reason
    assert "missing inside" in found.refusals[0].reason


def test_copies_of_some_slices_make_no_part_of_their_series(tmp_path):
    times = [f"2000010112{minute:02d}00" for minute in range(6)]
    paths = write_series(
        tmp_path, 6, edit=lambda dataset, n: setattr(dataset, "AcquisitionDateTime", times[n])
    )
    alone = series_key(only_series(tmp_path), KEY)
    for path in paths[:3]:
        shutil.copy(path, path.with_suffix(".copy.dcm"))
    (series,) = find_series(tmp_path).series
    assert series.part == ""
    assert series.warnings == ("3 duplicate slices left out",)
    assert series_key(series, KEY) == alone


def test_a_gap_that_the_numbers_do_not_know_of_is_flagged(tmp_path):
    paths = write_series(tmp_path, 6)
    paths[2].unlink()
    for number, path in enumerate(sorted(tmp_path.iterdir()), start=1):
        dataset = pydicom.dcmread(path)
        dataset.InstanceNumber = number
        dataset.save_as(path)
    series = only_series(tmp_path)
    assert has_warning(series, "1 slice may be missing inside")
    assert has_warning(series, "uneven spacing, 2.50 to 5.00 mm")
    assert not series.evenly_spaced


def test_a_gap_may_be_chosen(tmp_path):
    paths = write_series(tmp_path, 6)
    paths[2].unlink()
    (series,) = find_series(tmp_path, intake=IngestOptions(gaps="slices")).series
    assert len(series.instances) == 5
    assert has_warning(series, "1 slice missing inside")
    assert not series.evenly_spaced


def test_a_damaged_slice_accounts_for_its_gap(tmp_path):
    paths = write_series(tmp_path, 6)
    paths[2].write_bytes(paths[2].read_bytes()[:600])
    found = find_series(tmp_path)
    assert [len(series.instances) for series in found.series] == [5]
    assert has_warning(found.series[0], "1 slice missing inside")
    paths[3].unlink()
    assert find_series(tmp_path).series == []


@pytest.mark.parametrize("witness", ["SliceThickness", "SpacingBetweenSlices"])
def test_every_other_slice_lost_is_refused_where_a_tag_bears_witness(tmp_path, witness):
    paths = write_series(tmp_path, 9, **{"SliceThickness": "1.0", witness: f"{STEP_MM}"})
    assert len(only_series(tmp_path).instances) == 9
    for path in paths[1::2]:
        path.unlink()
    found = find_series(tmp_path)
    assert found.series == []
    assert "only every 2nd slice is there" in found.refusals[0].reason
    assert witness in found.refusals[0].reason


def test_every_other_slice_lost_is_only_suspected_by_numbers_alone(tmp_path):
    paths = write_series(tmp_path, 9, SliceThickness="1.0")
    for path in paths[1::2]:
        path.unlink()
    assert has_warning(
        only_series(tmp_path), "4 slices may be missing: the instance numbers skip as many"
    )


@pytest.mark.parametrize(
    ("folder", "reason"),
    [
        ("phantom/catphan-cbct", "only every 2nd slice is there"),
        ("edge/uneven-gaps/002", "1 slice missing inside"),
    ],
)
def test_real_series_with_lost_slices_are_refused(test_data, folder, reason):
    found = find_series(test_data / folder)
    assert found.series == []
    assert {refusal.reason.startswith(reason) for refusal in found.refusals} == {True}
    (series,) = find_series(test_data / folder, intake=IngestOptions(gaps="slices")).series
    assert len(series.instances) == len(found.refusals)


def test_a_real_gap_with_numbers_that_run_on_is_flagged(test_data):
    series = only_series(test_data / "edge" / "uneven-gaps" / "001")
    assert has_warning(series, "1 slice may be missing inside")


def test_lost_ends_are_flagged(tmp_path):
    write_series(
        tmp_path / "first",
        4,
        edit=lambda dataset, _: dataset.__setattr__("InstanceNumber", dataset.InstanceNumber + 5),
    )
    write_series(tmp_path / "last", 4, SeriesInstanceUID=f"{ROOT_UID}.9", ImagesInAcquisition=9)
    first, last = find_series(tmp_path).series
    assert has_warning(first, "slices may be missing at the ends: instance numbers 6 to 9")
    assert has_warning(last, "instance numbers 1 to 4, of 9 in the acquisition")


def test_folders_archives_and_discs_hold_the_same_volume(tmp_path, test_data):
    source = in_order(test_data / "ct" / "chest-ge-lidc0001")[:6]
    whole = read_volume(_series_of(source, tmp_path / "plain")).volume
    with zipfile.ZipFile(tmp_path / "study.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for number, path in enumerate(reversed(source)):
            archive.write(path, f"deep/{number}/er")
        archive.writestr("__MACOSX/._er", b"a desktop's")
        archive.writestr("readme.txt", b"not an image")
    (tmp_path / "nested").mkdir()
    shutil.copy(tmp_path / "study.zip", tmp_path / "nested" / "other.ZIP")
    files = FileSet()
    for path in source:
        dataset = pydicom.dcmread(path)
        dataset.StudyTime = "120000"
        dataset.StudyDate = "20000101"
        dataset.StudyID = "1"
        files.add(dataset)
    files.write(tmp_path / "disc")
    for root in ("study.zip", "nested", "disc", "disc/DICOMDIR"):
        (series,) = find_series(tmp_path / root).series
        volume = read_volume(series).volume
        np.testing.assert_array_equal(volume.image_hu, whole.image_hu)
        np.testing.assert_array_equal(volume.affine_lps, whole.affine_lps)


def _series_of(paths: list[Path], folder: Path):
    folder.mkdir()
    for path in paths:
        shutil.copy(path, folder)
    return only_series(folder)


def test_a_file_that_the_discs_index_names_and_that_is_gone_is_quarantined(tmp_path):
    files = FileSet()
    for path in write_series(tmp_path / "source", 3, StudyTime="120000"):
        files.add(path)
    files.write(tmp_path / "disc")
    lost = next(p for p in sorted((tmp_path / "disc").rglob("*")) if p.is_file() and p.suffix == "")
    last = max(p for p in (tmp_path / "disc").rglob("*") if p.is_file() and p.name != "DICOMDIR")
    assert lost.exists()
    last.unlink()
    found = find_series(tmp_path / "disc")
    (refusal,) = quarantined(found.refusals)
    assert refusal.path == last
    assert "named by the DICOMDIR" in refusal.reason
    assert [len(series.instances) for series in found.series] == [2]


def test_damaged_and_locked_archives_are_quarantined(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("0.dcm", b"x" * 2000)
    whole = (tmp_path / "a.zip").read_bytes()
    (tmp_path / "cut.zip").write_bytes(whole[:500])
    locked = bytearray(whole)
    at = locked.index(b"PK\x01\x02")
    locked[at + 8] |= 1
    locked[6] |= 1
    (tmp_path / "locked.zip").write_bytes(bytes(locked))
    reasons = {
        r.path.relative_to(tmp_path).as_posix(): r.reason for r in find_series(tmp_path).refusals
    }
    assert reasons["cut.zip"] == "an archive that cannot be opened"
    assert "encrypted" in reasons["locked.zip/0.dcm"]
    assert "not DICOM" in reasons["a.zip/0.dcm"]


def test_slices_without_a_name_go_by_their_folder_if_that_is_chosen(test_data):
    folder = test_data / "ct" / "torso-siemens"
    assert find_series(folder).series == []
    (series,) = find_series(folder, intake=IngestOptions(unidentified="folder")).series
    assert len(series.instances) == 20
    assert series.evenly_spaced
    assert read_volume(series).volume.image_hu.shape == (20, 512, 512)


@pytest.mark.parametrize("uids", ["equal", "empty", "in pairs"])
def test_shared_or_empty_sop_uids_are_for_training_if_that_is_chosen(tmp_path, uids):
    for index, path in enumerate(write_series(tmp_path, 4)):
        dataset = pydicom.dcmread(path)
        dataset.SOPInstanceUID = {"equal": ROOT_UID, "empty": ""}.get(
            uids, f"{ROOT_UID}.{index // 2}"
        )
        dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID or ""
        dataset.save_as(path)
    shutil.copy(tmp_path / "001.dcm", tmp_path / "copy.dcm")
    refused = find_series(tmp_path)
    assert refused.series == []
    assert {r.attribute for r in refused.refusals if "a copy" not in r.reason} == {"SOPInstanceUID"}
    assert "unidentified=folder" in refused.refusals[-1].reason
    found = find_series(tmp_path, intake=IngestOptions(unidentified="folder"))
    (series,) = found.series
    assert len(set(uids_of(series))) == 4
    assert all(instance.is_unidentified for instance in series.instances)
    assert has_warning(series, "for training only")
    assert [r.reason for r in found.refusals] == [
        "a copy: another slice has the same place and pixels"
    ]
    np.testing.assert_array_equal(read_volume(series).volume.image_hu[3], ramp(3) - 1024.0)


def test_equal_objects_keep_their_uid_where_folders_name_slices(tmp_path):
    write_series(tmp_path, 4)
    (series,) = find_series(tmp_path, intake=IngestOptions(unidentified="folder")).series
    assert not any(instance.is_unidentified for instance in series.instances)
    assert series.warnings == ()


def test_a_data_set_without_preamble_is_read(tmp_path):
    for index, path in enumerate(write_series(tmp_path, 3)):
        content = path.read_bytes()
        meta_length = int.from_bytes(content[140:144], "little")
        if index == 1:
            path.write_bytes(content[144 + meta_length :])
    series = only_series(tmp_path)
    assert len(series.instances) == 3
    np.testing.assert_array_equal(read_volume(series).volume.image_hu[1], ramp(1) - 1024.0)
