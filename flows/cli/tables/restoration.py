"""The closing tables of restoring: figures of a run, and pictures that a model was applied to."""

from __future__ import annotations

from pathlib import Path

from rich.table import Table

from flows.cli.tables.figures import number, out_console
from pipeline.core.types import Json

#: Figures of an answer: the column's title, and digits.
FIGURES = {
    "psnr": ("PSNR dB", 2),
    "ssim": ("SSIM", 4),
    "chroma_error": ("chroma error", 1),
    "flicker": ("flicker", 2),
    "mean_iou": ("mean IoU", 3),
}


def restoration_table(figures: Json) -> None:
    """Input, references and output in each window."""
    overall = figures["overall"]
    table = Table(title=f"{overall['images']} held-back pictures; {overall['aggregation']}")
    rows = {name: _answers(window) for name, window in overall["windows"].items()}
    every = [found for answers in rows.values() for found in answers.values()]
    measured = {figure for found in every for figure in found}
    shown = [figure for figure in FIGURES if figure in measured]
    table.add_column("window (centre/width)")
    table.add_column("")
    for figure in shown:
        table.add_column(FIGURES[figure][0], justify="right")
    for name, answers in rows.items():
        window = overall["windows"][name]
        place = f"{name} ({window['centre']:g}/{window['width']:g})"
        for answer, found in sorted(answers.items(), key=lambda item: item[0] == "output"):
            cells = [number(found.get(figure), FIGURES[figure][1]) for figure in shown]
            table.add_row(place, answer.replace("_", " "), *cells)
            place = ""
        table.add_section()
    out_console.print(table)


def _answers(window: Json) -> Json:
    """Input, references and output among a window's entries."""
    return {key: found for key, found in window.items() if isinstance(found, dict)}


def pictures_table(report: Json, out: Path) -> None:
    """What was written, and what was not."""
    done = len(report["exported"])
    out_console.print(f"{report['model']}: {done} pictures written below {out}")
    for failure in [*report["failed"], *report["quarantined"]]:
        out_console.print(f"not written: {failure['file']}: {failure['reason']}")
