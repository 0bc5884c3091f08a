"""Closing tables of `ldct compress` and `ldct expand`."""

from __future__ import annotations

from pathlib import Path

from rich import box
from rich.table import Table

from flows.cli.tables.base import print_reasons
from flows.cli.tables.figures import figure_columns, number, out_console, word_columns
from pipeline.core.types import Json


def compressed_table(report: Json, out: Path) -> None:
    """A row for each file: its size, and how near what it expands to is to the original."""
    windows = sorted({row["window"] for row in report["exported"]})
    title = (
        f"Compressed by {report['model']} in {out}; PSNR in {', '.join(windows)}, mean of images"
    )
    table = Table(title=title, box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    word_columns(table, "file")
    figure_columns(table, "images", "stages", "bytes", "bits/pixel", "PSNR dB")
    for row in report["exported"]:
        counts = [str(row[name]) for name in ("images", "stages", "bytes")]
        figures = [number(row["bits_per_pixel"], 3), number(row["psnr_db"], 2)]
        table.add_row(row["file"], *counts, *figures)
    out_console.print(table)
    print_reasons(report)


def expanded_table(report: Json, out: Path) -> None:
    """A row for each file."""
    table = Table(title=f"Expanded in {out}", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    word_columns(table, "from", "file")
    figure_columns(table, "images", "stages")
    for row in report["exported"]:
        counts = [str(row[name]) for name in ("images", "stages")]
        table.add_row(row["source_file"], row["file"], *counts)
    out_console.print(table)
    print_reasons(report)
