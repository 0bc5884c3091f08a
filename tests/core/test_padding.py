"""Padding without a header: pieces at the border, never noise, never streaks."""

from __future__ import annotations

import numpy as np
import pytest
from helpers.body import body_hu, outside_circle

from pipeline.core.padding import blurred_padding, padding_mask


@pytest.mark.parametrize("fill_hu", [-3024, -2000, -1500, -1100])
def test_what_fills_the_outside_of_the_circle_is_padding(fill_hu):
    image_hu, outside = body_hu()[0], outside_circle()
    image_hu[outside] = fill_hu
    np.testing.assert_array_equal(padding_mask(image_hu), outside)


def test_two_fills_and_no_numbers_are_padding():
    image_hu = body_hu()[0]
    expected = np.zeros(image_hu.shape, bool)
    expected[:10, :10] = expected[:, 60:] = expected[30, 30] = True
    image_hu[:10, :10], image_hu[:, 60:], image_hu[30, 30] = -3024, -2048, np.nan
    np.testing.assert_array_equal(padding_mask(image_hu), expected)


def test_a_fill_inside_of_the_image_is_padding_if_it_is_one_value():
    image_hu = body_hu()[0]
    image_hu[20:30, 20:30] = -2000
    assert padding_mask(image_hu).sum() == 100


@pytest.mark.parametrize("noise_hu", [30, 100])
def test_noise_in_air_is_measured(noise_hu):
    """Scanners with 16 bits write it down to whatever it is."""
    noise = np.random.default_rng(0).normal(0, noise_hu, (512, 512))
    image_hu = (noise - 1000).astype(np.float32)
    assert (image_hu < -1024).mean() > 0.2
    assert not padding_mask(image_hu).any()


def test_a_dark_streak_beside_metal_is_measured():
    image_hu = body_hu()[0]
    image_hu[28:36, 20:44] = np.linspace(-2200, -1100, 8)[:, None]
    assert not padding_mask(image_hu).any()
    assert not blurred_padding(image_hu).any()


@pytest.mark.parametrize("fill_hu", [-3024, -2000, -1500])
def test_after_loss_padding_ends_half_way_to_air(fill_hu):
    """Rings beside the rim are as low as the padding's own error, and are air."""
    image_hu, outside = body_hu(side=256)[0], outside_circle(256)
    image_hu[outside] = fill_hu
    noise = np.random.default_rng(0).normal(0, 1, image_hu.shape)
    lossy_hu = (image_hu + noise * 0.06 * (-1000 - fill_hu)).astype(np.float32)
    np.testing.assert_array_equal(blurred_padding(lossy_hu), outside)


def test_a_slice_without_padding_has_none():
    assert not padding_mask(body_hu()[0]).any()
    assert not blurred_padding(body_hu()[0]).any()
