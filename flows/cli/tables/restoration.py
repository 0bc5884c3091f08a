"""The closing tables of restoring: figures of a run, and pictures that a model was applied to."""

from __future__ import annotations

from pathlib import Path

from rich.table import Table

from flows.cli.tables.figures import number, out_console
from pipeline.core.types import Json


def restoration_table(figures: Json) -> None:
    """Input, references and output in each window."""
    overall = figures["overall"]
    table = Table(title=f"{overall['images']} held-back pictures; {overall['aggregation']}")
    for column in ("window (centre/width)", "", "PSNR dB", "SSIM", "chroma error", "flicker"):
        table.add_column(column, justify="right" if column[:1].isupper() else "left")
    for name, window in overall["windows"].items():
        place = f"{name} ({window['centre']:g}/{window['width']:g})"
        answers = {key: found for key, found in window.items() if isinstance(found, dict)}
        for answer, found in sorted(answers.items(), key=lambda item: item[0] == "output"):
            cells = number(found["psnr"], 2), number(found["ssim"], 4)
            table.add_row(
                place,
                answer.replace("_", " "),
                *cells,
                number(found.get("chroma_error"), 1),
                number(found.get("flicker"), 2),
            )
            place = ""
        table.add_section()
    out_console.print(table)


def pictures_table(report: Json, out: Path) -> None:
    """What was written, and what was not."""
    done = len(report["exported"])
    out_console.print(f"{report['model']}: {done} pictures written below {out}")
    for failure in [*report["failed"], *report["quarantined"]]:
        out_console.print(f"not written: {failure['file']}: {failure['reason']}")
