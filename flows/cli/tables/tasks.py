"""The closing table of figures of each task."""

from __future__ import annotations

from collections.abc import Sequence

from rich import box
from rich.table import Table

from flows.cli.tables.figures import (
    NONE,
    figure_columns,
    figures_table,
    number,
    out_console,
    word_columns,
)
from flows.cli.tables.generation import generation_table
from flows.cli.tables.restoration import restoration_table
from pipeline.core.types import Json

INTERVAL = "95 %: interval of the mean Dice, by bootstrap over patients."


def task_figures(task: str, figures: Json) -> None:
    """Figures of held-back patients, as the task has them."""
    _TABLES.get(task, plain_table)(figures)


def plain_table(figures: Json) -> None:
    """The numbers and texts of `overall`, a row each: for a task without a table of its own."""
    table = Table(title="Held-back patients", show_header=False)
    word_columns(table, "", "")
    for name, value in figures["overall"].items():
        if isinstance(value, int | float | str):
            text = f"{value:.4g}" if isinstance(value, float) else str(value)
            table.add_row(name.replace("_", " "), text)
    out_console.print(table)


def classes_table(figures: Json) -> None:
    """A row for each class, with the interval of its Dice where there are patients enough; then
    what dose and denoising do to the mean."""
    overall = figures["overall"]
    intervals = {name: row.get("dice_interval") for name, row in overall["classes"].items()}
    shown = any(intervals.values())
    table = Table(
        title=f"{overall['patients']} held-back patient(s), mean over patients",
        caption=INTERVAL if shown else "No interval: it takes two patients.",
        box=box.SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
    )
    word_columns(table, "class")
    dice = ["Dice", "95 %"] if shown else ["Dice"]
    figure_columns(table, *dice, "IoU", "surface Dice", "HD95 mm", "volume ml", "missed")
    for name, row in overall["classes"].items():
        cells = [number(row["dice"], 3), _between(intervals[name])][: len(dice)]
        cells += [number(row[figure], 3) for figure in ("iou", "surface_dice")]
        distance, volume = number(row["hd95_mm"], 1), number(row["volume_error_ml"], 0)
        table.add_row(name, *cells, distance, volume, str(row["missed"]))
    mean = [number(overall["dice"], 3), _between(overall.get("dice_interval"))][: len(dice)]
    mean += ["", number(overall["surface_dice"], 3)]
    table.add_row("mean", *mean, "", "", "", style="bold")
    out_console.print(table)
    for image, found in overall.get("doses", {}).items():
        out_console.print(_at_dose(image, found))


def _between(interval: Sequence[float] | None) -> str:
    """The ends of an interval of Dice; NONE where there is none."""
    return NONE if interval is None else "–".join(number(end, 2) for end in interval)


def _at_dose(image: str, found: Json) -> str:
    interval = found.get("dice_interval")
    ends = f" ({_between(interval)})" if interval else ""
    return f"Dice at {image}: {number(found['dice'], 3)}{ends}"


_TABLES = {
    "denoise": figures_table,
    "segment": classes_table,
    "generate": generation_table,
    "restore": restoration_table,
}
