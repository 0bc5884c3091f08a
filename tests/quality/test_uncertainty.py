"""The predicted spread of a denoiser's errors: intervals hold what they say, on noise whose truth
is known, whatever its level; and nothing is uncertain where nothing was changed."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage

from pipeline.core.types import ImageHU
from pipeline.quality.uncertainty import (
    BORDERS_HU,
    GROUPS,
    Calibration,
    factor_95,
    half_widths_hu,
    voxel_traits,
)
from pipeline.quality.uncertainty_fit import Drawn, calibrate, draw, held

SIDE = 120
RATIO = 4.0
#: HU of the middle of each group.
MIDDLES_HU = (-800.0, -400.0, -90.0, 40.0, 190.0, 600.0)


@dataclasses.dataclass
class Scan:
    """An image in six bands, one for each group, at a dose and at four times that dose, and what an
    imperfect denoiser makes of the lower one."""

    input_hu: ImageHU
    output_hu: ImageHU
    target_hu: ImageHU


def scan(seed: int, noise_hu: float, *, shift_hu: float = 0.0) -> Scan:
    """noise_hu: of the lower dose in the first column; it rises threefold towards the last."""
    rng = np.random.default_rng(seed)
    clean = np.repeat(np.repeat(np.array(MIDDLES_HU), SIDE // 6)[:, None], SIDE, axis=1)
    level = noise_hu * np.linspace(1, 3, SIDE)
    noise = rng.standard_normal((SIDE, SIDE)) * level
    own = noise / RATIO + rng.standard_normal((SIDE, SIDE)) * level * np.sqrt(3 / 16)
    estimate = noise + ndimage.gaussian_filter(rng.standard_normal((SIDE, SIDE)), 2) * level
    output = clean + noise - (1 - 1 / RATIO) * estimate + shift_hu
    return Scan(*(image.astype(np.float32) for image in (clean + noise, output, clean + own)))


def drawn(one: Scan, ratio: float = RATIO) -> list[Drawn]:
    inside = np.ones((SIDE, SIDE), bool)
    traits = voxel_traits(one.input_hu, one.output_hu, ratio)
    rng = np.random.default_rng(0)
    return draw([traits], [one.output_hu - one.target_hu], [inside], ratio, rng)


@pytest.fixture(scope="module")
def calibration() -> Calibration:
    scans = {f"s-{number}": drawn(scan(number, 20.0 + 5 * number)) for number in range(6)}
    return calibrate(scans, "w")


def band(group: int) -> NDArray[np.bool_]:
    """A group's rows away from its borders."""
    mask = np.zeros((SIDE, SIDE), bool)
    mask[group * SIDE // 6 + 5 : (group + 1) * SIDE // 6 - 5] = True
    return mask


@pytest.mark.parametrize("noise_hu", [12.0, 60.0])
def test_intervals_hold_what_they_say_at_levels_that_calibration_did_not_see(
    calibration: Calibration, noise_hu: float
) -> None:
    new = scan(99, noise_hu)
    widths = half_widths_hu(new.input_hu, new.output_hu, RATIO, calibration)
    everywhere = np.ones((SIDE, SIDE), bool)
    narrow, wide = held(new.output_hu - new.target_hu, widths, everywhere)
    assert narrow == pytest.approx(0.68, abs=0.03)
    assert wide == pytest.approx(0.95, abs=0.015)


def test_a_voxel_is_as_uncertain_as_the_noise_around_it(calibration: Calibration) -> None:
    """The noise rises threefold from the first column to the last: so does the error."""
    new = scan(99, 30.0)
    narrow_hu, _ = half_widths_hu(new.input_hu, new.output_hu, RATIO, calibration)
    error_hu = np.abs(new.output_hu - new.target_hu)
    for columns in (slice(0, 30), slice(90, 120)):
        share = np.mean(error_hu[:, columns] <= narrow_hu[:, columns])
        assert share == pytest.approx(0.68, abs=0.04)
    assert np.median(narrow_hu[:, 100:]) > 1.8 * np.median(narrow_hu[:, :20])


def test_a_bias_makes_intervals_wider_not_wrong() -> None:
    """Conformal quantiles are of the error itself, whatever its reason."""
    scans = {f"s-{n}": drawn(scan(n, 30.0, shift_hu=20.0)) for n in range(4)}
    biased = calibrate(scans, "w")
    new = scan(98, 30.0, shift_hu=20.0)
    widths = half_widths_hu(new.input_hu, new.output_hu, RATIO, biased)
    narrow, _ = held(new.output_hu - new.target_hu, widths, np.ones((SIDE, SIDE), bool))
    assert narrow == pytest.approx(0.68, abs=0.03)


def test_groups_have_widths_of_their_own() -> None:
    """Of bone that errs three times as much, the interval is three times as wide."""
    plain, worse = scan(1, 30.0), scan(2, 30.0)
    bone = band(GROUPS.index("bone"))
    error = worse.output_hu - worse.target_hu
    is_bone = voxel_traits(worse.input_hu, worse.output_hu, RATIO).group == GROUPS.index("bone")
    worse.target_hu = np.where(is_bone, worse.output_hu - 3 * error, worse.target_hu)
    found = calibrate({"a": drawn(worse)}, "w")
    narrow_hu, _ = half_widths_hu(plain.input_hu, plain.output_hu, RATIO, found)
    reference, _ = half_widths_hu(
        plain.input_hu, plain.output_hu, RATIO, calibrate({"a": drawn(scan(2, 30.0))}, "w")
    )
    times = narrow_hu / reference
    assert np.median(times[bone]) == pytest.approx(3, rel=0.15)
    assert np.median(times[band(0)]) == pytest.approx(1, rel=0.02)


def test_what_calibration_never_saw_is_not_extrapolated(calibration: Calibration) -> None:
    """Beside a place that is not changed at all, such as padding, features are far out."""
    new = scan(97, 30.0)
    new.output_hu[:, :60] = new.input_hu[:, :60]
    narrow_hu, _ = half_widths_hu(new.input_hu, new.output_hu, RATIO, calibration)
    usual_hu, _ = half_widths_hu(scan(97, 30.0).input_hu, scan(97, 30.0).output_hu, 4, calibration)
    assert narrow_hu.max() < 2 * usual_hu.max()


def test_nothing_is_uncertain_where_nothing_changes(calibration: Calibration) -> None:
    image_hu = scan(3, 20.0).input_hu
    for widths in half_widths_hu(image_hu, image_hu, 1.0, calibration):
        assert not widths.any()


def test_an_interval_of_95_is_wider_and_between_two_ratios_lies_between() -> None:
    scans = {"a": drawn(scan(1, 30.0), 2.0) + drawn(scan(1, 30.0), 8.0)}
    found = calibrate(scans, "w")
    assert found.dose_ratios == (2.0, 8.0)
    for group in GROUPS:
        low, high = (factor_95(ratio, found)[group] for ratio in (2.0, 8.0))
        assert min(low, high) <= factor_95(4.0, found)[group] <= max(low, high)
        assert min(low, high) > 1.5
        assert factor_95(20.0, found)[group] == high, "beyond the last ratio its own holds"


def test_a_group_that_no_series_has_is_refused() -> None:
    with pytest.raises(ValueError, match="bone: in no series"):
        calibrate({"a": [one for one in drawn(scan(1, 30.0)) if one.group != "bone"]}, "w")


def test_a_calibration_is_read_as_it_was_written(calibration: Calibration) -> None:
    assert Calibration.from_dict(calibration.to_dict()) == calibration
    assert len(BORDERS_HU) == len(GROUPS) - 1
