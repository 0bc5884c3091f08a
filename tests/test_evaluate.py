"""Figures per patient and overall, and the gate that judges them."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers_images import (
    LUNG_HU,
    add_inputs,
    body_slice,
    disc,
    run_config,
    tiny_store,
    volume_of,
)
from numpy.typing import NDArray
from torch import nn

from pipeline.config import Gate
from pipeline.dataset import degradation_digest
from pipeline.errors import NothingUsableError
from pipeline.evaluate import PatientFigures, evaluate_store, judge, over_patients, summarise
from pipeline.masks import body_mask
from pipeline.metrics import psnr_db, rmse_hu, ssim
from pipeline.units import TISSUE_RANGES_HU, Window

WINDOWS = {"soft_tissue": Window(40, 400), "lung": Window(-600, 1500)}


class Offset(nn.Module):
    """Adds so many HU everywhere; 0 is the identity."""

    def __init__(self, hu: float = 0.0) -> None:
        super().__init__()
        self.hu = hu

    def forward(self, image_hu: torch.Tensor) -> torch.Tensor:
        return image_hu + self.hu


def noisy(target_hu: NDArray, deviation_hu: float, seed: int = 0) -> NDArray[np.float32]:
    noise = np.random.default_rng(seed).standard_normal(target_hu.shape)
    return (target_hu + deviation_hu * noise).astype(np.float32)


def figures_of(
    target_hu: NDArray,
    input_hu: NDArray,
    output_hu: NDArray,
    valid: NDArray | None = None,
) -> PatientFigures:
    """One slice of one patient."""
    patient = PatientFigures(WINDOWS)
    patient.add(
        input_hu=input_hu[None],
        output_hu=output_hu[None],
        target_hu=target_hu[None],
        valid=np.ones((1, *target_hu.shape), dtype=bool) if valid is None else valid[None],
    )
    return patient


def overall(*, before: float | None, after: float | None, **bias: float | None) -> dict[str, Any]:
    """What judge reads of an evaluation."""
    return {
        "windows": {"soft_tissue": {"input": {"psnr": before}, "output": {"psnr": after}}},
        "hu_bias": {"output": bias},
    }


def test_the_identity_model_gives_the_input_s_figures(tmp_path: Path) -> None:
    store, config = tiny_store(tmp_path), run_config()
    add_inputs(store, config, noise_hu=30)
    seen: list[int] = []
    result = evaluate_store(Offset(), store, ["s-0", "s-1"], config, seen.append)
    assert sorted(result["patients"]) == ["p-0", "p-1"]
    assert result["overall"]["patients"] == 2
    assert sum(seen) == 4
    for figures in (result["overall"], *result["patients"].values()):
        window = figures["windows"]["soft_tissue"]
        assert window["output"] == window["input"]
        assert figures["hu_bias"]["output"] == figures["hu_bias"]["input"]
        assert 10 < window["input"]["psnr"] < 40
        assert window["input"]["rmse_hu"] == pytest.approx(30, rel=0.05)


def test_an_offset_is_a_bias_in_every_tissue(tmp_path: Path) -> None:
    store, config = tiny_store(tmp_path), run_config()
    add_inputs(store, config)
    result = evaluate_store(Offset(5), store, sorted(store.records()), config)
    bias = result["overall"]["hu_bias"]
    assert set(bias["output"]) == set(TISSUE_RANGES_HU)
    for tissue in TISSUE_RANGES_HU:
        assert bias["output"][tissue] == pytest.approx(5, abs=1e-3)
        assert bias["input"][tissue] == 0
    window = result["overall"]["windows"]["soft_tissue"]
    assert window["hu_bias"] == bias["output"]
    assert window["output"]["rmse_hu"] == pytest.approx(5, abs=1e-3)


def test_a_slice_s_figures_are_those_of_the_metrics() -> None:
    target = body_slice()
    before, after = noisy(target, 40), noisy(target, 10)
    summary = figures_of(target, before, after).summary()
    for name, window in WINDOWS.items():
        found = summary["windows"][name]
        assert (found["centre_hu"], found["width_hu"]) == window
        for kind, image in (("input", before), ("output", after)):
            assert found[kind] == {
                "psnr": psnr_db(image, target, window),
                "ssim": ssim(image, target, window),
                "rmse_hu": rmse_hu(image, target, body_mask(target)),
            }


def test_bias_counts_every_voxel_of_a_tissue_the_same() -> None:
    small, large = body_slice(), body_slice()
    large[body_mask(large)] = 40  # soft tissue all over
    patient = PatientFigures(WINDOWS)
    targets = np.stack([small, large])
    outputs = np.stack([small + 10, large])
    valid = np.ones(targets.shape, dtype=bool)
    patient.add(input_hu=targets, output_hu=outputs, target_hu=targets, valid=valid)
    bias = patient.summary()["hu_bias"]["output"]
    assert 0 < bias["soft_tissue"] < 4.5, "the larger slice holds most of the voxels"
    assert bias["bone"] == pytest.approx(10)


def test_patients_weigh_equal_whatever_their_number_of_slices(tmp_path: Path) -> None:
    store, config = tiny_store(tmp_path, patients=1, slices=6), run_config()
    store.add(volume_of(body_slice()[None]), key="s-9", patient="p-9")
    add_inputs(store, config, noise_hu=10)
    loud = noisy(store.load("s-9").image_hu, 80)
    store.save_degraded("s-9", degradation_digest(config, 0), loud)
    result = evaluate_store(Offset(), store, ["s-0", "s-9"], config)
    psnr = {
        name: patient["windows"]["soft_tissue"]["input"]["psnr"]
        for name, patient in result["patients"].items()
    }
    assert psnr["p-0"] > psnr["p-9"] + 8
    found = result["overall"]["windows"]["soft_tissue"]["input"]["psnr"]
    assert found == pytest.approx((psnr["p-0"] + psnr["p-9"]) / 2)
    assert [result["patients"][name]["slices"] for name in ("p-0", "p-9")] == [6, 1]


def test_two_series_of_a_patient_are_one_patient(tmp_path: Path) -> None:
    store, config = tiny_store(tmp_path, patients=1), run_config()
    store.add(volume_of(body_slice()[None] + 1), key="s-8", patient="p-0")
    add_inputs(store, config, noise_hu=10)
    result = evaluate_store(Offset(), store, ["s-0", "s-8"], config)
    assert list(result["patients"]) == ["p-0"]
    assert result["patients"]["p-0"]["slices"] == 3


@pytest.mark.parametrize("in_input", [-1000.0, 3000.0])
@pytest.mark.parametrize("in_output", [-1000.0, 3000.0])
def test_what_stands_in_padding_never_counts(in_input: float, in_output: float) -> None:
    target = body_slice()
    valid = disc((64, 64), 25)  # cuts into the body's sides too
    before, after = noisy(target, 40), noisy(target, 10)
    expected = figures_of(target, before, after, valid).summary()
    before[~valid], after[~valid] = in_input, in_output
    assert figures_of(target, before, after, valid).summary() == expected


def test_padding_in_the_body_thins_out_no_figure() -> None:
    target = body_slice()
    valid = np.ones((64, 64), dtype=bool)
    valid[:, :40] = False
    summary = figures_of(target, target, target + 5, valid).summary()
    assert summary["windows"]["soft_tissue"]["output"]["rmse_hu"] == pytest.approx(5, abs=1e-3)
    assert summary["hu_bias"]["output"]["soft_tissue"] == pytest.approx(5, abs=1e-3)
    assert summary["hu_bias"]["output"]["lung"] is None, "the lung lies in the padding"


def test_slices_without_a_body_do_not_count() -> None:
    air = np.full((64, 64), -1000, dtype=np.float32)
    patient = figures_of(air, air, air)
    assert patient.slices == 0
    with pytest.raises(NothingUsableError, match="body"):
        summarise({"p-0": patient})
    body = body_slice()
    result = summarise({"p-0": patient, "p-1": figures_of(body, noisy(body, 9), body)})
    assert list(result["patients"]) == ["p-1"]


def test_a_tissue_that_is_not_there_has_no_bias() -> None:
    target = body_slice()
    target[target == LUNG_HU] = 40
    summary = figures_of(target, target, target + 5).summary()
    assert summary["hu_bias"]["output"]["lung"] is None
    assert summary["hu_bias"]["output"]["bone"] == pytest.approx(5, abs=1e-3)
    with_lung = figures_of(body_slice(), body_slice(), body_slice() + 3).summary()
    both = over_patients({"p-0": summary, "p-1": with_lung})
    assert both["hu_bias"]["output"]["lung"] == pytest.approx(3, abs=1e-3)
    assert both["hu_bias"]["output"]["bone"] == pytest.approx(4, abs=1e-3)


def test_an_infinite_psnr_is_no_figure_and_fails_the_gate() -> None:
    target = body_slice()
    result = summarise({"p-0": figures_of(target, noisy(target, 40), target)})
    window = result["overall"]["windows"]["soft_tissue"]
    assert window["output"]["psnr"] is None
    assert window["output"]["ssim"] == 1
    verdict = judge(result["overall"], Gate())
    assert verdict["passed"] is False
    assert verdict["checks"][0]["figure"] is None


def test_the_gain_is_never_taken_between_different_patients() -> None:
    """One patient's input was perfect and is spoilt; the other's gain must not hide it."""
    target = body_slice()
    spoilt = figures_of(target, target, noisy(target, 20))
    gained = figures_of(target, noisy(target, 60), noisy(target, 40))
    result = summarise({"p-0": spoilt, "p-1": gained})
    own_gain = [
        window["output"]["psnr"] - window["input"]["psnr"]
        for window in (p["windows"]["soft_tissue"] for p in result["patients"].values())
        if window["input"]["psnr"] is not None
    ]
    gain = judge(result["overall"], Gate())["checks"][0]["figure"]
    assert gain is None or gain == pytest.approx(np.mean(own_gain))


def test_a_good_model_passes_and_the_record_says_why() -> None:
    figures = overall(before=20.0, after=22.5, bone=-1.5, fat=0.3, lung=None)
    verdict = judge(figures, Gate(psnr_gain_db=2.0, max_abs_hu_bias=2.0))
    assert verdict["passed"] is True
    assert [check["figure"] for check in verdict["checks"]] == [2.5, -1.5, 0.3]
    assert verdict["checks"][0]["limit"] == ">= 2.0"
    assert "soft_tissue" in verdict["checks"][0]["check"]
    assert verdict["checks"][1]["limit"] == "|bias| <= 2.0"
    assert "bone" in verdict["checks"][1]["check"]


@pytest.mark.parametrize(
    ("figures", "failed"),
    [
        (overall(before=20.0, after=20.9, bone=0.0), 0),
        (overall(before=20.0, after=19.0, bone=0.0), 0),
        (overall(before=20.0, after=None, bone=0.0), 0),
        (overall(before=None, after=22.0, bone=0.0), 0),
        (overall(before=20.0, after=22.0, fat=0.0, bone=-2.1), 2),
        (overall(before=20.0, after=22.0, fat=2.1, bone=0.0), 1),
        (overall(before=20.0, after=22.0, fat=math.nan), 1),
    ],
)
def test_the_check_that_fails_is_on_record(figures: dict[str, Any], failed: int) -> None:
    verdict = judge(figures, Gate(psnr_gain_db=1.0, max_abs_hu_bias=2.0))
    assert verdict["passed"] is False
    found = [index for index, check in enumerate(verdict["checks"]) if not check["passed"]]
    assert found == [failed]


def test_the_limits_themselves_pass() -> None:
    assert judge(overall(before=20.0, after=21.0, bone=2.0), Gate())["passed"] is True


def test_the_gate_may_judge_tissue_by_tissue() -> None:
    figures = overall(before=20.0, after=22.5, bone=-9.0, fat=0.3, lung=7.0)
    verdict = judge(figures, Gate(max_abs_hu_bias={"bone": 10, "fat": 1}))
    assert verdict["passed"]
    assert [c["check"] for c in verdict["checks"][1:]] == ["HU bias in bone", "HU bias in fat"]
    assert not judge(figures, Gate(max_abs_hu_bias={"bone": 5}))["passed"]
