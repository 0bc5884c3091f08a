"""Masks onto their image: exactly on the same grid, else in mm why not; and label files out."""

from __future__ import annotations

from dataclasses import replace

import nibabel
import numpy as np
import pytest
import SimpleITK
from helpers.images import volume_of
from helpers.labels import SHAPE, even_volume, nifti_labels, structures

from pipeline.core.errors import LdctError
from pipeline.core.refusals import Unreadable
from pipeline.dicom.read.series import find_series
from pipeline.labels.files import names_in, read_mask, write_labels
from pipeline.labels.grid import LabelGrid, place_on, resampled

#: (column, row, slice) axes in LPS: upright, turned about the body, and of a tilted gantry.
AXES = {
    "upright": np.diag([0.7, 0.8, 2.5]),
    "oblique": np.array([[0.6, -0.5, 0.1], [0.3, 0.7, 0.2], [0.1, 0.0, 2.4]]),
    "tilted": np.array([[0.7, 0, 0], [0, 0.759, 0], [0, -0.254, 2.5]]),
}


def affine_of(name: str = "upright", origin=(-120.5, -80.25, 33.0)) -> np.ndarray:
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = AXES[name], origin
    return affine


def grid_of(name: str = "upright") -> LabelGrid:
    return LabelGrid.even(SHAPE, affine_of(name))


def turned(labels: np.ndarray, affine: np.ndarray, order: tuple, flips: tuple):
    """The same labels in the same places with their axes in another order and direction."""
    for axis in flips:
        affine = affine.copy()
        affine[:3, 3] += affine[:3, axis] * (labels.shape[2 - axis] - 1)
        affine[:3, axis] *= -1
        labels = np.flip(labels, 2 - axis)
    moved = affine.copy()
    moved[:3, :3] = affine[:3, list(order)]
    return labels.transpose([2 - axis for axis in reversed(order)]), moved


@pytest.mark.parametrize("name", AXES)
@pytest.mark.parametrize(
    ("order", "flips"),
    [
        ((0, 1, 2), ()),
        ((0, 1, 2), (0, 1, 2)),
        ((2, 0, 1), (0,)),
        ((1, 0, 2), (2,)),
        ((2, 1, 0), (0, 1)),
    ],
)
def test_a_mask_of_the_same_grid_maps_exactly_whatever_its_axes(tmp_path, name, order, flips):
    expected = structures().labels
    labels, affine = turned(expected, affine_of(name), order, flips)
    found = read_mask(nifti_labels(tmp_path / "a.nii.gz", labels, affine), grid_of(name))
    np.testing.assert_array_equal(found.labels, expected)
    assert found.labels.dtype == np.uint8
    assert "warnings" not in found.source


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz", ".nrrd", ".mha"])
def test_labels_written_come_back_with_their_names(tmp_path, suffix):
    volume = even_volume(affine_of("oblique"))
    path = tmp_path / f"labels{suffix}"
    for _ in range(2):  # the same file again is harmless
        write_labels(structures(), LabelGrid.of_volume(volume), path)
    found = read_mask(path, LabelGrid.of_volume(volume))
    np.testing.assert_array_equal(found.labels, structures().labels)
    if suffix != ".mha":
        assert found.names == structures().names


@pytest.mark.parametrize("suffix", [".nii.gz", ".nrrd", ".mha"])
def test_other_programs_find_the_labels_in_the_same_place(tmp_path, suffix):
    """A voxel's patient coordinates by ITK and nibabel, which know nothing of ours."""
    labels = structures().labels
    affine = affine_of()
    path = tmp_path / f"labels{suffix}"
    write_labels(structures(), LabelGrid.of_volume(even_volume(affine)), path)
    image = SimpleITK.ReadImage(str(path))
    for index in np.argwhere(labels)[::97].tolist():
        place_mm = affine @ [*index[::-1], 1]
        at = image.TransformPhysicalPointToIndex(place_mm[:3].tolist())
        assert image[at] == labels[tuple(index)]
    assert image.GetPixelID() == SimpleITK.sitkUInt8
    if suffix == ".nii.gz":
        np.testing.assert_allclose(
            nibabel.load(path).affine, np.diag([-1, -1, 1, 1]) @ affine, atol=1e-4
        )


def test_overlapping_structures_fit_no_label_file(tmp_path):
    labels = replace(structures(), names={2: "a", 5: "b"}, overlaps={9: (2, 5)})
    with pytest.raises(ValueError, match="overlap"):
        write_labels(labels, LabelGrid.of_volume(even_volume(affine_of())), tmp_path / "a.nii")
    assert not list(tmp_path.iterdir())


def test_uneven_slices_fit_no_label_file(tmp_path):
    volume = even_volume(affine_of())
    volume.slice_origins_mm[3, 2] += 0.4
    with pytest.raises(LdctError, match=r"0\.40 mm off an even grid"):
        write_labels(structures(), LabelGrid.of_volume(volume), tmp_path / "a.nii")


@pytest.mark.parametrize("axis", range(3))
def test_a_mask_three_millimetres_off_is_refused_and_reported(tmp_path, axis):
    affine = affine_of("tilted")
    affine[axis, 3] += 3.0
    path = nifti_labels(tmp_path / "a.nii", structures().labels, affine)
    with pytest.raises(Unreadable, match=r"labels 3\.0 mm off the image's grid"):
        read_mask(path, grid_of("tilted"))


def test_a_mask_moved_by_a_whole_slice_is_refused(tmp_path):
    """Nothing in the voxels could show it."""
    affine = affine_of()
    affine[2, 3] += 2.5
    path = nifti_labels(tmp_path / "a.nii", structures().labels, affine)
    with pytest.raises(Unreadable, match=r"labels 2\.5 mm off"):
        read_mask(path, grid_of())


def test_a_mask_beside_the_image_is_refused_with_its_distance(tmp_path):
    affine = affine_of()
    affine[0, 3] += SHAPE[2] * 0.7 + 12.0
    path = nifti_labels(tmp_path / "a.nii", structures().labels, affine)
    for resample in (False, True):
        with pytest.raises(Unreadable, match=r"do not overlap.* 12\.0 mm beside"):
            read_mask(path, grid_of(), resample=resample)


def test_a_mask_of_other_spacing_is_refused_with_both_grids(tmp_path):
    affine = affine_of() @ np.diag([2, 2, 1, 1])
    path = nifti_labels(tmp_path / "a.nii", structures().labels[:, ::2, ::2], affine)
    with pytest.raises(Unreadable, match=r"8 x 20 x 18 voxels of 2\.5 x 1\.6 x 1\.4 mm, where"):
        read_mask(path, grid_of())


def test_even_labels_do_not_fit_uneven_slices(tmp_path):
    volume = even_volume(affine_of())
    volume.slice_origins_mm[4, 2] += 1.1
    path = nifti_labels(tmp_path / "a.nii", structures().labels, affine_of())
    with pytest.raises(Unreadable, match=r"labels 1\.1 mm off"):
        read_mask(path, LabelGrid.of_volume(volume))


def test_resampling_takes_the_voxel_that_a_place_lies_in(tmp_path):
    """Labels of half the voxels: each image voxel takes that of the coarse one around it."""
    coarse = np.random.default_rng(1).integers(0, 4, (SHAPE[0], 20, 18)).astype(np.uint8)
    affine = affine_of() @ np.diag([2, 2, 1, 1])
    affine[:3, 3] += [0.35, 0.4, 0]  # the middle of two by two voxels
    path = nifti_labels(tmp_path / "a.nii", coarse, affine)
    found = read_mask(path, grid_of(), resample=True)
    np.testing.assert_array_equal(found.labels, coarse.repeat(2, axis=1).repeat(2, axis=2))
    assert found.source["warnings"] == [
        "resampled from 8 x 20 x 18 voxels of 2.5 x 1.6 x 1.4 mm, nearest neighbour"
    ]


def test_resampling_between_oblique_grids_agrees_with_itk():
    """ITK's nearest neighbour, on axes that share no direction."""
    labels = structures().labels
    own, image = grid_of("upright"), grid_of("oblique")
    reference = SimpleITK.Image(SHAPE[2], SHAPE[1], SHAPE[0], SimpleITK.sitkUInt8)
    source = SimpleITK.GetImageFromArray(labels)
    transform = SimpleITK.AffineTransform(3)
    to_source = np.linalg.inv(own.affine_lps) @ image.affine_lps
    transform.SetMatrix(to_source[:3, :3].ravel().tolist())
    transform.SetTranslation(to_source[:3, 3].tolist())
    by_itk = SimpleITK.GetArrayFromImage(
        SimpleITK.Resample(source, reference, transform, SimpleITK.sitkNearestNeighbor)
    )
    found = resampled(labels, own, image).values
    assert found.any()
    assert (found != by_itk).mean() < 1e-3  # where a place is just between two voxels


def test_resampling_shows_structures_that_it_lost():
    labels = np.zeros(SHAPE, np.uint8)
    labels[:, 10:30, 10:30] = 1
    labels[3, 0, 1] = 2
    coarse = LabelGrid.even((8, 10, 9), affine_of() @ np.diag([4, 4, 1, 1]))
    placed = place_on(labels, grid_of(), coarse, resample=True)
    assert placed.warning.endswith("nearest neighbour; nothing is left of values 2")


def test_labels_beyond_the_image_that_show_nothing_in_it_are_refused():
    labels = np.zeros(SHAPE, np.uint8)
    labels[0, 0, 0] = 1
    moved = affine_of()
    moved[:3, 3] += [5.0, 5.0, 0]
    with pytest.raises(Unreadable, match="no label lies within"):
        place_on(labels, grid_of(), LabelGrid.even(SHAPE, moved), resample=True)


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        (np.full(SHAPE, -1, np.int16), "whole numbers from 0"),
        (np.full(SHAPE, 0.5, np.float32), "are not"),
        (np.full(SHAPE, np.nan, np.float32), "whole numbers from 0"),
        (np.full(SHAPE, 1e6, np.float32), "whole numbers from 0"),
        (np.arange(np.prod(SHAPE)).reshape(SHAPE).astype(np.int32), "grey values"),
        (np.zeros(SHAPE, np.uint8), "no voxel is labelled"),
    ],
    ids=["negative", "fractions", "not a number", "huge", "grey", "empty"],
)
def test_values_that_are_no_labels_are_refused(tmp_path, values, reason):
    path = nifti_labels(tmp_path / "a.nii", values, affine_of())
    with pytest.raises(Unreadable, match=reason):
        read_mask(path, grid_of())


def test_labels_in_floating_point_and_above_255_are_labels(tmp_path):
    labels = structures().labels.astype(np.float32) * 100
    found = read_mask(nifti_labels(tmp_path / "a.nii", labels, affine_of()), grid_of())
    assert found.labels.dtype == np.uint16
    assert found.names == {200: "label 200", 500: "label 500"}


def test_names_of_the_caller_serve_where_the_file_has_none(tmp_path):
    path = nifti_labels(tmp_path / "a.nii", structures().labels, affine_of())
    found = read_mask(path, grid_of(), names={5: "liver"})
    assert found.names == {2: "label 2", 5: "liver"}


def test_a_label_table_that_declares_entities_is_refused(tmp_path):
    image = nibabel.Nifti1Image(structures().labels.T, affine_of())
    evil = b'<!DOCTYPE x [<!ENTITY a "b">]><LabelTable><Label Key="1">&a;</Label></LabelTable>'
    image.header.extensions.append(nibabel.nifti1.Nifti1Extension("ignore", evil))
    nibabel.save(image, tmp_path / "a.nii")
    with pytest.raises(Unreadable, match="document type"):
        names_in(tmp_path / "a.nii")


@pytest.mark.parametrize("name", ["torso-siemens", "totalseg"])
def test_totalsegmentator_names_come_with_the_file(test_data, name):
    names = names_in(test_data / "volumes" / f"{name}-labels.nii.gz")
    assert len(names) == 117
    assert (names[1], names[5], names[117]) == ("spleen", "liver", "costal_cartilages")


def test_real_labels_lie_on_the_organs_of_their_series(test_data):
    """Its rows and slices run the other way; liver, bone and lung say whether they were turned."""
    from pipeline.dicom.read.ingest_options import IngestOptions
    from pipeline.dicom.read.volume import read_volume

    found = find_series(
        test_data / "ct" / "torso-siemens", intake=IngestOptions(unidentified="folder")
    )
    reading = read_volume(found.series[0])
    labels = read_mask(
        test_data / "volumes" / "torso-siemens-labels.nii.gz", LabelGrid.of_series(reading.series)
    )
    by_name = {name: value for value, name in labels.names.items()}
    image_hu = reading.volume.image_hu
    for name, low, high in (("liver", 0, 150), ("aorta", 0, 350), ("vertebrae_T12", 100, 600)):
        assert low < float(np.median(image_hu[labels.mask(by_name[name])])) < high, name
    assert np.median(image_hu[labels.mask(by_name["liver"])]) > np.median(
        np.flip(image_hu, 1)[labels.mask(by_name["liver"])]
    )


def test_a_grid_is_that_of_its_volume():
    volume = volume_of(np.zeros((3, 4, 5), np.float32), pixel_mm=(0.8, 0.7))
    grid = LabelGrid.of_volume(volume)
    np.testing.assert_allclose(grid.spacing_mm, volume.spacing_mm)
    numbers, apart_mm, places = grid.in_slices(np.array([[1.4, 2.4, 4.3]]))
    assert numbers.tolist() == [2]
    np.testing.assert_allclose(apart_mm, [0.3])
    np.testing.assert_allclose(places, [[2, 3]])
