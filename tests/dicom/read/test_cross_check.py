"""Our voxels and places against SimpleITK and dcm2niix; where they differ, headers judge."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import nibabel
import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from helpers.dicom import in_order

from pipeline.core.volume import Volume
from pipeline.dicom.read.ingest_options import IngestOptions
from pipeline.dicom.read.series import find_series
from pipeline.dicom.read.volume import read_volume

WELL_FORMED = (
    "ct/abdomen-ge-crlm1004",
    "ct/abdomen-ge-crlm1006",
    "ct/chest-ge-lidc0001",
    "ct/torso-siemens",
    "phantom/catphan-cbct",
)
ANYTHING = IngestOptions(gaps="slices", unidentified="folder")
LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])


def volume_of(folder: Path) -> Volume:
    (series,) = find_series(folder, intake=ANYTHING).series
    return read_volume(series).volume


def corners(volume: Volume) -> np.ndarray:
    slices, rows, columns = (length - 1 for length in volume.image_hu.shape)
    return np.array(
        [[i, j, k, 1] for i in (0, columns) for j in (0, rows) for k in (0, slices)], dtype=float
    )


@pytest.mark.parametrize("name", WELL_FORMED)
def test_voxels_and_places_equal_simpleitks(test_data, name):
    volume = volume_of(test_data / name)
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames([str(path) for path in in_order(test_data / name)])
    image = reader.Execute()
    array = sitk.GetArrayFromImage(image)
    np.testing.assert_allclose(volume.image_hu[volume.valid], array[volume.valid], atol=1e-3)
    for column, row, slice_, _ in corners(volume).astype(int).tolist():
        theirs = image.TransformIndexToPhysicalPoint((column, row, slice_))
        ours = volume.affine_lps @ [column, row, slice_, 1]
        np.testing.assert_allclose(ours[:3], theirs, atol=1e-3)


def dcm2niix(program: str, folder: Path, out: Path) -> nibabel.Nifti1Image:
    out.mkdir()
    command = [program, "-f", "out", "-o", str(out), "-z", "n", "-b", "n", "-m", "y", str(folder)]
    subprocess.run(command, check=True, capture_output=True)
    return nibabel.load(out / "out.nii")


@pytest.mark.parametrize("name", WELL_FORMED[:3])
def test_voxels_and_places_equal_dcm2niixs(test_data, name, tmp_path, require_program):
    volume = volume_of(test_data / name)
    image = dcm2niix(require_program("dcm2niix"), test_data / name, tmp_path / "out")
    to_theirs = np.linalg.inv(image.affine) @ LPS_TO_RAS @ volume.affine_lps
    # Rows and slices may be stored the other way round; every voxel of ours is one of theirs.
    index = to_theirs @ corners(volume).T
    np.testing.assert_allclose(index, np.rint(index), atol=2e-3)
    theirs = np.asanyarray(image.dataobj).astype(np.float32).T
    for axis, sign in enumerate(np.diag(to_theirs)[2::-1]):
        theirs = np.flip(theirs, axis) if sign < 0 else theirs
    np.testing.assert_allclose(volume.image_hu[volume.valid], theirs[volume.valid], atol=1e-3)


def header_mm(path: Path, row: int, column: int) -> np.ndarray:
    """PS3.3 C.7.6.2.1.1, equation C.7.6.2.1-1."""
    header = pydicom.dcmread(path, stop_before_pixels=True)
    cosines = np.array([float(v) for v in header.ImageOrientationPatient])
    row_mm, column_mm = (float(v) for v in header.PixelSpacing)
    origin = np.array([float(v) for v in header.ImagePositionPatient])
    return origin + cosines[:3] * column_mm * column + cosines[3:] * row_mm * row


def even_part_of_the_head(test_data: Path, folder: Path) -> list[Path]:
    """The tilted head's upper slices, 7.38 mm apart: an even, sheared series."""
    folder.mkdir()
    paths = in_order(test_data / "ct" / "head-ge-tilted")
    z = [header_mm(path, 0, 0)[2] for path in paths]
    even = [paths[0]]
    longest: list[Path] = []
    for index in range(1, len(paths)):
        grows = index < 2 or abs((z[index] - z[index - 1]) - (z[index - 1] - z[index - 2])) < 1e-3
        even = [*even, paths[index]] if grows else [paths[index - 1], paths[index]]
        longest = max(longest, even, key=len)
    return [Path(shutil.copy(path, folder)) for path in longest]


def test_of_a_tilted_series_the_headers_say_that_we_are_right(test_data, tmp_path):
    paths = even_part_of_the_head(test_data, tmp_path / "head")
    assert len(paths) >= 8
    volume = volume_of(tmp_path / "head")
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames([str(path) for path in paths])
    image = reader.Execute()
    np.testing.assert_array_equal(
        volume.image_hu[volume.valid], sitk.GetArrayFromImage(image)[volume.valid]
    )
    ours, theirs = 0.0, 0.0
    for number, path in enumerate(paths):
        for row, column in ((0, 0), (511, 0), (0, 511), (511, 511)):
            by_header = header_mm(path, row, column)
            placed = (volume.affine_lps @ [column, row, number, 1])[:3]
            ours = max(ours, float(np.linalg.norm(placed - by_header)))
            itk = np.array(image.TransformIndexToPhysicalPoint((column, row, number)))
            theirs = max(theirs, float(np.linalg.norm(itk - by_header)))
    assert ours < 0.01
    assert theirs > 5.0  # SimpleITK drops the shear, silently


def test_of_a_series_with_a_gap_simpleitk_misplaces_slices_and_we_refuse(test_data):
    folder = test_data / "edge" / "uneven-gaps" / "002"
    assert find_series(folder).series == []
    (series,) = find_series(folder, intake=ANYTHING).series
    paths = in_order(folder)
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames([str(path) for path in paths])
    image = reader.Execute()
    origins = np.stack([instance.origin_mm for instance in series.instances])
    by_header = np.stack([header_mm(path, 0, 0) for path in paths])
    np.testing.assert_allclose(origins, by_header, atol=1e-3)
    itk = np.stack([image.TransformIndexToPhysicalPoint((0, 0, k)) for k in range(len(paths))])
    assert np.linalg.norm(itk - by_header, axis=1).max() > 0.2
