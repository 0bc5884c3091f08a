"""Figures per patient and overall, and the gate that judges them."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers.images import (
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

import pipeline.evaluation.real_pairs as evaluation
from pipeline.config.sections import DenoiseGate, Normalize
from pipeline.core.errors import LdctError, NothingUsableError
from pipeline.core.masks import body_mask
from pipeline.core.slice_matching import match_slices
from pipeline.core.units import TISSUE_RANGES_HU, Window
from pipeline.core.volume import Volume
from pipeline.degradations.digest import degradation_digest
from pipeline.evaluation.aggregate import DenoisingOverall, intervals, over_patients, summarise
from pipeline.evaluation.denoising import evaluate_store
from pipeline.evaluation.gates import judge_denoising
from pipeline.evaluation.per_patient import PatientFigures, PatientMeasurement, WindowFigures
from pipeline.evaluation.real_pairs import evaluate_pair
from pipeline.metrics.conventions import CONVENTIONS
from pipeline.metrics.image import psnr_db, rmse_hu, ssim
from pipeline.metrics.perceptual import gmsd, vif
from pipeline.models.adapters.any_dose import AnyDoseModel
from pipeline.store.store import Store

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
) -> PatientMeasurement:
    """One slice of one patient."""
    patient = PatientMeasurement(WINDOWS)
    patient.add(
        input_hu=input_hu[None],
        output_hu=output_hu[None],
        target_hu=target_hu[None],
        valid=np.ones((1, *target_hu.shape), dtype=bool) if valid is None else valid[None],
    )
    return patient


def overall(*, before: float | None, after: float | None, **bias: float | None) -> DenoisingOverall:
    """What judge reads of an evaluation."""
    return DenoisingOverall(
        windows={"soft_tissue": window_of(before, after)}, hu_bias={"output": bias}
    )


def window_of(before: float | None, after: float | None, **more: Any) -> WindowFigures:
    """A window of these PSNR, in dB, of input and output."""
    return WindowFigures(
        centre_hu=40, width_hu=400, input={"psnr": before}, output={"psnr": after}, **more
    )


def test_the_identity_model_gives_the_input_s_figures(tmp_path: Path) -> None:
    store, config = tiny_store(tmp_path), run_config()
    add_inputs(store, config, noise_hu=30)
    seen: list[int] = []
    result = evaluate_store(Offset(), store, ["s-0", "s-1"], config, seen.append)
    assert sorted(result.patients) == ["p-0", "p-1"]
    assert result.overall.patients == 2
    assert sum(seen) == 4
    for figures in (result.overall, *result.patients.values()):
        window = figures.windows["soft_tissue"]
        assert window.output == window.input
        assert figures.hu_bias["output"] == figures.hu_bias["input"]
        assert 10 < window.input["psnr"] < 40
        assert window.input["rmse_hu"] == pytest.approx(30, rel=0.05)


def test_an_offset_is_a_bias_in_every_tissue(tmp_path: Path) -> None:
    store, config = tiny_store(tmp_path), run_config()
    add_inputs(store, config)
    result = evaluate_store(Offset(5), store, sorted(store.records()), config)
    bias = result.overall.hu_bias
    assert set(bias["output"]) == set(TISSUE_RANGES_HU)
    for tissue in TISSUE_RANGES_HU:
        assert bias["output"][tissue] == pytest.approx(5, abs=1e-3)
        assert bias["input"][tissue] == 0
    window = result.overall.windows["soft_tissue"]
    assert window.hu_bias == bias["output"]
    assert window.output["rmse_hu"] == pytest.approx(5, abs=1e-3)


def test_a_slice_s_figures_are_those_of_the_metrics() -> None:
    target = body_slice()
    before, after = noisy(target, 40), noisy(target, 10)
    summary = figures_of(target, before, after).summary()
    for name, window in WINDOWS.items():
        found = summary.windows[name]
        assert (found.centre_hu, found.width_hu) == window
        for kind, image in (("input", before), ("output", after)):
            assert getattr(found, kind) == {
                "psnr": psnr_db(image, target, window),
                "ssim": ssim(image, target, window),
                "rmse_hu": rmse_hu(image, target, body_mask(target)),
            }


def test_bias_counts_every_voxel_of_a_tissue_the_same() -> None:
    small, large = body_slice(), body_slice()
    large[body_mask(large)] = 40  # soft tissue all over
    patient = PatientMeasurement(WINDOWS)
    targets = np.stack([small, large])
    outputs = np.stack([small + 10, large])
    valid = np.ones(targets.shape, dtype=bool)
    patient.add(input_hu=targets, output_hu=outputs, target_hu=targets, valid=valid)
    bias = patient.summary().hu_bias["output"]
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
        name: patient.windows["soft_tissue"].input["psnr"]
        for name, patient in result.patients.items()
    }
    assert psnr["p-0"] > psnr["p-9"] + 8
    found = result.overall.windows["soft_tissue"].input["psnr"]
    assert found == pytest.approx((psnr["p-0"] + psnr["p-9"]) / 2)
    assert [result.patients[name].slices for name in ("p-0", "p-9")] == [6, 1]


def test_two_series_of_a_patient_are_one_patient(tmp_path: Path) -> None:
    store, config = tiny_store(tmp_path, patients=1), run_config()
    store.add(volume_of(body_slice()[None] + 1), key="s-8", patient="p-0")
    add_inputs(store, config, noise_hu=10)
    result = evaluate_store(Offset(), store, ["s-0", "s-8"], config)
    assert list(result.patients) == ["p-0"]
    assert result.patients["p-0"].slices == 3


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
    assert summary.windows["soft_tissue"].output["rmse_hu"] == pytest.approx(5, abs=1e-3)
    assert summary.hu_bias["output"]["soft_tissue"] == pytest.approx(5, abs=1e-3)
    assert summary.hu_bias["output"]["lung"] is None, "the lung lies in the padding"


def test_slices_without_a_body_do_not_count() -> None:
    air = np.full((64, 64), -1000, dtype=np.float32)
    patient = figures_of(air, air, air)
    assert patient.slices == 0
    with pytest.raises(NothingUsableError, match="body"):
        summarise({"p-0": patient})
    body = body_slice()
    result = summarise({"p-0": patient, "p-1": figures_of(body, noisy(body, 9), body)})
    assert list(result.patients) == ["p-1"]


def test_a_tissue_that_is_not_there_has_no_bias() -> None:
    target = body_slice()
    target[target == LUNG_HU] = 40
    summary = figures_of(target, target, target + 5).summary()
    assert summary.hu_bias["output"]["lung"] is None
    assert summary.hu_bias["output"]["bone"] == pytest.approx(5, abs=1e-3)
    with_lung = figures_of(body_slice(), body_slice(), body_slice() + 3).summary()
    both = over_patients({"p-0": summary, "p-1": with_lung})
    assert both.hu_bias["output"]["lung"] == pytest.approx(3, abs=1e-3)
    assert both.hu_bias["output"]["bone"] == pytest.approx(4, abs=1e-3)


def test_an_infinite_psnr_is_no_figure_and_fails_the_gate() -> None:
    target = body_slice()
    result = summarise({"p-0": figures_of(target, noisy(target, 40), target)})
    window = result.overall.windows["soft_tissue"]
    assert window.output["psnr"] is None
    assert window.output["ssim"] == 1
    verdict = judge_denoising(result.overall, DenoiseGate())
    assert verdict.passed is False
    assert verdict.checks[0].figure is None


def test_the_gain_is_never_taken_between_different_patients() -> None:
    """One patient's input was perfect and is degraded; the other's gain must not hide it."""
    target = body_slice()
    degraded = figures_of(target, target, noisy(target, 20))
    gained = figures_of(target, noisy(target, 60), noisy(target, 40))
    result = summarise({"p-0": degraded, "p-1": gained})
    own_gain = [
        window.output["psnr"] - window.input["psnr"]
        for window in (p.windows["soft_tissue"] for p in result.patients.values())
        if window.input["psnr"] is not None
    ]
    gain = judge_denoising(result.overall, DenoiseGate()).checks[0].figure
    assert gain is None or gain == pytest.approx(np.mean(own_gain))


def test_slices_are_on_record_one_by_one(tmp_path: Path) -> None:
    store, config = tiny_store(tmp_path, patients=1, slices=3), run_config()
    target = store.load("s-0").image_hu
    inputs = np.stack([noisy(target[n], 10 * (n + 1), seed=n) for n in range(3)])
    inputs[1] = target[1]  # a perfect slice, whose PSNR no JSON can hold
    store.save_degraded("s-0", degradation_digest(config, 0), inputs)
    result = evaluate_store(Offset(5), store, ["s-0"], config)
    columns = result.patients["p-0"].per_slice
    assert columns.series == ["s-0"] * 3
    assert columns.slice == [0, 1, 2]
    found = columns.windows["soft_tissue"]
    assert found["input"]["psnr"][1] is None
    for index in (0, 2):
        expected = psnr_db(inputs[index], target[index], Window(40, 400))
        assert found["input"]["psnr"][index] == expected
        after = ssim(inputs[index] + 5, target[index], Window(40, 400))
        assert found["output"]["ssim"][index] == pytest.approx(after, abs=1e-6)
    json.dumps(result.to_dict(), allow_nan=False)


def test_an_airy_slice_does_not_shift_the_numbers_of_the_others() -> None:
    body = body_slice()
    air = np.full_like(body, -1000)
    targets = np.stack([air, body, air, body])
    patient = PatientMeasurement(WINDOWS)
    valid = np.ones(targets.shape, dtype=bool)
    patient.add(
        input_hu=noisy(targets, 20), output_hu=targets, target_hu=targets, valid=valid, series="s"
    )
    assert patient.summary().per_slice.slice == [1, 3]


def test_change_is_output_minus_input() -> None:
    target = body_slice()
    summary = figures_of(target, noisy(target, 40), noisy(target, 10)).summary()
    window = summary.windows["soft_tissue"]
    for figure in ("psnr", "ssim", "rmse_hu"):
        expected = window.output[figure] - window.input[figure]
        assert window.change[figure] == pytest.approx(expected)
    assert window.change["psnr"] > 5
    assert window.change["rmse_hu"] < -20
    perfect = figures_of(target, noisy(target, 40), target).summary()
    assert perfect.windows["soft_tissue"].change["psnr"] is None


def test_the_run_s_metrics_say_what_is_computed(tmp_path: Path) -> None:
    store = tiny_store(tmp_path, patients=1)
    config = run_config(metrics=["psnr", "vif", "gmsd"])
    add_inputs(store, config, noise_hu=30)
    result = evaluate_store(Offset(), store, ["s-0"], config)
    row = result.overall.windows["soft_tissue"].output
    assert list(row) == ["psnr", "ssim", "rmse_hu", "vif", "gmsd"]
    volume = store.load("s-0")
    given = store.load_degraded("s-0", degradation_digest(config, 0))
    for name, metric in (("vif", vif), ("gmsd", gmsd)):
        pairs = zip(given, volume.image_hu, strict=True)
        expected = np.mean([metric(i, t, Window(40, 400)) for i, t in pairs])
        assert row[name] == pytest.approx(expected)
    assert result.overall.intervals.to_dict().keys() >= {"level", "method"}


def summaries_of(
    psnr: dict[str, tuple[float, float]], slices: int = 1
) -> dict[str, PatientFigures]:
    """Patients' summaries with these PSNR of input and output, as over_patients reads them."""
    return {
        name: PatientFigures(
            slices=slices, windows={"w": window_of(before, after, change={"psnr": after - before})}
        )
        for name, (before, after) in psnr.items()
    }


def gaussian_patients(count: int) -> dict[str, tuple[float, float]]:
    """Inputs that vary by 3 dB between patients, outputs 5 dB above them, give or take 0.5."""
    generator = np.random.default_rng(5)
    before = 20 + 3 * generator.standard_normal(count)
    after = before + 5 + 0.5 * generator.standard_normal(count)
    return {f"p-{n}": (float(before[n]), float(after[n])) for n in range(count)}


def test_the_interval_is_that_of_the_normal_law() -> None:
    """For many patients the bootstrap of a mean agrees with mean +- 1.96 standard errors."""
    patients = gaussian_patients(200)
    found = intervals(summaries_of(patients), [1.0] * 200, np.random.default_rng(0))
    values = np.array(list(patients.values()))
    for kind, column in (
        ("input", values[:, 0]),
        ("output", values[:, 1]),
        ("change", values[:, 1] - values[:, 0]),
    ):
        half = 1.96 * column.std() / math.sqrt(200)
        expected = [column.mean() - half, column.mean() + half]
        assert found.windows["w"][kind]["psnr"] == pytest.approx(expected, abs=0.12 * half)
    assert found.level == 0.95
    assert found.patients == 200


def test_the_change_s_interval_is_paired() -> None:
    """Patients differ more than the gain does: unpaired, it would be as wide as theirs."""
    found = intervals(summaries_of(gaussian_patients(20)), [1.0] * 20, np.random.default_rng(0))
    width = {kind: np.ptp(row["psnr"]) for kind, row in found.windows["w"].items()}
    assert width["change"] < 0.3 * width["output"]


def test_intervals_are_reproducible_and_weighted() -> None:
    patients = summaries_of({"p-0": (10.0, 10.0), "p-1": (20.0, 20.0)})
    one = intervals(patients, [1.0, 1.0], np.random.default_rng(3))
    assert one == intervals(patients, [1.0, 1.0], np.random.default_rng(3))
    assert one.windows["w"]["input"]["psnr"] == (10.0, 20.0)
    # Drawn once each, the larger patient's weight decides.
    heavy = intervals(patients, [1.0, 1e6], np.random.default_rng(3)).windows["w"]["input"]
    assert heavy["psnr"][1] == pytest.approx(20)


def test_one_patient_has_no_interval(tmp_path: Path) -> None:
    target = body_slice()
    result = summarise({"p-0": figures_of(target, noisy(target, 40), noisy(target, 10))})
    assert result.overall.intervals.to_dict() == {
        "level": 0.95,
        "patients": 1,
        "method": "one patient",
        "windows": None,
    }


def test_an_interval_lies_around_the_mean(tmp_path: Path) -> None:
    store, config = tiny_store(tmp_path, patients=3), run_config()
    for number in range(3):
        image_hu = noisy(store.load(f"s-{number}").image_hu, 15 * (number + 1))
        store.save_degraded(f"s-{number}", degradation_digest(config, 0), image_hu)
    overall_ = evaluate_store(Offset(5), store, sorted(store.records()), config).overall
    for kind in ("input", "output", "change"):
        for figure, value in getattr(overall_.windows["soft_tissue"], kind).items():
            low, high = overall_.intervals.windows["soft_tissue"][kind][figure]
            assert low < value < high
    assert "bootstrap" in overall_.intervals.method


def test_a_figure_that_a_patient_lacks_has_no_interval() -> None:
    target = body_slice()
    result = summarise(
        {
            "p-0": figures_of(target, noisy(target, 40), target),
            "p-1": figures_of(target, noisy(target, 40), noisy(target, 10)),
        }
    )
    found = result.overall.intervals.windows["soft_tissue"]
    assert found["output"]["psnr"] == (None, None)
    assert None not in found["input"]["psnr"]


def test_the_worst_slices_come_first() -> None:
    target = body_slice()
    patient = PatientMeasurement(WINDOWS)
    targets = np.stack([target] * 8)
    inputs = np.stack([noisy(target, 40, seed=n) for n in range(8)])
    # Slice 3 comes out worst; slice 5 was the cleanest and gains least.
    after = [5, 5, 5, 30, 5, 12, 5, 5]
    outputs = np.stack([noisy(target, hu, seed=9 + n) for n, hu in enumerate(after)])
    inputs[5] = noisy(target, 10)
    valid = np.ones(targets.shape, dtype=bool)
    patient.add(input_hu=inputs, output_hu=outputs, target_hu=targets, valid=valid, series="s-4")
    result = summarise({"p-0": patient})
    worst = result.overall.worst_slices["soft_tissue"]
    assert [row.slice for row in worst.output_psnr][:2] == [3, 5]
    assert worst.psnr_change[0].slice == 5
    assert worst.psnr_change[0].psnr_change < 0
    assert len(worst.output_psnr) == 5
    first = worst.output_psnr[0]
    assert (first.patient, first.series) == ("p-0", "s-4")
    assert first.output_psnr == psnr_db(outputs[3], target, WINDOWS["soft_tissue"])


def test_a_published_convention_weighs_slices(tmp_path: Path) -> None:
    store, config = Store(tmp_path), run_config()
    for number, slices in ((0, 3), (9, 1)):
        volume = volume_of(np.stack([body_slice()] * slices))
        volume.provenance["anatomy"] = "abdomen"
        store.add(volume, key=f"s-{number}", patient=f"p-{number}")
    add_inputs(store, config, noise_hu=10)
    loud = noisy(store.load("s-9").image_hu, 80)
    store.save_degraded("s-9", degradation_digest(config, 0), loud)
    found = evaluate_store(
        Offset(), store, ["s-0", "s-9"], config, convention=CONVENTIONS["eulig2024"]
    )
    assert list(found.overall.windows) == ["abdomen"]
    each = {
        name: patient.windows["abdomen"].input["psnr"] for name, patient in found.patients.items()
    }
    expected = (3 * each["p-0"] + each["p-9"]) / 4
    assert found.overall.windows["abdomen"].input["psnr"] == pytest.approx(expected)
    assert found.overall.slices == 4
    assert "slices" in found.overall.aggregation
    assert found.overall.convention == "eulig2024"


def test_no_convention_guesses_an_anatomy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store, config = tiny_store(tmp_path, patients=1), run_config()
    add_inputs(store, config)
    eulig = CONVENTIONS["eulig2024"]
    with pytest.raises(NothingUsableError, match=r"chest, abdomen, neuro.*unknown"):
        evaluate_store(Offset(), store, ["s-0"], config, convention=eulig)
    low, full = at([0.0, 2.0]), at([0.0, 2.0])
    with pytest.raises(NothingUsableError, match="BodyPartExamined"):
        evaluated(monkeypatch, low, full, convention=eulig)
    full = replace(full, provenance={"anatomy": "neuro"})
    found = evaluated(monkeypatch, low, full, convention=eulig)
    assert list(found.overall.windows) == ["neuro"]


def at(places_mm: list[float], *, pixel_mm: float = 1.0, size: int = 64) -> Volume:
    """A volume of bodies whose brightness tells their place, in the order given."""
    images = np.stack([body_slice(size) + place for place in places_mm])
    volume = volume_of(images, pixel_mm=(pixel_mm, pixel_mm))
    return replace(volume, slice_origins_mm=np.outer(places_mm, [0.0, 0.0, 1.0]))


def test_slices_are_matched_by_position() -> None:
    low, full = at([0.0, 2.0, 4.0, 6.0]), at([6.02, 0.0, 4.0])
    match = match_slices(low, full)
    pairs = dict(zip(match.input.tolist(), match.target.tolist(), strict=True))
    assert pairs == {0: 1, 2: 2, 3: 0}
    assert match.unmatched_input_mm == [[0.0, 0.0, 2.0]]
    assert match.unmatched_target_mm == []


@pytest.mark.parametrize(
    ("other", "told"),
    [
        (at([1.0, 3.0, 5.0]), "1.00 mm"),
        (at([0.0, 2.0, 5.0]), "1.00 mm"),
        (at([100.0]), "100.00 mm"),
        (at([0.0, 2.0, 4.0], pixel_mm=1.01), "0.63 mm"),
        (at([0.0, 2.0, 4.0], size=80), "64 x 64 against 80 x 80"),
    ],
)
def test_a_mismatch_is_named_in_mm(other: Volume, told: str) -> None:
    with pytest.raises(LdctError, match="same places") as failure:
        match_slices(at([0.0, 2.0, 4.0]), other)
    assert told in str(failure.value)


def evaluated(monkeypatch: pytest.MonkeyPatch, low: Volume, full: Volume, **how: Any) -> Any:
    """evaluate_pair on volumes in place of series of files."""

    class Reading:
        def __init__(self, volume: Volume) -> None:
            self.volume, self.refusals = volume, ()

    monkeypatch.setattr(evaluation, "read_volume", Reading)
    return evaluate_pair(Offset(), low, full, windows=WINDOWS, **how)  # type: ignore[arg-type]


def test_a_pair_of_different_lengths_is_compared_where_both_are(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Slices differ in brightness by their place: a pair of two places would show as a bias."""
    low, full = at([0.0, 4.0]), at([0.0, 2.0, 4.0, 6.0])
    low = replace(low, image_hu=low.image_hu + 7)
    result = evaluated(monkeypatch, low, full, also=["gmsd"])
    assert result.pair.to_dict() == {
        "slices": 2,
        "unmatched_input_mm": [],
        "unmatched_target_mm": [[0.0, 0.0, 2.0], [0.0, 0.0, 6.0]],
    }
    assert result.overall.hu_bias["input"]["soft_tissue"] == pytest.approx(7, abs=1e-3)
    assert result.patients["pair"].per_slice.slice == [0, 2], "of the target"
    assert "gmsd" in result.overall.windows["soft_tissue"].output


def test_a_good_model_passes_and_the_record_says_why() -> None:
    figures = overall(before=20.0, after=22.5, bone=-1.5, fat=0.3, lung=None)
    verdict = judge_denoising(figures, DenoiseGate(psnr_gain_db=2.0, max_abs_hu_bias=2.0))
    assert verdict.passed is True
    assert [check.figure for check in verdict.checks] == [2.5, -1.5, 0.3]
    assert verdict.checks[0].limit == ">= 2.0"
    assert "soft_tissue" in verdict.checks[0].name
    assert verdict.checks[1].limit == "|bias| <= 2.0"
    assert "bone" in verdict.checks[1].name


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
    verdict = judge_denoising(figures, DenoiseGate(psnr_gain_db=1.0, max_abs_hu_bias=2.0))
    assert verdict.passed is False
    found = [index for index, check in enumerate(verdict.checks) if not check.passed]
    assert found == [failed]


def test_the_gain_must_be_reached_in_every_window() -> None:
    figures = overall(before=20.0, after=22.5, bone=0.0)
    lung = window_of(30.0, 30.4)
    figures.windows["lung"] = lung
    verdict = judge_denoising(figures, DenoiseGate(psnr_gain_db=1.0))
    assert not verdict.passed
    assert [(c.name, c.passed) for c in verdict.checks[:2]] == [
        ("PSNR gain in window soft_tissue, dB", True),
        ("PSNR gain in window lung, dB", False),
    ]
    lung.output["psnr"] = 31.5
    assert judge_denoising(figures, DenoiseGate(psnr_gain_db=1.0)).passed


def test_the_limits_themselves_pass() -> None:
    assert judge_denoising(overall(before=20.0, after=21.0, bone=2.0), DenoiseGate()).passed is True


def test_the_gate_may_judge_tissue_by_tissue() -> None:
    figures = overall(before=20.0, after=22.5, bone=-9.0, fat=0.3, lung=7.0)
    verdict = judge_denoising(figures, DenoiseGate(max_abs_hu_bias={"bone": 10, "fat": 1}))
    assert verdict.passed
    assert [c.name for c in verdict.checks[1:]] == ["HU bias in bone", "HU bias in fat"]
    assert not judge_denoising(figures, DenoiseGate(max_abs_hu_bias={"bone": 5})).passed


class Asked(nn.Module):
    """Keeps what it is shown beside the image: 1 - 1/k for a dose ratio k; finds no noise."""

    def __init__(self) -> None:
        super().__init__()
        self.removable: set[float] = set()

    def forward(self, seen: torch.Tensor) -> torch.Tensor:
        self.removable |= set(seen[:, 1].unique().tolist())
        return torch.zeros_like(seen[:, :1])


def test_a_dose_conditioned_model_makes_up_for_the_dose_of_the_run_that_measures_it(
    tmp_path: Path,
) -> None:
    """Not for that of the run it was trained in."""
    config = run_config(degradation={"target": "low_dose_ct", "args": {"dose_fraction": 0.25}})
    store = tiny_store(tmp_path)
    add_inputs(store, config, noise_hu=20)
    network = Asked()
    model = AnyDoseModel(network, normalize=Normalize(), dose_ratio=10.0).eval()
    evaluate_store(model, store, ["s-0"], config)
    assert network.removable == {0.75}
