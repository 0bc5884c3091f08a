"""The closing table of figures of each task."""

from __future__ import annotations

from rich import box
from rich.table import Table

from flows.cli.tables.figures import (
    figure_columns,
    figures_table,
    number,
    out_console,
    word_columns,
)
from flows.cli.tables.generation import generation_table
from flows.cli.tables.restoration import restoration_table
from pipeline.core.types import Json


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
    """A row for each class; then what dose and denoising do to the mean."""
    overall = figures["overall"]
    table = Table(
        title=f"{overall['patients']} held-back patient(s), mean over patients",
        box=box.SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
    )
    word_columns(table, "class")
    figure_columns(table, "Dice", "IoU", "surface Dice", "HD95 mm", "volume ml", "missed")
    for name, row in overall["classes"].items():
        cells = [number(row[figure], 3) for figure in ("dice", "iou", "surface_dice")]
        distance, volume = number(row["hd95_mm"], 1), number(row["volume_error_ml"], 0)
        table.add_row(name, *cells, distance, volume, str(row["missed"]))
    mean = [number(overall["dice"], 3), "", number(overall["surface_dice"], 3)]
    table.add_row("mean", *mean, "", "", "", style="bold")
    out_console.print(table)
    for image, found in overall.get("doses", {}).items():
        out_console.print(f"Dice at {image}: {number(found['dice'], 3)}")


_TABLES = {
    "denoise": figures_table,
    "segment": classes_table,
    "generate": generation_table,
    "restore": restoration_table,
}
