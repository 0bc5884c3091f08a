"""Bias, contrast over noise and uniformity of images made to have known ones."""

from __future__ import annotations

import json

import numpy as np
import pytest
from helpers.images import BONE_HU, FAT_HU, LUNG_HU, SOFT_TISSUE_HU, body_slice
from numpy.typing import NDArray

from pipeline.core.errors import LdctError
from pipeline.core.masks import body_mask
from pipeline.quality.hu_accuracy import air_mask, contrast_to_noise, tissue_bias, uniformity

SIZE = 192


def series(slices: int = 3) -> tuple[NDArray, NDArray, NDArray]:
    """(target, body, valid), with a padded corner that holds air."""
    target = np.stack([body_slice(SIZE)] * slices)
    body = np.stack([body_mask(image) for image in target])
    valid = np.ones(target.shape, dtype=bool)
    valid[:, :20, :20] = False
    return target, body, valid


def test_each_tissue_s_own_bias_is_found() -> None:
    target, body, valid = series()
    planted = {LUNG_HU: 30.0, FAT_HU: -7.0, SOFT_TISSUE_HU: 1.5, BONE_HU: -50.0, -1000.0: 4.0}
    image = target.copy()
    for hu, error in planted.items():
        image[target == hu] += error
    image[~valid] += 500
    noise = np.random.default_rng(0).standard_normal(image.shape) * 10
    found = tissue_bias((image + noise).astype(np.float32), target, body=body, valid=valid)
    expected = {"lung": 30.0, "fat": -7.0, "soft_tissue": 1.5, "bone": -50.0, "air": 4.0}
    assert set(found) == set(expected)
    for name, error in expected.items():
        assert found[name].voxels > 500, name
        # Where a class meets another, smoothing lends it a few of the other's voxels.
        assert found[name].bias_hu == pytest.approx(error, abs=0.25 * abs(error) + 0.8), name
    assert found["air"].bias_hu == pytest.approx(4.0, abs=0.3)


def test_a_class_without_voxels_has_no_bias() -> None:
    water = np.zeros((1, 32, 32), dtype=np.float32)
    everywhere = np.ones(water.shape, dtype=bool)
    found = tissue_bias(water + 2, water, body=everywhere, valid=everywhere)
    assert found["air"].to_dict() == {"bias_hu": None, "voxels": 0}
    assert found["soft_tissue"].to_dict() == {"bias_hu": 2.0, "voxels": 32 * 32}


def test_air_keeps_away_from_the_body_and_out_of_the_padding() -> None:
    target, _, valid = series(1)
    air = air_mask(target[0], valid[0])
    assert not air[:20, :20].any()
    assert (target[0][air] == -1000).all()
    near = body_mask(target[0])
    for axis in (0, 1):
        for shift in (-3, 3):
            assert not (air & np.roll(near, shift, axis=axis)).any()
    assert air[-5, -5]


def test_contrast_to_noise_has_the_planted_value() -> None:
    """A rod of 12 HU in white noise of 8 HU: 1.5."""
    axis = np.arange(128) - 63.5
    rod = 12.0 * (np.hypot(axis[None] - 20, axis[:, None]) <= 6)
    image = rod + 50 + 8 * np.random.default_rng(1).standard_normal((60, 128, 128))
    found = contrast_to_noise(
        image,
        centre_mm=(10.0, 0.0),
        radius_mm=3.0,
        background_mm=[(-10.0, 0.0), (0.0, 15.0)],
        pixel_mm=0.5,
    )
    assert found.contrast_hu == pytest.approx(12.0, abs=0.4)
    assert found.noise_hu == pytest.approx(8.0, rel=0.02)
    assert found.cnr == pytest.approx(1.5, rel=0.04)
    assert found.slices == 60
    json.dumps(found.to_dict(), allow_nan=False)
    flat = contrast_to_noise(
        rod[None], centre_mm=(10.0, 0.0), radius_mm=3.0, background_mm=[(-10.0, 0.0)], pixel_mm=0.5
    )
    assert flat.cnr is None
    with pytest.raises(LdctError, match="fewer than 2"):
        contrast_to_noise(
            image, centre_mm=(0, 0), radius_mm=0.2, background_mm=[(5, 5)], pixel_mm=0.5
        )


def test_uniformity_tells_cupping_and_where_the_noise_is() -> None:
    axis = (np.arange(200) - 99.5) * 1.0
    radius = np.hypot(axis[None], axis[:, None])
    deviation = np.where(radius < 40, 10.0, 6.0)
    noise = np.random.default_rng(2).standard_normal((40, 200, 200)) * deviation
    found = uniformity(
        noise + np.where(radius < 40, -5.0, 0.0) + 0.1 * axis,
        periphery_mm=[(70, 0), (-70, 0), (0, 70), (0, -70)],
        pixel_mm=1.0,
        region_mm=20.0,
    )
    assert found.centre_hu == pytest.approx(-5.0, abs=0.3)
    assert found.periphery_hu == pytest.approx([7.0, -7.0, 0.0, 0.0], abs=0.3)
    assert found.worst_difference_hu == pytest.approx(12.0, abs=0.4)
    assert found.noise_centre_hu == pytest.approx(10.0, rel=0.03)
    assert found.noise_ratio == pytest.approx(0.6, rel=0.03)
    assert found.region_pixels == 20
    json.dumps(found.to_dict(), allow_nan=False)
