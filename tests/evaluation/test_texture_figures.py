"""Frechet distances of a restoring run: within holes, beside controls, and judged."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from helpers.restore import drawing, run
from pydantic import ValidationError

from pipeline.config.restoration import Restoration
from pipeline.evaluation.gates import judge_restoration
from pipeline.evaluation.restoration import RestorationOverall
from pipeline.evaluation.stable_metrics import restoration_metrics
from pipeline.evaluation.texture_figures import BLURRED, NOISY, OTHER_PIECES, TextureMeasure

SIDE = 16
NOISE = {"target": "gaussian_noise", "args": {"sigma": 20}}


def textured(seed: int) -> np.ndarray:
    noise = np.random.default_rng(seed).normal(0, 12, (3, 96, 96))
    return (drawing(seed, 96) + noise).clip(0, 255).astype(np.float32)


def test_the_target_itself_is_at_no_distance_and_its_other_pieces_nearest() -> None:
    measure = TextureMeasure(SIDE)
    for seed in range(2):
        target = textured(seed)
        measure.add({"output": target, "input": np.zeros_like(target)}, target)
    figures = measure.figures()
    assert figures.pieces == 2 * 36
    assert figures.frechet["output"] == pytest.approx(0, abs=1e-6)
    controls = figures.controls
    assert controls[OTHER_PIECES] < min(controls[BLURRED], controls[NOISY])
    assert controls[BLURRED] < figures.frechet["input"]


def test_within_holes_what_is_outside_does_not_count() -> None:
    target, hole = textured(0), np.zeros((96, 96), dtype=bool)
    hole[20:68, 20:68] = True
    outside, inside = target.copy(), target.copy()
    outside[:, ~hole] = target[:, ~hole].mean()
    inside[:, hole] = target[:, hole].mean()
    measure = TextureMeasure(SIDE)
    # Wavelets reach out of a piece, so that a change outside counts a little at the rim.
    measure.add({"outside": outside, "inside": inside}, target, unknown=hole)
    figures = measure.figures()
    assert figures.within_holes
    assert figures.frechet["outside"] < figures.frechet["inside"] / 4


def test_of_few_pieces_nothing_is_said() -> None:
    measure, hole = TextureMeasure(SIDE), np.zeros((96, 96), dtype=bool)
    hole[:SIDE, :SIDE] = True
    measure.add({"output": textured(1)}, textured(0), unknown=hole)
    assert measure.figures().pieces == 1
    assert measure.figures().frechet == {}


def overall(texture: dict[str, float] | None) -> RestorationOverall:
    answers = {"input": 20.0, "output": 18.0, "biharmonic": 21.0}
    window: dict[str, Any] = {name: {"psnr": psnr, "ssim": 0.5} for name, psnr in answers.items()}
    found: dict[str, Any] = {
        "images": 1,
        "aggregation": "",
        "windows": {"levels": {"centre": 127.5, "width": 255.0, **window}},
    }
    if texture is not None:
        place = {"side_pixels": 32, "pieces": 60, "within_holes": False, "controls": {}}
        found["texture"] = {**place, "frechet": texture}
    return RestorationOverall.from_dict(found)


def judged(texture: dict[str, float] | None, **limits: float | None) -> dict[str, bool]:
    config = run(NOISE, restoration={"source": "pictures", "frechet_side": 32, "limits": limits})
    found = judge_restoration(overall(texture), config)  # type: ignore[arg-type]
    return {check.name.split(",")[0]: check.passed for check in found.checks}


def test_a_run_can_be_judged_by_its_texture_alone() -> None:
    limits = {
        "min_psnr_gain_db": None,
        "min_psnr_above_references_db": None,
        "min_ssim_above_references": None,
        "max_frechet_share": 0.5,
    }
    near = {"input": 3.0, "output": 0.4, "biharmonic": 1.0}
    assert judged(near, **limits) == {"Frechet distance": True}
    assert judged(near | {"output": 0.6}, **limits) == {"Frechet distance": False}
    assert judged(None, **limits) == {"Frechet distance": False}
    assert judged({}, **limits) == {"Frechet distance": False}


def test_without_a_limit_the_texture_is_reported_and_not_judged() -> None:
    far = {"input": 1.0, "output": 9.0, "biharmonic": 1.0}
    assert judged(far) == {
        "PSNR gain over the input": False,
        "PSNR above the best reference": False,
        "SSIM above the best reference": True,
    }
    assert restoration_metrics(overall(far))["test.frechet.output"] == 9.0
    assert "texture" not in overall(None).to_dict()


def test_a_limit_needs_the_measure_and_ct_has_none() -> None:
    with pytest.raises(ValidationError, match="needs frechet_side"):
        Restoration.model_validate({"source": "shipped", "limits": {"max_frechet_share": 0.5}})
    with pytest.raises(ValidationError, match="not of CT"):
        Restoration.model_validate({"source": "series", "frechet_side": 32})
