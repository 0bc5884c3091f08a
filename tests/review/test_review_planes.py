"""Planes of a series: exact HU, padding, and upright planes of tilted and uneven series."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from helpers.dicom import only_series
from helpers.review import (
    COLUMN_MM,
    COLUMNS,
    ROW_MM,
    ROWS,
    SLICES,
    STEP_MM,
    body_hu,
    truncate,
    write_original,
)

from pipeline.core.volume import Volume
from pipeline.dicom.read.volume import read_volume
from pipeline.review.planes import CHUNK, PADDING, Planes, planes_of_series, planes_of_volume
from pipeline.review.planes_geometry import COLUMNS as SAGITTAL
from pipeline.review.planes_geometry import ROWS as CORONAL
from pipeline.review.planes_geometry import SLICES as AXIAL


def planes_of(folder: Path) -> Planes:
    return planes_of_series(only_series(folder))


def every(planes: Planes, direction: str) -> np.ndarray:
    """All planes of a direction."""
    chunks = -(-planes.geometry.count(direction) // CHUNK)
    return np.concatenate([planes.chunk(direction, n).planes for n in range(chunks)])


def test_planes_are_the_series_hu_in_all_three_directions(tmp_path: Path) -> None:
    write_original(tmp_path, 1)
    planes = planes_of(tmp_path)
    volume = np.stack([body_hu(index) for index in range(SLICES)])
    assert planes.hu_step == 1
    assert np.array_equal(every(planes, AXIAL), volume)
    # Head up: the last slice, which lies highest, is the first line.
    assert np.array_equal(every(planes, CORONAL), volume[::-1].transpose(1, 0, 2))
    assert np.array_equal(every(planes, SAGITTAL), volume[::-1].transpose(2, 0, 1))


def test_every_pixel_lies_where_the_geometry_says(tmp_path: Path) -> None:
    write_original(tmp_path, 1)
    geometry = planes_of(tmp_path).geometry
    spacing = np.array([STEP_MM, ROW_MM, COLUMN_MM])
    voxel = np.array([SLICES - 1, 11, 23])  # (slice, row, column)
    truth = np.array([-28, -38, 0]) + (voxel * spacing)[::-1]
    coronal, sagittal = geometry.planes(CORONAL), geometry.planes(SAGITTAL)
    assert (coronal.name, sagittal.name) == ("coronal", "sagittal")
    # The highest slice is line 0 of both.
    at = coronal.origins_mm[11] + 23 * COLUMN_MM * coronal.row_axis
    assert at == pytest.approx(truth)
    at = sagittal.origins_mm[23] + 11 * ROW_MM * sagittal.row_axis
    assert at == pytest.approx(truth)
    assert coronal.column_axis == pytest.approx([0, 0, -1])


def test_padding_has_a_number_of_its_own(tmp_path: Path) -> None:
    write_original(tmp_path, 1, padded=True)
    planes = planes_of(tmp_path)
    valid = read_volume(only_series(tmp_path)).volume.valid
    assert not valid.all()
    for direction, order in ((AXIAL, (0, 1, 2)), (CORONAL, (1, 0, 2)), (SAGITTAL, (2, 0, 1))):
        shown = valid if direction == AXIAL else valid[::-1]
        assert np.array_equal(every(planes, direction) != PADDING, shown.transpose(order))


def test_a_tilted_series_is_cut_upright(tmp_path: Path) -> None:
    """A column that stands upright in the patient is straight, although slices are shifted."""
    shear_px = 1.5
    images = []
    for index in range(SLICES):
        image = np.full((ROWS, COLUMNS), -1000, np.float64)
        edge = 60 - shear_px * index  # in the slice, the column's start moves up
        share = edge - np.floor(edge)
        image[int(np.ceil(edge)) :, :] = 50
        if share:
            image[int(np.floor(edge)), :] = -1000 + 1050 * (1 - share)
        images.append(np.rint(image).astype(np.int16))
    write_original(tmp_path, 1, shear_mm=shear_px * ROW_MM, images=images)
    planes = planes_of(tmp_path)
    expected = np.degrees(np.arctan2(shear_px * ROW_MM, STEP_MM))
    assert planes.geometry.tilt_degrees == pytest.approx(expected, abs=0.01)
    sagittal = planes.chunk(SAGITTAL, 5).planes[0]
    assert sagittal.shape == (SLICES, ROWS + int(np.ceil(shear_px * (SLICES - 1))))
    # Half of 50 and -1000 HU is at the same place in every line; half a pixel of interpolation.
    for line in sagittal[:, :90]:
        measured = np.flatnonzero(line != PADDING)
        bright = measured[line[measured] > -475]
        assert abs(bright[0] - 60) <= 1
    # Where a shifted slice does not reach, there is padding and no invented air.
    assert (sagittal[0, :30] == PADDING).all()
    assert (sagittal[-1, -30:] == PADDING).all()


def test_an_uneven_series_keeps_its_places(tmp_path: Path) -> None:
    """A value that rises with the place does so evenly across uneven slices."""
    places_mm = [0.0, 1.0, 3.0, 7.0, 8.0, 12.0]
    images = [np.full((ROWS, COLUMNS), 10 * place, np.int16) for place in places_mm]
    for image in images:
        image[0, 0] = -1000  # no blank frame
    write_original(tmp_path, 1, places_mm=places_mm, images=images)
    planes = planes_of(tmp_path)
    assert not planes.geometry.even
    assert planes.geometry.step_mm == pytest.approx(1.0)
    coronal = planes.chunk(CORONAL, 3).planes[0]
    assert coronal[::-1, 40].tolist() == [10 * mm for mm in range(13)]


def test_a_damaged_slice_says_so_and_the_others_stay(tmp_path: Path) -> None:
    paths = write_original(tmp_path, 1)
    planes = planes_of(tmp_path)
    truncate(paths[3])
    chunk = planes.chunk(AXIAL, 0)
    assert chunk.faults == {3: "the file ends before its pixels do"}
    assert (chunk.planes[3] == PADDING).all()
    assert np.array_equal(chunk.planes[4], body_hu(4))


def test_fractional_hu_are_shown_in_stated_steps() -> None:
    image_hu = np.linspace(-1000.0, 3000.0, 2 * 3 * 4, dtype=np.float32).reshape(2, 3, 4)
    volume = Volume(
        image_hu, np.ones((2, 3, 4), bool), np.eye(4), np.array([[0, 0, 0], [0, 0, 1.0]])
    )
    planes = planes_of_volume(volume)
    shown = planes.chunk(AXIAL, 0).planes * planes.hu_step
    assert np.abs(shown - image_hu).max() <= planes.hu_step / 2


def test_there_are_no_planes_beyond_the_last(tmp_path: Path) -> None:
    write_original(tmp_path, 1)
    planes = planes_of(tmp_path)
    assert len(planes.chunk(AXIAL, SLICES // CHUNK - 1).planes) == CHUNK
    for number in (-1, SLICES // CHUNK):
        with pytest.raises(IndexError):
            planes.chunk(AXIAL, number)
