"""The review pages: everything in one file, nothing fetched, nothing run."""

from __future__ import annotations

import base64
from collections import Counter
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import yaml
from jinja2 import ChainableUndefined, Environment, FileSystemLoader
from numpy.typing import NDArray

from pipeline.core.atomic_files import replacing, write_text
from pipeline.core.types import Json
from pipeline.core.units import TISSUE_RANGES_HU
from pipeline.evaluation.contrast_table import ContrastTable
from pipeline.evaluation.noise_ceiling import FORMULA
from pipeline.evaluation.pair_figures import PairFigures, PairGroup
from pipeline.inference.drift import first_lines
from pipeline.quality.dose_equivalence import DoseSweep
from pipeline.quality.phantom_metrics import PhantomFigures
from pipeline.quality.summary import (
    NONE_MEANS,
    equivalent_doses,
    phantom_conditions,
    phantom_rows,
    sweep_conditions,
)
from pipeline.report import charts, slice_images
from pipeline.report.charts import Curve
from pipeline.report.contrast import PLAINLY, card_text, contrast_png
from pipeline.report.formatting import (
    change,
    day,
    duration,
    fixed,
    grouped,
    median,
    or_dash,
)
from pipeline.report.slice_images import Crop, Levels, Panel, difference_png, grey_png

#: Beside evaluation.html: what survives, in Markdown for a model card.
CONTRAST_TEXT = "contrast.md"


def write_report(report: Json, *, panels: list[Panel], curve: Curve, path: Path) -> None:
    """Write the review page of a run to `path`.

    `report` is what report.json holds, `curve` the training log: iteration, loss,
    learning_rate, patches_per_s. Both may lack figures; the page then shows a dash.
    """
    write_run_page(
        "report.html",
        report,
        curve=curve,
        path=path,
        **_denoised(report.get("metrics"), panels),
        others=report.get("compared") or {},
        phantoms=shown_phantoms(report.get("phantoms")),
        contrast=shown_contrast(report.get("contrast")),
    )


def write_run_page(template: str, report: Json, *, curve: Curve, path: Path, **shown: Any) -> None:
    """A run's page from a template that is report.html, or extends it: `shown` is what the
    task's own blocks need."""
    write_page(
        template,
        path,
        report=report,
        **_measured(report.get("metrics"), report.get("config")),
        curve=data_uri(charts.training_png(curve)) if curve else None,
        speed=median([point.get("patches_per_s") for point in curve]),
        drift_lines=first_lines(report.get("exported") or []),
        sides=Counter((report.get("split") or {}).values()),
        quarantined=grouped(report.get("quarantined") or []),
        excluded=grouped(report.get("excluded") or []),
        **shown,
    )


def write_evaluation(report: Json, *, panels: list[Panel], path: Path) -> None:
    """Write the page of `ldct evaluate` to `path`, and its curves as PNG beside it.

    `report` is what evaluation.json holds: "model", "config", and of "figures", "baselines",
    "dose_sweep", "phantoms" and "contrast" those that were measured; of the last also the text
    for a model card.
    """
    write_page(
        "evaluation.html",
        path,
        report=report,
        **_measured(report.get("figures"), report.get("config")),
        **_denoised(report.get("figures"), panels),
        **_paired(report.get("figures")),
        others=report.get("baselines") or {},
        phantoms=shown_phantoms(report.get("phantoms")),
        sweep=shown_sweep(report.get("dose_sweep")),
        contrast=shown_contrast(report.get("contrast")),
        quarantined=grouped(report.get("quarantined") or []),
        excluded=grouped(report.get("excluded") or []),
    )
    for name, png in evaluation_charts(report).items():
        with replacing(path.with_name(name)) as partial:
            partial.write_bytes(png)
    if found := report.get("contrast"):
        write_text(path.with_name(CONTRAST_TEXT), card_text(ContrastTable.from_dict(found)))


def evaluation_charts(report: Json) -> dict[str, bytes]:
    """The curves of a dose sweep and of phantoms, PNG by file name."""
    found = {}
    if sweep := report.get("dose_sweep"):
        found["dose-curve.png"] = charts.dose_png(DoseSweep.from_dict(sweep))
    if phantoms := report.get("phantoms"):
        figures = PhantomFigures.from_dict(phantoms)
        found["noise-power.png"] = charts.noise_power_png(figures)
        found["transfer.png"] = charts.transfer_png(figures)
    if contrast := report.get("contrast"):
        found["contrast.png"] = contrast_png(ContrastTable.from_dict(contrast))
    return found


def write_page(template: str, path: Path, **shown: Any) -> None:
    """A page from a template, which `shown` fills."""
    html = _environment().get_template(template).render(**shown)
    # File names may hold bytes that are no text, which UTF-8 refuses.
    write_text(path, html.encode("utf-8", "replace").decode("utf-8"))


def _measured(metrics: Json | None, config: Any) -> Json:
    """What all pages show: figures and configuration."""
    overall = (metrics or {}).get("overall") or {}
    dose = ((config or {}).get("degradation") or {}).get("args", {}).get("dose_fraction")
    return {
        "metrics": metrics,
        "overall": overall,
        "patients": (metrics or {}).get("patients") or {},
        "dose": dose,
        "config_yaml": _as_yaml(config),
    }


def _paired(figures: Json | None) -> Json:
    """Real pairs, by kernel and dose and each by itself."""
    found = figures or {}
    return {
        "groups": [PairGroup.from_dict(group) for group in found.get("groups", [])],
        "pairs": [PairFigures.from_dict(pair) for pair in found.get("pairs", [])],
        "formula": FORMULA,
    }


def _denoised(metrics: Json | None, panels: list[Panel]) -> Json:
    """What the pages of denoisers show: windows, bias, slices."""
    overall = (metrics or {}).get("overall") or {}
    return {
        "windows": overall.get("windows") or {},
        "bias_chart": data_uri(charts.bias_png(overall.get("hu_bias"))),
        "panels": [_film(panel) for panel in panels],
        "colour_bar": data_uri(slice_images.colour_bar_png()),
        "difference_limit_hu": slice_images.DIFFERENCE_LIMIT_HU,
        "enlargement": slice_images.ENLARGEMENT,
    }


def shown_phantoms(found: Json | None) -> Json | None:
    """What _phantoms.html needs."""
    if not found:
        return None
    figures = PhantomFigures.from_dict(found)
    rows = phantom_rows(figures)
    return {
        "conditions": phantom_conditions(figures),
        "noise_power": data_uri(charts.noise_power_png(figures)),
        "transfer": data_uri(charts.transfer_png(figures)),
        "groups": [(group, list(each)) for group, each in groupby(rows, lambda row: row.group)],
    }


def shown_sweep(found: Json | None) -> Json | None:
    """What _sweep.html needs."""
    if not found:
        return None
    sweep = DoseSweep.from_dict(found)
    return {
        **found,
        "conditions": sweep_conditions(sweep),
        "chart": data_uri(charts.dose_png(sweep)),
        "answers": equivalent_doses(sweep),
        "none_means": NONE_MEANS,
    }


def shown_contrast(found: Json | None) -> Json | None:
    """What _contrast.html needs."""
    if not found:
        return None
    table = ContrastTable.from_dict(found)
    return {"chart": data_uri(contrast_png(table)), "plainly": PLAINLY, "table": table}


def _as_yaml(config: Any) -> str:
    return yaml.safe_dump(config, sort_keys=False, allow_unicode=True, default_flow_style=None)


def _environment() -> Environment:
    """Lenient on what is missing: after hours of training, a gap must not cost the page."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=ChainableUndefined,
        finalize=or_dash,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(fixed=fixed, duration=duration, day=day)
    environment.globals.update(change=change, tissues=TISSUE_RANGES_HU)
    return environment


@dataclass(frozen=True)
class _Column:
    """A slice whole and its centre, as data URIs. kind: input, output, reference or difference."""

    title: str
    kind: str
    whole: str | None
    centre: str | None

    @classmethod
    def of(cls, title: str, kind: str, levels: Levels, crop: Crop) -> _Column:
        to_png = difference_png if kind == "difference" else grey_png
        return cls(title, kind, data_uri(to_png(levels)), data_uri(to_png(levels[crop])))


@dataclass(frozen=True)
class _Line:
    """The row of pixels that a profile is of, from 1, of how many, and where it is in CSS."""

    row: int
    rows: int
    top: str


@dataclass(frozen=True)
class _Film:
    """A panel as the template needs it: four columns, and a profile along the middle row of
    their centre. box: where the centre lies in the slice, in CSS."""

    panel: Panel
    columns: list[_Column]
    box: dict[str, str]
    line: _Line
    profile: str | None


def _film(panel: Panel) -> _Film:
    crop = slice_images.centre_crop(panel.target_hu)
    images = [
        ("full dose", "reference", panel.target_hu),
        ("low dose", "input", panel.input_hu),
        ("denoised", "output", panel.output_hu),
    ]
    columns = [
        _Column.of(title, kind, slice_images.grey_levels(image_hu, panel.window), crop)
        for title, kind, image_hu in images
    ]
    levels = slice_images.difference_levels(panel.difference_hu)
    columns.append(_Column.of("denoised − full dose", "difference", levels, crop))
    rows = len(panel.target_hu)
    row = (crop[0].start + crop[0].stop) // 2
    profile = charts.profile_png(
        target_hu=panel.target_hu[row, crop[1]],
        input_hu=panel.input_hu[row, crop[1]],
        output_hu=panel.output_hu[row, crop[1]],
        pixel_mm=panel.pixel_mm,
    )
    line = _Line(row + 1, rows, top=f"{100 * (row + 0.5) / rows:.2f}%")
    return _Film(panel, columns, _percent(crop, panel.target_hu), line, data_uri(profile))


def _percent(crop: Crop, image: NDArray) -> dict[str, str]:
    """Where the crop lies in the slice, in CSS."""
    rows, columns = image.shape
    return {
        "top": f"{100 * crop[0].start / rows:.2f}%",
        "left": f"{100 * crop[1].start / columns:.2f}%",
        "height": f"{100 * (crop[0].stop - crop[0].start) / rows:.2f}%",
        "width": f"{100 * (crop[1].stop - crop[1].start) / columns:.2f}%",
    }


def data_uri(png: bytes | None) -> str | None:
    """A PNG within the page itself."""
    if png is None:
        return None
    return "data:image/png;base64," + base64.b64encode(png).decode("ascii")
