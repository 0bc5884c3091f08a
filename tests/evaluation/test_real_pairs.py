"""Many real pairs: found, grouped by kernel and dose, and held against what noise allows."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.dicom import KEY
from helpers.images import run_config, volume_of
from helpers.pairs import write_dose
from numpy.typing import NDArray
from torch import nn

from pipeline.dicom.read.series import find_series
from pipeline.evaluation.aggregate import DenoisingResult
from pipeline.evaluation.noise_ceiling import FORMULA, NoiseCeiling, noise_ceiling
from pipeline.evaluation.real_pairs import RealPairs, evaluate_pairs
from pipeline.ingest.dose_pairs import pair_folders

SIZE, SLICES = 128, 3
FULL_HU = 10.0


def tissue() -> NDArray[np.float32]:
    rows, columns = np.indices((SIZE, SIZE)) - (SIZE - 1) / 2
    body = np.where(np.hypot(rows, columns) < 0.45 * SIZE, 40.0, -1000.0)
    return np.repeat(body[None], SLICES, axis=0).astype(np.float32)


def noise(seed: int, level_hu: float) -> NDArray[np.float32]:
    drawn = np.random.default_rng(seed).normal(0, level_hu, (SLICES, SIZE, SIZE))
    return drawn.astype(np.float32)


def gain_db(input_hu: NDArray, output_hu: NDArray, target_hu: NDArray) -> float:
    inside = tissue() > 0
    errors = [np.mean((image - target_hu)[inside] ** 2) for image in (input_hu, output_hu)]
    return 10 * math.log10(errors[0] / errors[1])


def ceiling_of(input_hu: NDArray, target_hu: NDArray) -> NoiseCeiling:
    found = noise_ceiling(volume_of(target_hu), input_hu, target_hu)
    assert found is not None
    return found


@pytest.mark.parametrize("ratio", [2.0, 4.0, 10.0])
def test_the_ceiling_is_what_the_best_estimate_reaches_where_one_noise_is_in_the_other(
    ratio: float,
) -> None:
    own = noise(1, FULL_HU)
    low = own + noise(2, FULL_HU * math.sqrt(ratio - 1))
    input_hu, target_hu = tissue() + low, tissue() + own
    found = ceiling_of(input_hu, target_hu)
    # A small difference of variances `ratio` times as large, each of some thousand pixels.
    assert found.shared == pytest.approx(1.0, abs=0.03 * ratio)
    assert found.gain_db == pytest.approx(10 * math.log10(ratio), abs=0.3)
    best = gain_db(input_hu, tissue() + low / ratio, target_hu)
    assert best == pytest.approx(found.gain_db, abs=0.35)
    for share in (0.0, 0.5 / ratio, 2 / ratio):
        assert gain_db(input_hu, tissue() + share * low, target_hu) < best


def test_two_scans_share_no_noise() -> None:
    input_hu, target_hu = tissue() + noise(3, 2 * FULL_HU), tissue() + noise(4, FULL_HU)
    found = ceiling_of(input_hu, target_hu)
    assert found.shared < 0.1
    assert found.gain_db == pytest.approx(10 * math.log10(5), abs=0.3)
    assert gain_db(input_hu, tissue(), target_hu) == pytest.approx(found.gain_db, abs=0.3)


def test_where_there_is_nothing_to_gain_or_to_measure_no_ceiling_is_told() -> None:
    same = tissue() + noise(5, FULL_HU)
    assert ceiling_of(same, same).gain_db is None
    air = np.full_like(same, -1000.0)
    assert noise_ceiling(volume_of(air), air, air) is None
    assert "Kay" in FORMULA


class Half(nn.Module):
    """The mean of the image and 40 HU in tissue: half of its noise."""

    def forward(self, image_hu: torch.Tensor) -> torch.Tensor:
        return torch.where(image_hu > -500, (image_hu + 40) / 2, image_hu)


def write(folder: Path, description: str, level_hu: float, patient: str, kernel: str) -> None:
    own, added = noise(1, FULL_HU), noise(2, level_hu)
    stored = np.rint(tissue() + own + added + 1024).astype(np.int16)

    def image(dataset: object, number: int) -> None:
        dataset.PixelData = stored[number].tobytes()  # type: ignore[attr-defined]

    write_dose(
        folder,
        description,
        [0.0, 5.0, 10.0],
        patient=patient,
        size=SIZE,
        change=image,
        ConvolutionKernel=kernel,
    )


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory) -> tuple[DenoisingResult, RealPairs]:
    """Two patients, two kernels, doses of 25 and 50 %; one low dose whose full dose is missing."""
    root = tmp_path_factory.mktemp("pairs")
    for patient in ("P-1", "P-2"):
        for kernel in ("B30f", "B70f"):
            write(root / "full" / patient / kernel, "Thorax", 0.0, patient, kernel)
            for percent in (25, 50):
                level_hu = FULL_HU * math.sqrt(100 / percent - 1)
                folder = root / "low" / patient / f"{kernel} {percent}"
                write(folder, f"Thorax {percent} %", level_hu, patient, kernel)
    write(root / "low" / "P-3", "Thorax 25 %", 5.0, "P-3", "B30f")
    low, full = (find_series(root / name).series for name in ("low", "full"))
    pairs, refusals = pair_folders(low, full)
    found = RealPairs(pairs, KEY, refusals)
    return evaluate_pairs(Half(), found, run_config()), found


def test_every_pair_is_found_and_told_by_patient_kernel_and_dose(
    result: tuple[DenoisingResult, RealPairs],
) -> None:
    figures, pairs = result
    assert len(figures.pairs) == 8
    assert len({row.patient for row in figures.pairs}) == len(figures.patients) == 2
    assert {row.patient for row in figures.pairs} == set(figures.patients)
    assert all(row.patient.startswith("p-") for row in figures.pairs)
    for row in figures.pairs:
        assert row.matched.slices == SLICES
        assert row.measured_dose_percent == pytest.approx(row.dose_percent, rel=0.1)
    worst = figures.overall.worst_slices["soft_tissue"].output_psnr[0]
    assert worst.series in {f"{row.series} at {row.dose}" for row in figures.pairs}
    reasons = {refusal.path.parent.name: refusal.reason for refusal in pairs.refusals}
    assert reasons == {"P-3": "no full-dose partner: the patient has no such series"}


def test_groups_are_of_one_kernel_and_dose_with_the_ceiling_beside_the_gain(
    result: tuple[DenoisingResult, RealPairs],
) -> None:
    groups = {(group.kernel, group.dose): group for group in result[0].groups}
    assert set(groups) == {(k, d) for k in ("B30f", "B70f") for d in ("25 %", "50 %")}
    for (_, dose), group in groups.items():
        assert (group.pairs, group.patients, group.slices) == (2, 2, 2 * SLICES)
        expected = {"25 %": 10 * math.log10(4), "50 %": 10 * math.log10(2)}[dose]
        assert group.ceiling_gain_db == pytest.approx(expected, abs=0.4)
        for window in group.windows.values():
            assert 0 < window.change["psnr"] < group.ceiling_gain_db
    again = DenoisingResult.from_dict(result[0].to_dict())
    assert again.groups == result[0].groups


def test_tables_and_page_show_them(
    result: tuple[DenoisingResult, RealPairs],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from rich.console import Console

    from flows.cli.tables import pairs as tables
    from pipeline.report.pages import write_evaluation

    figures = result[0].to_dict()
    monkeypatch.setattr(tables, "out_console", Console(width=80))
    tables.pairs_tables(figures)
    printed = capsys.readouterr().out
    assert "…" not in printed, "80 columns are enough"
    assert "B70f" in printed
    assert "V(input - target)" in " ".join(printed.split()), "the formula is no markup"
    report = {"model": "m/1", "config": run_config().resolved(), "figures": figures}
    write_evaluation(report, panels=[], path=tmp_path / "evaluation.html")
    page = (tmp_path / "evaluation.html").read_text()
    assert "Real pairs by kernel and dose" in page
    assert page.count("B70f") >= 2 + 4, "two groups and four pairs"
    for row in result[0].pairs:
        assert row.patient in page
