"""What of small discs survives: of denoisers whose answer is known."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from helpers.images import run_config
from torch import nn

from pipeline.config.sections import Normalize
from pipeline.evaluation.contrast_table import (
    AUTO,
    FULL,
    ContrastTable,
    TableRequest,
    contrast_table,
)
from pipeline.models.adapters.any_dose import AnyDoseModel
from pipeline.models.adapters.base import Identity
from pipeline.physics.fan_beam_geometry import FanBeam
from pipeline.quality.phantom_scan import Scanner
from pipeline.report.contrast import PLAINLY, card_text, contrast_png

SMALL = TableRequest(
    doses=(0.25, 1.0), contrasts_hu=(20.0, 100.0), realisations=2, levels=(5,), observer=False
)
#: Fine enough for discs of 2 mm, which the tests' usual scanner is not.
FINE = Scanner(geometry=FanBeam(detectors=500, views=160))


class AllNoise(nn.Module):
    """Takes all that differs from water for noise."""

    def forward(self, seen: torch.Tensor) -> torch.Tensor:
        return seen[:, :1]


class Mean(nn.Module):
    """The mean of 3 x 3 pixels; a whole one blurs in its slice alone."""

    def forward(self, image_hu: torch.Tensor) -> torch.Tensor:
        return nn.functional.avg_pool2d(image_hu, 3, stride=1, padding=1)


def kept(table: ContrastTable, setting: str, dose: float) -> dict[tuple[float, float], float]:
    found = {}
    for disc in table.at(setting, dose).discs:
        assert disc.kept is not None
        found[disc.diameter_mm, disc.contrast_hu] = disc.kept
    return found


def test_nothing_done_keeps_all_at_any_strength():
    table = contrast_table(Identity(), run_config(), SMALL, scanner=FINE)
    assert table.settings == ["strength 0.25", "strength 0.5", "strength 0.75", "strength 1"]
    for row in table.kept:
        assert [disc.kept for disc in row.discs] == pytest.approx([1.0] * 10, abs=1e-4)
        assert row.noise_left_hu == row.noise_hu
    quarter, full = table.at("strength 1", 0.25), table.at("strength 1", 1.0)
    # Quanta alone make it 2; the electronics' noise is doubled once more.
    assert 1.99 < quarter.noise_hu / full.noise_hu < 2.2


def test_a_blur_keeps_less_of_what_is_small_and_half_the_strength_loses_half():
    table = contrast_table(Mean(), run_config(), SMALL, scanner=FINE)
    whole, half = kept(table, "strength 1", 0.25), kept(table, "strength 0.5", 0.25)
    faint = [whole[diameter, 20.0] for diameter in (2, 3, 5, 7, 10)]
    assert faint == sorted(faint)
    assert faint[0] < 0.8 < 0.9 < faint[-1] < 1
    assert faint == pytest.approx([whole[d, 100.0] for d in (2, 3, 5, 7, 10)], abs=1e-3), "linear"
    assert {key: 1 - value for key, value in half.items()} == pytest.approx(
        {key: (1 - value) / 2 for key, value in whole.items()}
    )
    row = table.at("strength 1", 0.25)
    assert row.noise_left_hu < row.noise_hu / 2
    assert all(disc.interval[0] <= disc.kept <= disc.interval[1] for disc in row.discs)


def test_a_dose_conditioned_model_is_measured_at_every_setting():
    model = AnyDoseModel(AllNoise(), normalize=Normalize(centre=0, scale=1000)).eval()
    table = contrast_table(model, run_config(), SMALL, scanner=FINE)
    assert table.settings == [AUTO, "level 5", FULL]
    assert table.main_setting == FULL
    assert table.at(FULL, 0.25).dose_ratio == 4
    # It leaves 1 / ratio of all that is not water.
    assert set(np.round(list(kept(table, FULL, 0.25).values()), 3)) == {0.25}
    assert set(np.round(list(kept(table, FULL, 1.0).values()), 6)) == {1.0}
    row = table.at("level 5", 0.25)
    assert row.noise_left_hu / row.noise_hu == pytest.approx(0.4, abs=0.02)
    assert list(kept(table, "level 5", 0.25).values()) == pytest.approx([0.4] * 10, abs=0.02)


def test_it_is_read_again_from_json_and_written_for_a_card():
    request = TableRequest(
        doses=(0.25, 1.0), contrasts_hu=(20.0,), realisations=1, strengths=(1.0,), regions=16
    )
    seen: list[int] = []
    table = contrast_table(Identity(), run_config(), request, progress=seen.append)
    assert sum(seen) == request.images(Identity())
    again = ContrastTable.from_dict(table.to_dict())
    assert again.to_dict() == table.to_dict()
    text = card_text(again)
    assert "| 3 mm / 20 HU | 1.00 (1.00–1.00) | 1.00 (1.00–1.00) |" in text
    assert PLAINLY in text
    assert "d′ of a channelised Hotelling observer, undenoised → strength 1" in text
    assert contrast_png(again).startswith(b"\x89PNG")
    assert table.observer is not None
    one = table.observer.rods[0].curve[0]
    assert one.denoised is not None
    assert one.denoised.d_prime == pytest.approx(one.undenoised.d_prime, rel=1e-3)
