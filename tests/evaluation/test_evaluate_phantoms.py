"""Models on phantoms: the scanner is the configuration's, the figures are JSON."""

from __future__ import annotations

import json

import pytest
import torch
from helpers.images import run_config
from torch import nn

from pipeline.core.errors import LdctError
from pipeline.evaluation.phantoms import images_on_phantoms, measure_on_phantoms, sweep_doses
from pipeline.models.adapters.base import Identity
from pipeline.physics.phantoms.image_quality import PhantomGrid, RodKind
from pipeline.quality.dose_sweep import Sweep
from pipeline.quality.phantom_metrics import PhantomFigures
from pipeline.quality.summary import (
    equivalent_doses,
    phantom_conditions,
    phantom_rows,
    sweep_conditions,
)

SWEEP = Sweep(
    doses=(0.25,),
    rods=(RodKind(8, 60),),
    regions=16,
    places=8,
    ring_radius_mm=32.0,
    body_radius_mm=55.0,
    grid=PhantomGrid(matrix=96, pixel_mm=1.25),
    region_pixels=17,
    channels=3,
    bootstraps=50,
)
CONFIG = run_config(
    degradation={
        "target": "pipeline.physics.lowdose.LowDoseCT",
        "args": {"dose_fraction": 0.3, "photons_per_ray": 2e5, "detectors": 96, "views": 90},
    }
)


class Constant(nn.Module):
    """A network gone astray: the same for every image."""

    def forward(self, image_hu: torch.Tensor) -> torch.Tensor:
        return torch.zeros_like(image_hu)


@pytest.fixture(scope="module")
def untouched() -> PhantomFigures:
    """What an identity makes of the phantoms."""
    return measure_on_phantoms(Identity(), CONFIG, slices=2)


def test_the_identity_has_the_figures_of_the_undenoised(untouched: PhantomFigures) -> None:
    assert untouched.denoised == untouched.undenoised
    noise = [arm.noise_power.noise_hu for arm in (untouched.undenoised, untouched.full_dose)]
    assert noise[0] / noise[1] == pytest.approx((1 / 0.3) ** 0.5, rel=0.02)


def test_dose_and_scanner_are_those_of_the_configuration(untouched: PhantomFigures) -> None:
    assert untouched.dose_fraction == 0.3
    assert untouched.photons_per_ray_at_full_dose == 2e5
    assert (untouched.detectors, untouched.views) == (96, 90)
    assert "dose 0.3 of 200,000 photons per ray" in phantom_conditions(untouched)


def test_every_image_is_counted() -> None:
    seen: list[int] = []
    measure_on_phantoms(Identity(), CONFIG, slices=3, photons_per_ray=1e6, progress=seen.append)
    assert sum(seen) == images_on_phantoms(3)


def test_rows_tell_every_figure_on_every_arm(untouched: PhantomFigures) -> None:
    rows = {(row.group, row.name): row for row in phantom_rows(untouched)}
    arms = {"undenoised", "denoised", "full_dose"}
    assert all(set(row.values) == arms for row in rows.values())
    bias = rows["Bias, HU", "rod of 900 HU"]
    assert bias.values["full_dose"] == untouched.full_dose.rod_bias["900 HU"].bias_hu
    assert bias.signed


def test_a_broken_model_gives_figures_that_json_can_hold() -> None:
    figures = measure_on_phantoms(Constant(), CONFIG, slices=2)
    found = json.loads(json.dumps(figures.to_dict(), allow_nan=False))
    assert PhantomFigures.from_dict(found) == figures
    assert found["denoised"]["noise_power"]["mean_frequency_per_mm"] is None
    assert found["denoised"]["rod_bias"]["900 HU"]["bias_hu"] == pytest.approx(-900)
    with pytest.raises(LdctError, match="no noise"):
        sweep_doses(Constant(), CONFIG, SWEEP)


def test_the_identity_is_worth_full_dose_and_no_less() -> None:
    seen: list[int] = []
    found = sweep_doses(Identity(), CONFIG, SWEEP, photons_per_ray=3e5, progress=seen.append)
    json.dumps(found.to_dict(), allow_nan=False)
    assert sum(seen) == SWEEP.images
    assert found.equivalent_dose_all_rods.dose == pytest.approx(1.0)
    assert "300,000 photons per ray at full dose" in sweep_conditions(found)
    assert [row[:2] for row in equivalent_doses(found)] == [
        ("8 mm / 60 HU", "1.00"),
        ("all rods", "1.00"),
    ]
