"""The review page: complete in itself, safe with hostile text, honest about what is missing."""

from __future__ import annotations

import base64
import io
import math
import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.images import run_config
from helpers.report import WINDOW, a_curve, a_panel, a_run, some_figures
from PIL import Image

from pipeline.evaluation.contrast_table import TableRequest, contrast_table
from pipeline.evaluation.phantoms import measure_on_phantoms, sweep_doses
from pipeline.models.adapters.base import Identity
from pipeline.physics.phantoms.image_quality import PhantomGrid, RodKind
from pipeline.quality.dose_sweep import Sweep
from pipeline.report import charts
from pipeline.report.formatting import Examples, duration, fixed, grouped
from pipeline.report.pages import write_evaluation, write_report
from pipeline.report.slice_images import (
    Panel,
    centre_crop,
    difference_levels,
    difference_png,
    grey_levels,
    save_overview,
)

HOSTILE = "<script>alert('x')</script>"


@pytest.fixture
def report() -> dict[str, Any]:
    return a_run()


@pytest.fixture
def page(tmp_path: Path) -> Callable[..., str]:
    def write(report: dict[str, Any], panels: list[Panel] | None = None, curve: Any = ()) -> str:
        path = tmp_path / "report.html"
        write_report(report, panels=panels or [], curve=list(curve), path=path)
        return path.read_text(encoding="utf-8")

    return write


@pytest.fixture(scope="module")
def phantoms() -> dict[str, Any]:
    """Small phantoms, and a model that changes nothing."""
    return measure_on_phantoms(Identity(), run_config(), slices=2).to_dict()


@pytest.fixture(scope="module")
def sweep() -> dict[str, Any]:
    small = Sweep(
        doses=(0.25,),
        rods=(RodKind(8, 60),),
        regions=16,
        places=8,
        ring_radius_mm=32.0,
        body_radius_mm=55.0,
        grid=PhantomGrid(matrix=96, pixel_mm=1.25),
        region_pixels=17,
        channels=3,
        bootstraps=20,
    )
    return sweep_doses(Identity(), run_config(), small).to_dict()


@pytest.fixture
def evaluation_page(tmp_path: Path) -> Callable[..., str]:
    def write(**parts: Any) -> str:
        path = tmp_path / "evaluation.html"
        report = {"model": "models:/redcnn/3", "config": {"name": "denoise_redcnn"}, **parts}
        write_evaluation(report, panels=[], path=path)
        return path.read_text(encoding="utf-8")

    return write


class Reader(HTMLParser):
    """What a browser would fetch or follow, the tags, and the text it would show."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.tags: list[str] = []
        self.shown = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        wanted = ("src", "href", "srcset", "action", "data", "poster")
        self.links += [value or "" for name, value in attrs if name in wanted]

    def handle_data(self, data: str) -> None:
        if self.tags[-1:] not in (["style"], ["script"]):
            self.shown += " " + " ".join(data.split())


def test_nothing_is_fetched_and_nothing_runs(page, report):
    html = page(report, [a_panel()], a_curve(30))
    reader = Reader(html)
    assert reader.links
    assert all(link.startswith(("data:image/png;base64,", "#")) for link in reader.links)
    assert not {"script", "link", "iframe", "object", "base"} & set(reader.tags)
    assert not re.search(r"url\(|@import", html)


def test_every_link_inside_the_page_has_its_target(page, report):
    html = page(report)
    targets = {link[1:] for link in Reader(html).links if link.startswith("#")}
    assert targets <= set(re.findall(r'id="([^"]+)"', html))


def test_every_picture_decodes_and_slices_keep_their_pixels(page, report):
    html = page(report, [a_panel()], a_curve(30))
    pictures = [link for link in Reader(html).links if link.startswith("data:")]
    images = [Image.open(io.BytesIO(base64.b64decode(link.partition(",")[2]))) for link in pictures]
    for image in images:
        image.load()
    assert {image.format for image in images} == {"PNG"}
    assert [image.size for image in images].count((100, 80)) == 4
    assert [image.size for image in images].count((40, 32)) == 4
    first_whole = np.asarray(images[0])
    assert np.array_equal(first_whole, grey_levels(a_panel().target_hu, WINDOW))


def test_four_full_panels_stay_below_six_megabytes(page, report):
    noise = np.random.default_rng(0).normal(40, 50, (3, 512, 512)).astype(np.float32)
    noise[:, :100] = noise[:, -100:] = -1000  # as much air as above and below a patient
    panel = a_panel(target_hu=noise[0], input_hu=noise[1], output_hu=noise[2])
    assert len(page(report, [panel] * 4, a_curve(30))) < 6e6


def test_the_note_the_verdict_and_the_figures_with_their_conventions_are_said(page, report):
    shown = Reader(page(report, [a_panel()])).shown
    assert "AI-derived. Not for primary diagnosis." in shown
    assert "Gate passed" in shown
    assert "18.8 → 29.5 dB" in shown
    assert "+10.66 dB" in shown
    assert "centre 40 HU, width 400 HU (−160 to 240 HU, data range 400 HU)" in shown
    for convention in ("clipped to the window", "within the body", "mean over slices"):
        assert convention in shown


@pytest.mark.parametrize(
    ("gate", "verdict"),
    [({"passed": False, "checks": []}, "Gate not passed"), (None, "No gate was applied")],
)
def test_a_gate_not_passed_does_not_look_passed(page, report, gate, verdict):
    shown = Reader(page({**report, "gate": gate})).shown
    assert verdict in shown
    assert "Gate passed" not in shown


def test_hostile_text_is_shown_and_not_obeyed(page, report):
    refusal = {"file": HOSTILE, "reason": HOSTILE, "attribute": HOSTILE, "value": HOSTILE}
    report["quarantined"] = [refusal]
    report["name"] = report["series"][0]["description"]["Manufacturer"] = HOSTILE
    report["config"]["name"] = report["metrics"]["overall"]["aggregation"] = HOSTILE
    reader = Reader(page(report, [a_panel(title=HOSTILE, window_name=HOSTILE)]))
    assert "script" not in reader.tags
    assert reader.shown.count(HOSTILE) >= 9


def test_file_names_that_are_no_text_cost_a_letter_and_not_the_page(page, report):
    report["quarantined"] = [{"file": "bad\udcff.dcm", "reason": "not DICOM"}]
    assert "bad?.dcm" in page(report)


def test_figures_that_are_missing_give_a_dash(page, report):
    nothing = {"psnr": None, "ssim": None, "rmse_hu": None}
    overall = report["metrics"]["overall"]
    overall["windows"]["soft_tissue"] |= {"input": nothing, "output": nothing}
    report["gate"]["checks"][0]["figure"] = None
    report["stages"][0]["seconds"] = report["model"] = report["seconds"] = None
    shown = Reader(page(report, [a_panel(figures={"input": nothing, "output": {}})])).shown
    assert "– → – dB" in shown
    assert shown.count("PSNR – dB · SSIM – · RMSE – HU") == 2
    assert "None" not in shown
    assert "nan" not in shown


def test_who_exported_nothing_is_not_sent_to_the_review_page(page, report):
    assert "Open the review page" in page(report)
    assert "Open the review page" not in page({**report, "exported": []})


def test_a_run_that_stopped_early_still_gives_its_page(page):
    assert "No figures were measured." in page({"name": "stopped"})


@pytest.mark.parametrize("loss", [None, math.nan, 0.0, -1.0])
def test_a_curve_without_usable_losses_works(page, report, loss):
    curve = [{"iteration": 1, "loss": loss, "learning_rate": 1e-3, "patches_per_s": None}]
    assert 'alt="Training loss' in page(report, curve=curve)


def test_without_a_training_log_the_page_says_so(page, report):
    html = page(report, curve=[])
    assert "No training log" in html
    assert 'alt="Training loss' not in html


def test_the_difference_map_is_signed_and_its_scale_is_fixed():
    levels = difference_levels(np.array([[-1000.0, -100.0, 0.0, 100.0, 1000.0]]))
    assert levels.tolist() == [[0, 0, 128, 255, 255]]
    # The same 30 HU look the same beside 31 HU and beside 3000 HU.
    small, large = (difference_levels(np.array([30.0, other])) for other in (31.0, 3000.0))
    assert small[0] == large[0]


def test_darker_is_blue_and_brighter_is_orange():
    picture = Image.open(io.BytesIO(difference_png(np.array([[40, 128, 215]], dtype=np.uint8))))
    darker, equal, brighter = np.asarray(picture.convert("RGB"))[0].astype(int)
    assert darker[2] > darker[0]
    assert brighter[0] > brighter[2]
    assert equal.max() < 40


def test_the_difference_is_denoised_minus_full_dose():
    assert np.all(a_panel().difference_hu == -5)


def test_the_window_maps_its_ends_to_black_and_white():
    levels = grey_levels(np.array([-1000.0, -160.0, 240.0, 3000.0, np.nan]), WINDOW)
    assert levels.tolist() == [0, 0, 255, 255, 0]


def test_the_crop_is_centred_on_the_body_and_stays_inside():
    image_hu = np.full((100, 100), -1000.0, dtype=np.float32)
    image_hu[5:35, 50:90] = 40
    rows, columns = centre_crop(image_hu)
    assert (rows.start, rows.stop) == (0, 40)
    assert (columns.start, columns.stop) == (50, 90)


def test_the_crop_of_a_slice_without_a_body_is_its_middle():
    rows, columns = centre_crop(np.full((50, 100), -1000.0, dtype=np.float32))
    assert (rows.start, rows.stop, columns.start, columns.stop) == (15, 35, 30, 70)


def test_equal_refusals_become_one_row_with_their_count():
    cut = [{"file": f"{k}.dcm", "reason": "cut short", "value": str(k)} for k in range(5)]
    rows = grouped([{"file": "x", "reason": "no slope", "attribute": "RescaleSlope"}, *cut])
    assert [(row.reason, row.count) for row in rows] == [("cut short", 5), ("no slope", 1)]
    assert rows[0].files == Examples(["0.dcm", "1.dcm", "2.dcm"], more=2)


@pytest.mark.parametrize(
    ("value", "text"),
    [(-0.001, "+0.00"), (-3.4, "−3.40"), (None, "–"), (math.nan, "–"), (math.inf, "∞")],
)
def test_figures_read_well(value, text):
    assert fixed(value, signed=True) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(3.14, "3.1 s"), (59.97, "1 min 00 s"), (612.3, "10 min 12 s"), (7500, "2 h 05 min")],
)
def test_durations_read_well(seconds, text):
    assert duration(seconds) == text


def test_the_overview_is_a_picture_for_the_readme(tmp_path):
    path = tmp_path / "out" / "overview.png"
    path.parent.mkdir()
    save_overview([a_panel()], path)
    with Image.open(path) as image:
        assert image.format == "PNG"
        assert image.width == 1600
    assert list(path.parent.iterdir()) == [path]


def two_patients() -> dict[str, Any]:
    """Figures with intervals, as two patients or more have them."""
    metrics = {"overall": {"aggregation": "mean", "patients": 2, **some_figures()}}
    metrics["patients"] = {name: {"slices": 9, **some_figures()} for name in ("p-b", "p-c")}
    bounds = {"psnr": [28.11, 30.22], "ssim": [0.8, 0.9], "rmse_hu": [20, 30]}
    metrics["overall"]["intervals"] = {
        "level": 0.95,
        "method": "percentile bootstrap over patients",
        "windows": {"soft_tissue": dict.fromkeys(("input", "output", "change"), bounds)},
    }
    return metrics


def test_intervals_stand_beside_the_mean_of_all_patients(page, report):
    shown = Reader(page({**report, "metrics": two_patients()})).shown
    assert "28.11 to 30.22" in shown
    assert "95 % interval, percentile bootstrap over patients" in shown.replace("\xa0", " ")


def test_models_compared_stand_in_the_table(page, report):
    other = {"overall": some_figures()}
    other["overall"]["windows"]["soft_tissue"]["output"] = {"psnr": 25.55}
    shown = Reader(page({**report, "compared": {"redcnn@pretrained": other}})).shown
    assert re.search(r"redcnn@pretrained\s+25\.55", shown)
    assert "tuned" not in shown


def test_one_patient_is_not_called_all(page, report):
    other = {"overall": some_figures()}
    html = page({**report, "compared": {"redcnn@pretrained": other}})
    assert ">all<" not in html
    assert html.count("soft_tissue<small>") == 1, "one block of rows, the compared model in it"
    assert ">all<small>2 patients" in page({**report, "metrics": two_patients()})


def test_a_window_that_not_all_patients_have_counts_its_own(page, report):
    metrics = two_patients()
    metrics["overall"]["windows"]["soft_tissue"]["patients"] = 1
    metrics["overall"]["unmeasured"] = [{"series": "s-9", "anatomy": "knee"}]
    shown = Reader(page({**report, "metrics": metrics})).shown
    assert re.search(r"shown in this window\s*1 patient\b", shown)
    assert "no window for their anatomy: s-9 (knee)." in shown


def test_a_split_that_is_not_whole_is_told(page, report):
    told = "split eulig2024: 12 of its 150 cases; the figures are not those of the publication"
    assert told not in Reader(page(report)).shown
    assert told in Reader(page({**report, "published_split": {"summary": told}})).shown


def test_the_precision_is_told_with_its_reason(page, report):
    report["precision"] = {"used": "fp32", "why": "bf16 failed: iteration 97, in bf16"}
    assert "fp32, bf16 failed: iteration 97, in bf16" in Reader(page(report)).shown


def test_the_strength_is_told_where_it_is_not_whole(page, report, evaluation_page):
    report["model"]["strength"] = 1.0
    assert "at strength" not in Reader(page(report)).shown
    report["model"]["strength"] = 0.4
    assert "version 3 at strength 0.4" in Reader(page(report)).shown
    assert "Evaluation of models:/redcnn/3 at strength 0.4" in evaluation_page(strength=0.4)


def test_without_intervals_the_page_says_why(page, report):
    report["metrics"]["overall"]["intervals"] = {"level": 0.95, "windows": None}
    assert "No intervals: they take two patients." in Reader(page(report)).shown


def test_the_profile_tells_its_row_and_marks_it(page, report):
    html = page(report, [a_panel()])
    assert "row 41 of 80, within the frame" in Reader(html).shown
    # The middle of the row with index 40.
    assert re.search(r'class="line" style="top: 50\.62%', html)


def test_the_worst_slices_are_told_from_the_usual_ones(page, report, tmp_path):
    worst = a_panel(remark="lowest PSNR of all", output_hu=a_panel().target_hu + 90)
    assert Reader(page(report, [worst, a_panel()])).shown.count("lowest PSNR of all") == 1
    for name, panels in (("both", [worst, a_panel()]), ("usual", [a_panel()])):
        save_overview(panels, tmp_path / name)
    # The picture for the README is of a usual slice.
    assert (tmp_path / "both").read_bytes() == (tmp_path / "usual").read_bytes()


def test_phantoms_are_shown_where_they_were_measured(page, report, phantoms):
    assert "Noise texture and sharpness" not in page(report)
    html = page({**report, "phantoms": phantoms})
    shown = Reader(html).shown
    assert "dose 0.25 of 150,000 photons per ray" in shown
    noise = phantoms["full_dose"]["noise_power"]["noise_hu"]
    assert f"{noise:.1f}" in shown
    assert html.count("data:image/png") == page(report).count("data:image/png") + 2


def test_an_evaluation_fetches_nothing_and_says_all(evaluation_page, sweep, phantoms, tmp_path):
    baseline = {"tuning": {"strength": 0.84, "unit": "sigma in pixels"}, "overall": some_figures()}
    baseline["overall"]["windows"]["soft_tissue"]["output"] = {"psnr": 25.55}
    html = evaluation_page(
        figures=two_patients(),
        baselines={"gaussian": baseline},
        dose_sweep=sweep,
        phantoms=phantoms,
    )
    reader = Reader(html)
    assert all(link.startswith(("data:image/png;base64,", "#")) for link in reader.links)
    targets = {link[1:] for link in reader.links if link.startswith("#")}
    assert targets <= set(re.findall(r'id="([^"]+)"', html))
    answer = sweep["equivalent_dose_all_rods"]["answer"]
    for text in (f"together: {answer}", "25.55", "sigma in pixels 0.84", "28.11 to 30.22"):
        assert text in " ".join(reader.shown.split()).replace(" ,", ",")
    for name in ("dose-curve.png", "noise-power.png", "transfer.png"):
        with Image.open(tmp_path / name) as image:
            assert image.format == "PNG"


def test_an_answer_of_none_is_said_and_explained(evaluation_page, sweep):
    none = {"answer": "none", "dose": None, "interval_in_words": "0.90 to none"}
    none = {**sweep["equivalent_dose_all_rods"], **none}
    shown = Reader(evaluation_page(dose_sweep={**sweep, "equivalent_dose_all_rods": none})).shown
    assert "not even denoised full dose does" in shown
    assert re.search(r"together:\s+none", shown)


def test_what_was_not_measured_has_no_section(evaluation_page):
    shown = Reader(evaluation_page()).shown
    for heading in ("Detectability", "Noise texture", "HU bias", "Slices"):
        assert heading not in shown


def test_bias_of_no_tissue_has_no_chart():
    assert charts.bias_png(None) is None
    assert charts.bias_png({"input": {"lung": None}, "output": {"lung": None}}) is None
    assert charts.bias_png({"input": {"lung": 1.0}, "output": {"lung": -2.0}}) is not None


def test_what_is_unlike_the_models_training_is_told_before_all_else(page, report):
    told = f"UNLIKE THE MODEL'S TRAINING: kernel {HOSTILE}; training saw STANDARD."
    report["exported"][0] |= {"drift": ["kernel"], "drift_line": told}
    shown = page(report).split("</head>")[1]
    assert HOSTILE not in shown
    assert shown.index("UNLIKE THE MODEL") < shown.index("<h1>")
    report["exported"][0] |= {"drift_line": "Likeness to the model's training: not known."}
    assert "training: not known" in page(report).split("<h1>")[0]


def test_what_survives_is_a_picture_and_a_table(page, report):
    request = TableRequest(
        doses=(0.25,), contrasts_hu=(20.0,), realisations=1, strengths=(1.0,), observer=False
    )
    report["contrast"] = contrast_table(Identity(), run_config(), request).to_dict()
    shown = page(report)
    assert "What survives" in shown
    assert "3.0 mm / 20.0 HU" in shown
    assert "keeps about 0.65" in shown
