"""Derived UIDs are of one object each, whatever UIDs the sources share (PS3.5 9)."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pydicom
import pytest
from helpers.derived import write_derived
from helpers.dicom import OPERATION, ROOT_UID, write_series

from pipeline.core.errors import LdctError
from pipeline.dicom.derived.batch_uids import BatchUids
from pipeline.dicom.derived.check import check_tree
from pipeline.dicom.derived.difference import difference_of
from pipeline.dicom.read.series import find_series
from pipeline.dicom.read.volume import read_volume

COUNT = 3
NAMED = replace(OPERATION, description=f"Noise reduction. Model test, weights {'a1' * 32}.")


def derive_all(source: Path, out: Path) -> list[Path]:
    """The folder of the derived series of each series of a source."""
    folders = []
    for number, series in enumerate(find_series(source).series):
        folders.append(out / f"{number}")
        write_derived(read_volume(series).volume.image_hu, series, NAMED, folders[-1])
    return folders


def uids(folder: Path, name: str) -> set[str]:
    paths = sorted(folder.glob("*.dcm"))
    return {str(pydicom.dcmread(path, stop_before_pixels=True)[name].value) for path in paths}


@pytest.mark.parametrize(
    "other",
    [
        {"SeriesInstanceUID": f"{ROOT_UID}.22", "ConvolutionKernel": "LUNG"},
        {"StudyInstanceUID": f"{ROOT_UID}.11"},
        {"ConvolutionKernel": "LUNG"},  # another volume of the same series
    ],
)
def test_series_that_share_the_uids_of_their_images_become_images_with_uids_of_their_own(
    tmp_path, other
):
    write_series(tmp_path / "in" / "a", COUNT)
    write_series(tmp_path / "in" / "b", COUNT, **other)
    folders = derive_all(tmp_path / "in", tmp_path / "out")
    assert len(folders) == 2
    assert len(set.union(*(uids(folder, "SOPInstanceUID") for folder in folders))) == 2 * COUNT
    assert len(set.union(*(uids(folder, "SeriesInstanceUID") for folder in folders))) == 2
    seen = BatchUids()
    for folder in folders:
        seen.add(folder)
    checked = check_tree(tmp_path / "out", tmp_path / "in")
    assert [(result.instances, result.problems) for result in checked] == [(COUNT, [])] * 2


def test_two_patients_under_the_same_uids_are_found_before_an_archive_loses_one(tmp_path):
    write_series(tmp_path / "in" / "a", COUNT)
    write_series(tmp_path / "in" / "b", COUNT, PatientID="another")
    first, second = derive_all(tmp_path / "in", tmp_path / "out")
    beside = second.with_name(f"{second.name}-difference")
    beside.mkdir()
    seen = BatchUids()
    seen.add(first)
    with pytest.raises(LdctError, match="3 of 3 derived images have the SOPInstanceUID of another"):
        seen.add(second)
    assert sorted((tmp_path / "out").iterdir()) == [first]
    assert len(list(first.iterdir())) == COUNT


def test_a_difference_has_uids_of_its_own(tmp_path):
    write_series(tmp_path / "in", COUNT)
    (series,) = find_series(tmp_path / "in").series
    image_hu = read_volume(series).volume.image_hu
    write_derived(image_hu, series, OPERATION, tmp_path / "out")
    beside = tmp_path / "out-difference"
    write_derived(image_hu, series, difference_of(OPERATION), beside)
    BatchUids().add(tmp_path / "out")
    (beside / "again.dcm").write_bytes(next(beside.iterdir()).read_bytes())
    with pytest.raises(LdctError, match="1 of 7"):
        BatchUids().add(tmp_path / "out")


def test_where_nothing_was_written_there_is_nothing_to_look_at(tmp_path):
    BatchUids().add(tmp_path / "nowhere")
