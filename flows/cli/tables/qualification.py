"""Closing tables of `ldct qualify`."""

from __future__ import annotations

from pathlib import Path

from rich.table import Table

from flows.cli.tables.base import print_reasons
from flows.cli.tables.figures import number, out_console
from flows.cli.tables.quality import equivalent_table
from pipeline.core.types import Json
from pipeline.evaluation.qualification import Qualification


def qualification_tables(report: Json, out: Path) -> None:
    """Drift first, then the series, the equivalent dose, the verdict, and where the rest is."""
    found = Qualification.from_dict(report)
    for line in found.drift_lines:
        out_console.print(f"Full dose: {line}", markup=False, highlight=False, soft_wrap=True)
    table = Table(title=f"{found.model} on {len(found.series)} full-dose series")
    for column in ("series", "dose", "noise HU", "RMSE HU"):
        table.add_column(column)
    for row in found.series:
        for at in row.doses:
            table.add_row(
                row.series,
                f"{at.dose_fraction:g}",
                f"{number(at.noise_hu, 1)} → {number(at.noise_left_hu, 1)}",
                f"{number(at.rmse_hu, 1)} → {number(at.rmse_left_hu, 1)}",
            )
    out_console.print(table)
    if found.contrast.observer:
        equivalent_table(found.contrast.observer)
    for key, reason in found.refused.items():
        out_console.print(f"{key}: not measured: {reason}", markup=False, soft_wrap=True)
    outcome = "passed" if found.passed else f"failed: {found.verdict.reasons}"
    out_console.print(f"Bias within the gate's limits: {outcome}", markup=False, soft_wrap=True)
    if kept := report.get("registered"):
        out_console.print(f"Kept with {kept['name']} version {kept['version']} for {found.site}.")
    print_reasons(report)
    written = "qualification.html, qualification.json"
    out_console.print(f"Written to {out}: {written}; digest {found.digest}", soft_wrap=True)
