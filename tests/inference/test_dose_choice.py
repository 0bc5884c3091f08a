"""How much dose is made up for: by the noise that is there, and never for a full dose."""

from __future__ import annotations

import numpy as np
import pytest
from helpers.images import volume_of
from numpy.typing import NDArray

from pipeline.config.dose import MAX_RATIO, DoseRequest
from pipeline.core.errors import ConfigError, LdctError
from pipeline.core.volume import Volume
from pipeline.inference.dose_choice import PER_LEVEL, choose_dose
from pipeline.physics.image_noise import FlatTissue, usual_noise_hu


def tissue(noise_hu: float, *, slices: int = 3, side: int = 128) -> Volume:
    """Water with white noise, 5 mm thick."""
    generator = np.random.default_rng(0)
    image_hu = generator.normal(40, noise_hu, (slices, side, side)).astype(np.float32)
    volume = volume_of(image_hu)
    volume.provenance["SliceThickness"] = 5.0
    return volume


def measured_hu(volume: Volume) -> float:
    found = FlatTissue.of(volume).noise(list(volume.image_hu))
    assert found is not None
    return found.noise_hu


def denoise(image_hu: NDArray[np.float32], ratio: float) -> NDArray[np.float32]:
    """Knows the anatomy, which is 40 HU."""
    return 40 + (image_hu - 40) / np.float32(ratio)


def test_a_ratio_is_taken_as_it_is() -> None:
    assert choose_dose(DoseRequest("ratio", 3), tissue(20), denoise).dose_ratio == 3


def test_a_usual_noise_is_left_alone() -> None:
    volume = tissue(20)
    found = FlatTissue.of(volume).noise(list(volume.image_hu))
    assert found is not None
    quiet = tissue(20 * usual_noise_hu(found.fineness, 5.0) / found.noise_hu)
    choice = choose_dose(DoseRequest(), quiet, denoise)
    assert choice.leaves_alone
    assert "nothing to make up for" in choice.why
    # A quarter of that dose has twice the noise.
    quarter = tissue(40 * usual_noise_hu(found.fineness, 5.0) / found.noise_hu)
    assert choose_dose(DoseRequest(), quarter, denoise).dose_ratio == pytest.approx(4, rel=0.02)


def test_the_usual_noise_grows_with_sharpness_and_falls_with_thickness() -> None:
    assert usual_noise_hu(1, 5) > usual_noise_hu(0, 5)
    assert usual_noise_hu(0, 1) > usual_noise_hu(0, 5)


@pytest.mark.parametrize("request_", [DoseRequest("noise", 8), DoseRequest("level", 3)])
def test_what_is_asked_for_is_left(request_: DoseRequest) -> None:
    volume = tissue(20)
    before = measured_hu(volume)
    choice = choose_dose(request_, volume, denoise)
    left = volume_of(np.stack([denoise(one, choice.dose_ratio) for one in volume.image_hu]))
    wanted = 8 if request_.by == "noise" else before * (1 - 3 * PER_LEVEL)
    assert measured_hu(left) == pytest.approx(wanted, rel=0.03)
    assert choice.noise_hu == pytest.approx(before)


def test_less_noise_than_asked_for_is_left_alone() -> None:
    assert choose_dose(DoseRequest("noise", 200), tissue(20), denoise).leaves_alone


def test_noise_out_of_reach_is_said() -> None:
    choice = choose_dose(DoseRequest("noise", 0.5), tissue(60), denoise)
    assert choice.dose_ratio == MAX_RATIO
    assert "leaves" in choice.why


def test_an_image_without_tissue_is_refused_with_the_remedy() -> None:
    air = tissue(20)
    air.image_hu[:] -= 1000
    with pytest.raises(LdctError, match="--dose-ratio"):
        choose_dose(DoseRequest(), air, denoise)


@pytest.mark.parametrize(
    ("by", "value"), [("ratio", 0.5), ("ratio", 50), ("noise", 0), ("level", 6), ("level", 2.5)]
)
def test_values_out_of_range_are_refused(by: str, value: float) -> None:
    with pytest.raises(ConfigError, match="from"):
        DoseRequest(by, value)  # type: ignore[arg-type]
