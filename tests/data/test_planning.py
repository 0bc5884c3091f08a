"""Spacing, patch, depth and grey ranges from a fingerprint and a memory."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from pipeline.config.sections import Component
from pipeline.config.segmentation import Segmentation
from pipeline.core.errors import ConfigError
from pipeline.data.planning import Fingerprint, Plan, foreground_range_hu, plan, target_spacing
from pipeline.models.adapters.segmenter import build_segmenter

TORSO = Fingerprint(
    spacings_mm=[(2.0, 0.7, 0.7), (1.5, 0.8, 0.8), (2.2, 0.75, 0.75)],
    shapes=[(200, 512, 512), (300, 512, 512), (200, 512, 512)],
    foreground_hu=(-870.4, 812.2),
)
THICK = Fingerprint([(8.0, 0.5, 0.5)] * 9 + [(5.0, 0.5, 0.5)], [(30, 512, 512)] * 10, (0, 80))


def halvings(made: Plan) -> list[int]:
    return np.prod(made.strides, axis=0).tolist()


def test_the_same_data_and_memory_give_the_same_plan() -> None:
    assert plan(TORSO, memory_gib=8) == plan(TORSO, memory_gib=8)


def test_the_target_is_the_median_spacing() -> None:
    assert target_spacing(TORSO.spacings_mm) == (2.0, 0.75, 0.75)


def test_thick_slices_take_the_finer_ones_for_target() -> None:
    """Slices 3 times as far apart as pixels: the 10th percentile, not the median of 8 mm."""
    assert target_spacing(THICK.spacings_mm) == pytest.approx((7.7, 0.5, 0.5))


@pytest.mark.parametrize("fingerprint", [TORSO, THICK])
@pytest.mark.parametrize("dimensions", [2, 3])
@pytest.mark.parametrize("memory_gib", [1, 4, 24])
def test_a_plan_is_one_that_a_network_can_take(
    fingerprint: Fingerprint, dimensions: int, memory_gib: float
) -> None:
    made = plan(fingerprint, memory_gib=memory_gib, dimensions=dimensions)
    assert len(made.patch) == dimensions
    assert made.strides[0] == (1,) * dimensions
    for size, halved in zip(made.patch, halvings(made), strict=True):
        assert size % halved == 0
        assert size // halved >= 4 or halved == 1


def test_more_memory_never_shows_less() -> None:
    """In mm: first the spacing gets finer, then the patch larger."""
    plans = [plan(TORSO, memory_gib=gib) for gib in (0.5, 1, 2, 4, 8, 16, 32)]
    voxels = [math.prod(made.patch) for made in plans]
    spacings = [made.spacing_mm[0] for made in plans]
    assert voxels == sorted(voxels)
    assert spacings == sorted(spacings, reverse=True)
    assert len(set(voxels)) > 4


def test_little_memory_coarsens_until_a_patch_shows_a_quarter() -> None:
    made = plan(TORSO, memory_gib=1)
    volume_mm = np.array([200 * 2.0, 512 * 0.75, 512 * 0.75])
    shown = np.prod(np.minimum(1, np.array(made.patch) * made.spacing_mm / volume_mm))
    assert shown > 0.2
    assert made.spacing_mm[1] > 2 * 0.75
    assert made.spacing_mm[0] < 2 * made.spacing_mm[1], "the finest axes give way first"


def test_a_small_volume_is_a_whole_patch() -> None:
    made = plan(Fingerprint([(3, 3, 3)], [(64, 96, 96)], (-100, 200)), memory_gib=64)
    assert made.patch == (64, 96, 96)
    assert made.spacing_mm == (3, 3, 3)
    assert halvings(made) == [16, 16, 16]


def test_thick_slices_are_halved_less_and_convolved_later() -> None:
    made = plan(THICK, memory_gib=16)
    along_slices, rows, columns = halvings(made)
    assert along_slices < rows == columns
    kernels = made.model()["args"]["kernel_size"]
    assert kernels[0] == [1, 3, 3]
    assert kernels[-1] == [3, 3, 3]


def test_slices_are_not_planned_for_in_two_dimensions() -> None:
    made = plan(TORSO, memory_gib=4, dimensions=2)
    assert made.spacing_mm == (2.0, 0.75, 0.75)
    assert made.patch == (512, 512)


def test_too_little_memory_is_refused() -> None:
    with pytest.raises(ConfigError, match="memory_gib"):
        plan(TORSO, memory_gib=1e-6)
    with pytest.raises(ConfigError, match="memory_gib"):
        plan(TORSO, memory_gib=0)


def test_the_grey_range_is_that_of_the_structures() -> None:
    samples = [np.linspace(0, 100, 1001, dtype=np.float32), np.full(1001, 50, dtype=np.float32)]
    assert foreground_range_hu(samples) == pytest.approx((1, 99), abs=0.2)
    assert plan(TORSO, memory_gib=4).ranges_hu == ((-871, 813),)


@pytest.mark.parametrize("dimensions", [2, 3])
def test_a_plan_is_plain_settings_of_a_run(dimensions: int) -> None:
    """What it writes down builds a network that takes its patches."""
    made = plan(
        THICK, memory_gib=0.3, dimensions=dimensions, first_features=4, max_features=16, batch=1
    )
    settings = Segmentation.model_validate({"classes": {"liver": [5]}} | made.segmentation())
    exact = settings.model_copy(update={"multiple": 1})
    model = build_segmenter(Component.model_validate(made.model()), exact).eval()
    with torch.inference_mode():
        assert model(torch.zeros(1, 1, *made.patch)).shape == (1, 2, *made.patch)
