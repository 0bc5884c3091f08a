"""The closing table of figures on patients, for people."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

from pipeline.core.types import Json
from pipeline.report.formatting import NOT_MEASURED

out_console = Console()
NONE = NOT_MEASURED
#: Heading and decimals of each figure.
HEADINGS = {
    "psnr": ("PSNR dB", 2),
    "ssim": ("SSIM", 4),
    "rmse_hu": ("RMSE HU", 1),
    "vif": ("VIF", 3),
    "gmsd": ("GMSD", 4),
    "ms_ssim": ("MS-SSIM", 4),
}
#: Worst slices shown of each kind.
WORST = 3


def figures_table(figures: Json, baselines: dict[str, Json] | None = None) -> None:
    """Undenoised, baselines and denoised for each window, with intervals; bias; worst slices."""
    overall, baselines = figures["overall"], baselines or {}
    windows = overall["windows"]
    measured = [name for name in HEADINGS if name in next(iter(windows.values()))["input"]]
    table = Table(title=_title(overall), caption=_caption(overall))
    table.add_column("window (centre/width HU)")
    table.add_column("")
    for name in measured:
        table.add_column(HEADINGS[name][0], justify="right")
    for name, window in windows.items():
        place = f"{name} ({window['centre_hu']:g}/{window['width_hu']:g})"
        for label, of, kind in _rows(overall, baselines):
            cells = [_cell(of, name, kind, figure) for figure in measured]
            table.add_row(place, label, *cells)
            place = ""
        table.add_section()
    out_console.print(table)
    _bias_table(overall, baselines)
    _worst_table(overall)


def word_columns(table: Table, *names: str) -> None:
    """Columns of words: on a narrow terminal their cells go on in the next line."""
    for name in names:
        table.add_column(name, overflow="fold")


def figure_columns(table: Table, *names: str) -> None:
    """Columns of figures, which stay on one line on any terminal."""
    for name in names:
        table.add_column(name, justify="right", no_wrap=True)


def number(value: float | None, digits: int) -> str:
    """A figure with so many decimals; NONE where it was not measured."""
    return NONE if value is None else f"{value:.{digits}f}"


def _rows(overall: Json, baselines: dict[str, Json]) -> list[tuple[str, Json, str]]:
    """(label, whose overall figures, which kind) of each row, the model last."""
    rows = [("undenoised", overall, "input")]
    for name, found in baselines.items():
        strength = f"{found['tuning']['strength']:.3g} ({found['tuning']['unit']})"
        rows.append((f"{name.replace('_', ' ')}, {strength}", found["overall"], "output"))
    return [*rows, ("denoised", overall, "output")]


def _title(overall: Json) -> str:
    convention = overall.get("convention")
    measured_by = f"; convention {convention}" if convention else ""
    return f"{overall['patients']} held-back patient(s){measured_by}; {overall['aggregation']}"


def _caption(overall: Json) -> str:
    intervals = overall.get("intervals") or {}
    caption = f"PSNR, SSIM: {overall['psnr_and_ssim']}. RMSE: {overall['rmse']}."
    if intervals.get("windows"):
        caption += f" In brackets: {intervals['level']:.0%} interval, {intervals['method']}."
    elif intervals:
        caption += " No interval: it takes two patients."
    return caption


def _cell(overall: Json, window: str, kind: str, figure: str) -> str:
    digits = HEADINGS[figure][1]
    text = number(overall["windows"][window][kind].get(figure), digits)
    bounds = (overall.get("intervals") or {}).get("windows")
    if not bounds:
        return text
    low, high = bounds[window][kind][figure]
    return f"{text}\n[dim]({number(low, digits)}–{number(high, digits)})[/dim]"


def _bias_table(overall: Json, baselines: dict[str, Json]) -> None:
    tissues = overall["hu_bias"]["output"]
    table = Table(title="Bias: mean of image − full dose, HU")
    table.add_column("")
    for tissue in tissues:
        table.add_column(tissue.replace("_", " "), justify="right")
    for label, of, kind in _rows(overall, baselines):
        bias = of["hu_bias"].get(kind)
        if bias:
            cells = [NONE if bias[t] is None else f"{bias[t]:+z.2f}" for t in tissues]
            table.add_row(label, *cells)
    out_console.print(table)


def _worst_table(overall: Json) -> None:
    """Where to look first: the slices of the lowest PSNR, and of the least gain."""
    by_window = overall.get("worst_slices") or {}
    if not by_window:
        return
    window, worst = next(iter(by_window.items()))
    table = Table(title=f"Slices to look at first, window {window}")
    for column in ("", "patient", "series", "slice", "PSNR dB"):
        table.add_column(column, justify="right" if column == "slice" else "left")
    for why, key in (("lowest PSNR", "output_psnr"), ("least gain", "psnr_change")):
        for row in worst[key][:WORST]:
            change = f"{number(row['input_psnr'], 2)} → {number(row['output_psnr'], 2)}"
            table.add_row(why, row["patient"], row["series"], str(row["slice"] + 1), change)
    out_console.print(table)
