"""Closing tables on a terminal of 80 columns: nothing runs over, is torn or is lost."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from helpers.images import run_config

from flows.cli.fetch import _show as selection_table
from flows.cli.tables import base, figures, quality, reader_study, tasks
from flows.tracking.ranking import Ranking
from flows.tracking.versions import VersionRow
from pipeline.config.shipped import find_pretrained
from pipeline.core.types import Json
from pipeline.evaluation.phantoms import measure_on_phantoms
from pipeline.ingest.idc_index import RemoteSeries, Selection
from pipeline.models.adapters.base import Identity
from pipeline.physics.fan_beam_geometry import FanBeam
from pipeline.physics.phantoms.image_quality import PhantomGrid, RodKind
from pipeline.quality.dose_equivalence import dose_equivalence
from pipeline.quality.dose_sweep import Sweep
from pipeline.quality.phantom_scan import Scanner

COLUMNS = 80
#: What rich draws borders with.
BORDERS = re.compile("[\u2500-\u257f]")
#: A number, with what stands directly at it.
FIGURE = re.compile(r"\S*\d\S*")
SERIES, PATIENT = "s-0a1b2c3d4e5f6071", "p-8f7e6d5c4b3a2918"
OUT = Path("/data/hospital/denoised/2026-11")
MODEL = "chest-low-dose-anydose-noise2noise"
WARNING = "3 slices have other window settings than the rest; ConvolutionKernel is absent"


def text_of(show: Callable[[], object], columns: int, capsys: pytest.CaptureFixture) -> str:
    before = figures.out_console.width
    figures.out_console.width = columns
    try:
        show()
    finally:
        figures.out_console.width = before
    return capsys.readouterr().out


def fits(show: Callable[[], object], capsys: pytest.CaptureFixture) -> None:
    """What is printed at COLUMNS has all that a terminal of any width shows."""
    wide, narrow = (text_of(show, columns, capsys) for columns in (1000, COLUMNS))
    rows = [line for line in narrow.splitlines() if BORDERS.search(line)]
    assert rows, "there is a table"
    assert max(map(len, rows)) <= COLUMNS, "a line runs over"
    printed = Counter(re.sub(r"\s", "", BORDERS.sub("", narrow)))
    expected = Counter(re.sub(r"\s", "", BORDERS.sub("", wide)))
    assert printed == expected, f"lost: {expected - printed}"
    there = Counter(FIGURE.findall(BORDERS.sub(" ", narrow)))
    short = {word: n for word, n in Counter(FIGURE.findall(BORDERS.sub(" ", wide))).items()
             if len(word) <= 20}  # fmt: skip
    torn = {word: n for word, n in short.items() if there[word] < n}
    assert not torn, f"torn or cut: {torn}"


def shipped_figures() -> Json:
    overall = json.loads((find_pretrained("redcnn") / "figures.json").read_text())
    return {"overall": overall}


def exported(number: int) -> Json:
    return {
        "series": f"{SERIES[:-1]}{number}", "folder": f"{SERIES[:-1]}{number}-{MODEL}-v12",
        "instances": 1204, "clipped_pixels": 123456, "warnings": [WARNING],
        "dose": {"dose_ratio": 4.25, "why": "its noise of 28.4 HU lacks that of a full dose"},
        "calibration": {"kernel_cutoff": 0.82, "photons_per_ray": 123456.0, "measured": True,
                        "measured_noise_hu": 28.4, "notes": ["the kernel was measured too"]},
        "audit": {"summary": "slices 12 to 19: more than noise was changed"},
    }  # fmt: skip


def applied() -> Json:
    return {
        "model": f"{MODEL}/12", "strength": 0.85, "exported": [exported(1), exported(2)],
        "failed": [], "quarantined": [], "dose_fraction": 0.25,
        "noise": "Yu et al. 2012, 123456 photons per ray, electronic noise of 10 quanta",
    }  # fmt: skip


def run_report() -> Json:
    verdict = {"passed": True, "checks": []}
    row = {"series": SERIES, "patient": PATIENT, "side": "validation", "slices": 1204,
           "warnings": [WARNING]}  # fmt: skip
    model = {"name": MODEL, "version": 12, "aliases": ["champion"], "strength": 1}
    return {
        **applied(), "series": [row, row], "task": "denoise", "metrics": shipped_figures(),
        "compared": {}, "model": model, "gate": verdict,
        "low_dose": [{"series": SERIES, "input": exported(3), "output": exported(4)}],
    }  # fmt: skip


def classes(interval: list[float] | None = None) -> Json:
    row = {"dice": 0.90123, "dice_interval": interval, "iou": 0.82012, "surface_dice": 0.93111,
           "hd95_mm": 112.4, "volume_error_ml": -1234.0, "missed": 12}  # fmt: skip
    names = ["left_lower_lobe_of_lung", "autochthonous_back_muscles", "aorta"]
    return {
        "overall": {
            "patients": 12, "classes": dict.fromkeys(names, row), "dice": 0.9,
            "surface_dice": 0.9, "dice_interval": interval,
            "doses": {"low dose, denoised": {"dice": 0.88, "dice_interval": interval}},
        }
    }  # fmt: skip


def restored() -> Json:
    found = {"psnr": 28.9923, "ssim": 0.85350, "chroma_error": 12.3, "flicker": 1.25}
    names = ("input", "wiener", "richardson_lucy", "total_variation", "output")
    window = {"centre": 127.5, "width": 255.0, **dict.fromkeys(names, found)}
    return {
        "overall": {
            "images": 24,
            "aggregation": "mean over pictures",
            "windows": {"levels": window},
        }
    }


def generated() -> Json:
    window = {"centre": -600.0, "width": 1500.0, "psnr": 28.31, "ssim": 0.8123}
    overall = {
        "images": 1204, "aggregation": "mean over images", "windows": {"lung": window},
        "pca": {"window": "soft_tissue", "psnr": 24.31}, "codes": 128, "active_latents": 17,
        "bound": {"bits_per_dim": 3.141, "kl": 123.4},
        "files": {"bits_per_pixel": 0.12345, "ms_ssim": 0.98765},
        "samples": {"distance_between_samples_over_distance_between_images": 0.98765, "copies": 12},
    }  # fmt: skip
    return {"overall": overall}


def study() -> Json:
    kappa = {"kappa": 0.71, "interval": [0.51, 0.88], "pairs": 128}
    row = {"original": 3.41, "denoised": 3.62, "difference": 0.21, "interval": [-0.11, 0.42],
           "non_inferior": False, "p": 0.03, "wilcoxon_p": 0.031, "intra_reader_kappa": kappa,
           "inter_reader_kappa": kappa}  # fmt: skip
    liked = {"denoised": 31, "original": 12, "neither": 5, "share": 0.72, "interval": [0.57, 0.84],
             "share_of_all": 0.71, "interval_of_all": [0.48, 0.9], "p_of_all": 0.062}  # fmt: skip
    return {
        "readers": ["r-1", "r-2"], "cases": 48, "readings": 192, "margin": 0.5, "preference": liked,
        "no_verdict": "",
        "criteria": dict.fromkeys(["noise", "diagnostic_acceptability", "sharpness"], row),
    }  # fmt: skip


def versions() -> list[VersionRow]:
    text = "soft_tissue 38.21 dB (+6.13), bias -0.4 HU"
    return [
        VersionRow(MODEL, 12, ["champion", "challenger"], "2026-11-29T10:11:12", "passed", 1.0, "",
                   {"text": text}, "d" * 64, "c" * 64, "w" * 64,
                   metrics={"test.soft_tissue.output.psnr": 38.2134, "validation.psnr": 37.1})
    ] * 2  # fmt: skip


def selection() -> Selection:
    one = RemoteSeries(
        collection="ldct_and_projection_data", patient="C001", uid="1.2.3", files=321,
        description="Full Dose Images, 1.5 mm, B30f", vendor="SIEMENS Healthineers",
        body_part="ABDOMEN", megabytes=123.4, licence="CC BY 4.0", doi="10.7937/9npb-2637",
    )  # fmt: skip
    return Selection([one] * 3, {"CC BY-NC 4.0": 12})


def checked() -> Json:
    row = {"series": f"{SERIES}-{MODEL}-v12", "instances": 1204, "problems": [], "files": 1204,
           "programs": ["dciodvfy", "dcentvfy"], "from_source": ["one", "two"]}  # fmt: skip
    return {"series": [row, row]}


def copied() -> Json:
    row = {"series": "2.25.329800735698586629295641978511506172918", "patient": "ANON-0a1b2c3d4e5f",
           "images": 1204}  # fmt: skip
    return {"series": [row, row], "warnings": []}


SCANNER = Scanner(
    photons_per_ray=1e5, electronic_noise=0.0, geometry=FanBeam(detectors=96, views=90)
)
SWEEP = Sweep(
    doses=(0.1, 0.25, 1.0), rods=(RodKind(4, 40), RodKind(8, 15)), regions=16, places=8,
    ring_radius_mm=32.0, body_radius_mm=55.0, grid=PhantomGrid(matrix=96, pixel_mm=1.25),
    region_pixels=17, channels=3, bootstraps=50,
)  # fmt: skip


def unchanged(image_hu: np.ndarray, dose: float) -> np.ndarray:
    return image_hu


def sweep_of_phantoms() -> object:
    generator = np.random.default_rng(3)
    found = dose_equivalence(unchanged, scanner=SCANNER, generator=generator, sweep=SWEEP)
    return quality.sweep_tables(found)


def phantoms() -> object:
    return quality.phantoms_table(measure_on_phantoms(Identity(), CONFIG, slices=2))


CONFIG = run_config(
    degradation={
        "target": "pipeline.physics.lowdose.LowDoseCT",
        "args": {"dose_fraction": 0.3, "photons_per_ray": 2e5, "detectors": 96, "views": 90},
    }
)
TABLES: dict[str, Callable[[], object]] = {
    "run": lambda: base.run_table(run_report(), OUT, REGISTRY),
    "ingest": lambda: base.ingest_table(run_report()),
    "apply": lambda: base.applied_table(applied(), OUT),
    "simulate": lambda: base.simulated_table(applied(), OUT),
    "check": lambda: base.checked_table(checked()),
    "deidentify": lambda: base.deidentified_table(copied(), OUT),
    "models": lambda: base.models_table(Ranking(versions(), [], {})),
    "models --sort": lambda: base.models_table(Ranking(versions(), METRICS, {})),
    "models export": lambda: base.deployed_table(DEPLOYED, OUT),
    "denoise": lambda: tasks.task_figures("denoise", shipped_figures()),
    "denoise, baselines": lambda: figures.figures_table(shipped_figures(), BASELINES),
    "segment": lambda: tasks.task_figures("segment", classes()),
    "segment, intervals": lambda: tasks.task_figures("segment", classes([0.851, 0.949])),
    "generate": lambda: tasks.task_figures("generate", generated()),
    "restore": lambda: tasks.task_figures("restore", restored()),
    "another task": lambda: tasks.plain_table(generated()),
    "dose sweep": sweep_of_phantoms,
    "phantoms": phantoms,
    "reader study": lambda: reader_study.study_table(study()),
    "fetch": lambda: selection_table(selection()),
}
REGISTRY = (
    "sqlite:///mlruns/mlflow.db",
    "mlflow ui --backend-store-uri sqlite:///mlruns/mlflow.db",
)
METRICS = ["test.soft_tissue.output.psnr", "validation.psnr"]
DEPLOYED = {
    "model": f"{MODEL}/12", "largest_difference": {"onnxruntime": 1.2e-4, "torch.export": 0.0}
}  # fmt: skip
BASELINES = {
    "non_local_means": {
        "tuning": {"strength": 12.3456, "unit": "HU"},
        "overall": shipped_figures()["overall"],
    }
}


@pytest.mark.parametrize("name", TABLES)
def test_a_table_fits_80_columns(name: str, capsys: pytest.CaptureFixture) -> None:
    fits(TABLES[name], capsys)


def test_a_metric_s_name_is_broken_after_its_dots_alone(capsys: pytest.CaptureFixture) -> None:
    shown = text_of(TABLES["models --sort"], COLUMNS, capsys)
    for part in {part for metric in METRICS for part in metric.split(".")}:
        assert part in shown


def test_the_interval_of_each_dice_is_shown_where_there_is_one(
    capsys: pytest.CaptureFixture,
) -> None:
    shown = text_of(lambda: tasks.classes_table(classes([0.851, 0.949])), COLUMNS, capsys)
    assert shown.count("0.85–0.95") == 3 + 1 + 1, "each class, their mean, the mean at low dose"
    assert "by bootstrap over patients" in shown
    without = text_of(lambda: tasks.classes_table(classes()), COLUMNS, capsys)
    assert "95 %" not in without
    assert "it takes two patients" in without
