"""Hounsfield units against attenuation, and windows."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.core.units import (
    AIR_HU,
    LOWEST_CT_HU,
    MU_WATER_PER_MM,
    TISSUE_RANGES_HU,
    Window,
    hu_to_mu_per_mm,
    mu_per_mm_to_hu_difference,
)


def test_water_attenuates_as_water_and_air_not_at_all() -> None:
    mu = hu_to_mu_per_mm(np.array([0.0, -1000.0, 1000.0]))
    np.testing.assert_allclose(mu, [MU_WATER_PER_MM, 0, 2 * MU_WATER_PER_MM])


def test_water_is_that_of_70_kev() -> None:
    # NIST XCOM: 0.1929 / cm. A tenfold slip of units would still pass every round trip.
    assert pytest.approx(0.1929, rel=0.01) == MU_WATER_PER_MM * 10


def test_attenuation_is_never_negative() -> None:
    below_air = hu_to_mu_per_mm(np.array([-1001.0, -1024.0, -3000.0, -32768.0]))
    assert (below_air == 0).all()


def test_differences_make_the_round_trip() -> None:
    image_hu = np.linspace(-1000, 30000, 500)
    difference = hu_to_mu_per_mm(image_hu) - MU_WATER_PER_MM
    np.testing.assert_allclose(mu_per_mm_to_hu_difference(difference), image_hu, atol=1e-8)


def test_single_precision_stays() -> None:
    assert hu_to_mu_per_mm(np.zeros(3, dtype=np.float32)).dtype == np.float32


def test_air_with_its_noise_is_a_measurement_down_to_the_lowest_stored_value() -> None:
    # PS3.3 C.8.2.1: 12 bits stored, and every CT scanner's rescale intercept of -1024.
    assert LOWEST_CT_HU == -1024 < AIR_HU


def test_window_limits() -> None:
    window = Window(-600, 1500)
    assert (window.low_hu, window.high_hu) == (-1350, 150)


def test_tissue_classes_do_not_overlap() -> None:
    limits = [limit for tissue in TISSUE_RANGES_HU.values() for limit in tissue]
    assert limits == sorted(limits)
