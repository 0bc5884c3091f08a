"""Gaps filled, uneven steps evened, tilt taken out: where asked for, and stated."""

from __future__ import annotations

import numpy as np
import pytest
from helpers.dicom import only_series, write_series

from pipeline.core.units import AIR_HU
from pipeline.core.volume import Volume
from pipeline.dicom.read.ingest_options import IngestOptions
from pipeline.dicom.read.series import find_series
from pipeline.dicom.read.volume import read_volume
from pipeline.ingest.regrid import apply_intake, fill_gaps, resample_even, unshear


def volume_at(z_mm, *, shear=0.0, value=lambda x, y, z: x + 10 * y + 100 * z) -> Volume:
    """HU as a function of the place in mm, on 8 x 9 slices of 0.5 x 0.25 mm at these z."""
    z_mm = np.asarray(z_mm, dtype=float)
    origins = np.stack([np.zeros_like(z_mm), shear * z_mm, z_mm], axis=1)
    affine = np.diag([0.25, 0.5, 1, 1.0])
    affine[:3, 2] = (origins[-1] - origins[0]) / (len(z_mm) - 1)
    row, column = np.mgrid[:8, :9]
    image = np.stack(
        [value(column * 0.25 + o[0], row * 0.5 + o[1], o[2] + 0 * row) for o in origins]
    )
    return Volume(
        image_hu=image.astype(np.float32),
        valid=np.ones(image.shape, bool),
        affine_lps=affine,
        slice_origins_mm=origins,
        provenance={"source": "test"},
    )


def places(volume: Volume) -> np.ndarray:
    """LPS mm of every voxel, [slices, rows, columns, 3], by the affine."""
    slices, rows, columns = volume.image_hu.shape
    k, j, i = np.mgrid[:slices, :rows, :columns]
    index = np.stack([i, j, k, np.ones_like(i)], axis=-1)
    return (index @ volume.affine_lps.T)[..., :3]


def test_a_gap_is_filled_in_its_place_and_masked():
    whole, gapped = volume_at(np.arange(6) * 2.0), volume_at([0, 2, 8, 10])
    filled = fill_gaps(gapped)
    np.testing.assert_allclose(filled.image_hu[filled.valid], whole.image_hu[filled.valid])
    assert filled.valid.all(axis=(1, 2)).tolist() == [True, True, False, False, True, True]
    assert not filled.valid[2:4].any()
    np.testing.assert_allclose(filled.affine_lps, whole.affine_lps)
    np.testing.assert_allclose(filled.slice_origins_mm, whole.slice_origins_mm)
    assert filled.provenance["geometry"] == [
        "2 missing slices filled by linear interpolation, masked"
    ]


def test_measured_slices_pass_through_untouched():
    generator = np.random.default_rng(1)
    gapped = volume_at([0, 2, 6], value=lambda x, y, z: generator.normal(size=x.shape))
    np.testing.assert_array_equal(fill_gaps(gapped).image_hu[[0, 1, 3]], gapped.image_hu)


@pytest.mark.parametrize("z", [np.arange(5) * 1.5, [0, 1.14, 5.36, 12.74]])
def test_what_has_no_gap_is_left_alone(z):
    volume = volume_at(z)
    assert fill_gaps(volume) is volume


def test_a_single_slice_is_left_alone():
    pair = volume_at([0, 1])
    alone = Volume(pair.image_hu[:1], pair.valid[:1], pair.affine_lps, pair.slice_origins_mm[:1])
    for operation in (fill_gaps, resample_even, unshear):
        assert operation(alone) is alone


@pytest.mark.parametrize("shear", [0.0, 0.33])
def test_uneven_steps_become_even_and_hu_stay_in_their_place(shear):
    uneven = volume_at([0, 1.14, 5.36, 9.58, 16.96], shear=shear)
    evened = resample_even(uneven)
    steps = np.diff(evened.slice_origins_mm, axis=0)
    np.testing.assert_allclose(steps, steps[:1].repeat(len(steps), axis=0))
    where = places(evened)
    np.testing.assert_allclose(where[:, 0, 0], evened.slice_origins_mm, atol=1e-9)
    np.testing.assert_allclose(where[-1, 0, 0], uneven.slice_origins_mm[-1])
    x, y, z = np.moveaxis(where, -1, 0)
    np.testing.assert_allclose(evened.image_hu, x + 10 * y + 100 * z, rtol=1e-5, atol=1e-3)
    assert "resampled from steps of" in evened.provenance["geometry"][0]


def test_padding_never_leaks_into_what_is_interpolated():
    uneven = volume_at([0, 1, 4, 5])
    uneven.valid[1, 2:4] = False
    uneven.image_hu[1, 2:4] = AIR_HU
    evened = resample_even(uneven)
    x, y, z = np.moveaxis(places(evened), -1, 0)
    expected = (x + 10 * y + 100 * z).astype(np.float32)
    np.testing.assert_allclose(evened.image_hu[evened.valid], expected[evened.valid], rtol=1e-5)
    assert (evened.image_hu[~evened.valid] == AIR_HU).all()
    assert not evened.valid.all()


@pytest.mark.parametrize("shear", [0.33, -0.2])
def test_unshearing_leaves_every_hu_in_its_place(shear):
    tilted = volume_at(np.arange(7) * 1.5, shear=shear)
    upright = unshear(tilted)
    column, row, step = upright.affine_lps[:3, :3].T
    assert abs(step @ column) < 1e-9
    assert abs(step @ row) < 1e-9
    x, y, z = np.moveaxis(places(upright), -1, 0)
    expected = x + 10 * y + 100 * z
    inside = upright.valid
    np.testing.assert_allclose(upright.image_hu[inside], expected[inside], rtol=1e-4, atol=0.01)
    # A slice loses at most one row to the interpolation at its rims.
    assert inside.sum() >= 7 * 7 * 9
    assert (upright.image_hu[~inside] == AIR_HU).all()
    assert "unsheared" in upright.provenance["geometry"][0]


def test_an_upright_volume_is_left_alone():
    volume = volume_at([0, 2, 4])
    assert unshear(volume) is volume


def test_an_uneven_tilted_volume_is_not_unsheared_and_says_so():
    uneven = volume_at([0, 1, 5], shear=0.3)
    left = unshear(uneven)
    np.testing.assert_array_equal(left.image_hu, uneven.image_hu)
    assert "not unsheared" in left.provenance["geometry"][0]


def test_the_tilted_head_becomes_an_upright_even_volume(test_data):
    volume = read_volume(only_series(test_data / "ct" / "head-ge-tilted")).volume
    done = apply_intake(volume, IngestOptions(uneven="resample", tilt="unshear"))
    assert len(done.provenance["geometry"]) == 2
    _, row, step = done.affine_lps[:3, :3].T
    assert abs(step @ row) < 1e-6
    # The head is where it was: its centre in millimetres.
    centres = []
    for either in (volume, done):
        head = (either.image_hu > -300) & either.valid
        where = _where(either, head)
        weights = np.gradient(either.slice_origins_mm[:, 2])[np.nonzero(head)[0]]
        centres.append(np.average(where, axis=0, weights=weights))
    np.testing.assert_allclose(centres[0], centres[1], atol=0.5)


def _where(volume: Volume, mask: np.ndarray) -> np.ndarray:
    k, j, i = np.nonzero(mask)
    return volume.slice_origins_mm[k] + np.stack([i, j], axis=1) @ volume.affine_lps[:3, :2].T


def test_gaps_are_filled_on_the_way_into_a_volume(tmp_path):
    paths = write_series(tmp_path, 6)
    paths[2].unlink()
    intake = IngestOptions(gaps="fill")
    (series,) = find_series(tmp_path, intake=intake).series
    volume = apply_intake(read_volume(series).volume, intake)
    assert volume.image_hu.shape[0] == 6
    assert not volume.valid[2].any()
