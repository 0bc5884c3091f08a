"""What quality.py measured, as Markdown."""

from __future__ import annotations

from typing import Any

import machine

from pipeline.quality.dose_equivalence import DoseSweep
from pipeline.quality.phantom_metrics import PhantomFigures
from pipeline.quality.summary import (
    NONE_MEANS,
    equivalent_doses,
    phantom_conditions,
    phantom_rows,
    sweep_conditions,
)

WINDOW = "soft_tissue"
FIGURES = (("psnr", 2), ("ssim", 4), ("rmse_hu", 1))
ARMS = ("undenoised", "denoised", "full_dose")


def markdown(results: dict[str, Any]) -> str:
    lines = [machine.described(results["machine"]), ""]
    if results.get("patients"):
        lines += patients_tables(results)
    if "conventions" in results:
        lines += conventions_table(results["conventions"])
    for label, figures in results.get("phantoms", {}).items():
        lines += phantoms_table(label, figures)
    for label, sweep in results.get("dose", {}).items():
        lines += dose_tables(label, sweep)
    lines += [f"- {label}: {note}" for label, note in results["networks"].items()]
    return "\n".join(lines) + "\n"


def patients_tables(results: dict[str, Any]) -> list[str]:
    """Means over patients, then PSNR patient by patient."""
    rows = results["patients"]
    overall = next(iter(rows.values()))["overall"]
    window, dose = overall["windows"][WINDOW], results["degradation"]["args"]
    names = list(results["slices"])
    lines = [
        f"## {len(names)} patients, each held back in turn",
        "",
        f"{dose['dose_fraction']:.0%} dose, {dose['photons_per_ray']:g} photons per ray at full "
        f"dose. Window {window['centre_hu']:g}/{window['width_hu']:g} HU. PSNR and SSIM: "
        f"{overall['psnr_and_ssim']}. RMSE: {overall['rmse']}. Figures: "
        f"{overall['aggregation']}. In brackets: {overall['intervals']['level']:.0%} interval, "
        f"{overall['intervals']['method']}.",
        "",
        "| | mean over | PSNR dB | SSIM | RMSE HU | bias HU: lung | fat | soft tissue | bone |",
        "|---|---|---|---|---|---|---|---|---|",
        mean_row("low dose", next(iter(rows.values())), "input"),
    ]
    lines += [mean_row(label, row, "output") for label, row in rows.items()]
    lines += ["", f"| PSNR dB | {' | '.join(names)} |", "|---" * (len(names) + 1) + "|"]
    lines.append(patient_row("low dose", next(iter(rows.values())), "input", names))
    lines += [patient_row(label, row, "output", names) for label, row in rows.items()]
    return [*lines, ""]


def mean_row(label: str, row: dict[str, Any], kind: str) -> str:
    overall, cells = row["overall"], []
    bounds = overall["intervals"]["windows"]
    for figure, digits in FIGURES:
        cell = number(overall["windows"][WINDOW][kind][figure], digits)
        if bounds:
            low, high = bounds[WINDOW][kind][figure]
            cell += f" ({number(low, digits)} to {number(high, digits)})"
        cells.append(cell)
    cells += [number(bias, 2, sign="+") for bias in overall["hu_bias"][kind].values()]
    return f"| {label} | {len(row['over'])} patients | {' | '.join(cells)} |"


def patient_row(label: str, row: dict[str, Any], kind: str, names: list[str]) -> str:
    cells = []
    for name in names:
        summary = row["patients"].get(name)
        cell = number(summary and summary["windows"][WINDOW][kind]["psnr"], 2)
        if kind == "output" and name in row["tuning"]:
            cell += f" ({row['tuning'][name]['strength']:.3g})"
        cells.append(cell)
    unit = next((f" ({t['unit']})" for t in row["tuning"].values()), "") if kind != "input" else ""
    return f"| {label}{unit} | {' | '.join(cells)} |"


def conventions_table(rows: list[dict[str, Any]]) -> list[str]:
    labels = list(rows[0]["figures"])
    heads = [f"{label}: {name}" for label in labels for name in ("PSNR dB", "SSIM", "RMSE HU")]
    lines = [
        "## One slice in every convention",
        "",
        "The same images in every row: figures of two conventions are never to be compared.",
        "",
        f"| convention | window, centre/width HU | {' | '.join(heads)} |",
        "|---" * (len(heads) + 2) + "|",
    ]
    for row in rows:
        cells = [
            number(row["figures"][label][figure], digits)
            for label in labels
            for figure, digits in FIGURES
        ]
        place = f"{row['window']} {row['centre_hu']:g}/{row['width_hu']:g}"
        lines.append(f"| {row['convention']} | {place} | {' | '.join(cells)} |")
    return [*lines, ""]


def phantoms_table(label: str, figures: dict[str, Any]) -> list[str]:
    lines = [
        f"## {label} on phantoms",
        "",
        f"At {phantom_conditions(PhantomFigures.from_dict(figures))}.",
        "",
        "| | undenoised | denoised | full dose |",
        "|---|---|---|---|",
    ]
    for row in phantom_rows(PhantomFigures.from_dict(figures)):
        sign = "+" if row.signed else ""
        cells = [number(row.values[arm], row.decimals, sign=sign) for arm in ARMS]
        lines.append(f"| {row.group}: {row.name} | {' | '.join(cells)} |")
    return [*lines, ""]


def dose_tables(label: str, sweep: dict[str, Any]) -> list[str]:
    lines = [
        f"## {label}: detectability against dose",
        "",
        f"{sweep_conditions(DoseSweep.from_dict(sweep))}. {NONE_MEANS}",
        "",
        "| rod | equivalent dose | interval |",
        "|---|---|---|",
    ]
    lines += [
        f"| {rod} | {answer} | {words} |"
        for rod, answer, words in equivalent_doses(DoseSweep.from_dict(sweep))
    ]
    lines += [
        "",
        "| rod | dose | d' undenoised | d' denoised | AUC undenoised | AUC denoised |",
        "|---|---|---|---|---|---|",
    ]
    for rod in sweep["rods"]:
        for point in rod["curve"]:
            cells = [
                between(point[arm], figure, digits)
                for figure, digits in (("d_prime", 2), ("auc", 3))
                for arm in ("undenoised", "denoised")
            ]
            lines.append(f"| {rod['name']} | {point['dose_fraction']:g} | {' | '.join(cells)} |")
    return [*lines, *(f"\n{warning}" for warning in sweep["warnings"]), ""]


def between(seen: dict[str, Any], figure: str, digits: int) -> str:
    low, high = seen[f"{figure}_interval"]
    return f"{seen[figure]:.{digits}f} ({low:.{digits}f} to {high:.{digits}f})"


def number(value: float | None, digits: int, *, sign: str = "") -> str:
    return "–" if value is None else f"{value:{sign}.{digits}f}"
