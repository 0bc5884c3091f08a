"""Values that are no HU are told by air and tissue; a lack of air alone tells nothing."""

from __future__ import annotations

import numpy as np
import pytest
from helpers.body import body_hu, inside_hu, outside_circle, wrapped

from pipeline.core import hu_scale
from pipeline.core.hu_scale import values_of


def fault_of(image_hu, valid=None) -> str:
    """By the counts of all voxels, and by those of as few slices as it takes."""
    valid = np.ones(image_hu.shape, bool) if valid is None else valid
    found = values_of(image_hu, valid).fault()
    assert hu_scale.fault_of(image_hu, valid) == found
    return found


@pytest.mark.parametrize("air", [slice(0, 1), slice(1, 2), slice(5, 6)])
def test_a_slice_of_air_is_enough_wherever_it_is(air):
    """Beside slices that lost their intercept: of all voxels 2 % are gas of many values."""
    raw = np.concatenate([inside_hu() + 1024] * 3)[:6].astype(np.float32)
    assert "intercept was lost" in fault_of(raw)
    raw[air] = np.random.default_rng(5).normal(-950, 20, raw[air].shape)
    assert fault_of(raw) == ""


def test_only_as_many_slices_are_counted_as_it_takes(monkeypatch):
    counted = []
    count = hu_scale.ValueCounts.add
    monkeypatch.setattr(
        hu_scale.ValueCounts, "add", lambda self, *plane: (counted.append(1), count(self, *plane))
    )
    image_hu = np.random.default_rng(6).normal(-800, 100, (50, 16, 16)).astype(np.float32)
    assert hu_scale.fault_of(image_hu, np.ones(image_hu.shape, bool)) == ""
    assert len(counted) < 5


@pytest.mark.parametrize("noise_hu", [5, 30, 90])
@pytest.mark.parametrize("image", [body_hu, inside_hu])
def test_sound_values_have_no_fault(image, noise_hu):
    image_hu = image() + np.random.default_rng(2).normal(0, noise_hu, image().shape)
    assert fault_of(image_hu.astype(np.float32)) == ""


@pytest.mark.parametrize("noise_hu", [5, 30, 90])
@pytest.mark.parametrize("intercept", [1024, 1000])
@pytest.mark.parametrize("image", [body_hu, inside_hu])
def test_a_lost_intercept_is_told(image, intercept, noise_hu):
    noise = np.random.default_rng(2).normal(0, noise_hu, image().shape)
    raw = (image() + noise + intercept).astype(np.float32)
    assert "intercept was lost" in fault_of(raw)
    assert "intercept was lost" in fault_of(raw.clip(0, 4095))
    raw[:, outside_circle()] = -1024  # one constant is no air, however much of it there is
    assert "intercept was lost" in fault_of(raw)


def test_a_wrapped_sign_is_told():
    assert "stored as unsigned" in fault_of(wrapped(body_hu()))


def test_metal_in_a_field_of_view_without_air_is_no_wrapped_sign():
    image_hu = inside_hu()
    image_hu[:, 20:40, 20:40] = 3071
    image_hu[:, 50:] = np.random.default_rng(3).normal(-2, 8, image_hu[:, 50:].shape)
    assert fault_of(image_hu) == ""


def test_grey_levels_are_told():
    picture = np.interp(body_hu(), [-160, 240], [0, 255]).astype(np.float32)
    assert "one black" in fault_of(picture)


def test_an_organ_alone_is_not_told():
    """All of it above 0 HU, as a cut-out of a contrasted liver is."""
    assert fault_of(np.random.default_rng(4).normal(110, 15, (3, 64, 64)).astype(np.float32)) == ""


def test_padding_and_a_few_voxels_say_nothing():
    raw = body_hu() + 1024
    assert fault_of(raw, np.zeros(raw.shape, bool)) == ""
    assert fault_of(raw[:, :10, :10]) == ""


def test_remarks_name_metal_beyond_the_ct_scale():
    image_hu = body_hu()
    valid = np.ones(image_hu.shape, bool)
    assert values_of(image_hu, valid).remarks() == []
    image_hu[0, 30, 30:33] = 12000
    (remark,) = values_of(image_hu, valid).remarks()
    assert remark.startswith("3 voxels above 3071 HU")


def test_no_real_series_has_a_fault_and_each_has_one_when_shifted(test_data):
    from pipeline.dicom.read.series import find_series
    from pipeline.dicom.read.volume import read_volume

    for folder in ("ct/head-ge-tilted", "ct/torso-siemens", "phantom/uniform-ge-hd750"):
        for series in find_series(test_data / folder).series:
            volume = read_volume(series).volume
            assert fault_of(volume.image_hu, volume.valid) == "", folder
            if folder.startswith("ct/"):
                assert fault_of(volume.image_hu + 1024, volume.valid), folder
                assert fault_of(wrapped(volume.image_hu), volume.valid), folder
