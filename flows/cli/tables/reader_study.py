"""TODO."""

from __future__ import annotations

from collections.abc import Sequence

from rich.table import Table

from flows.cli.tables.figures import NONE, number, out_console
from pipeline.core.types import Json


def study_table(result: Json) -> None:
    """A row for each criterion that readers scored, then which images they preferred."""
    table = Table(
        title=f"{len(result['readers'])} readers, {result['cases']} cases, "
        f"{result['readings']} readings; non-inferior above -{result['margin']:g}"
    )
    for column in (
        "criterion",
        "original",
        "denoised",
        "difference, 95 % interval",
        "non-inferior",
        "Wilcoxon p",
        "kappa within readers",
        "kappa between readers",
    ):
        table.add_column(column, overflow="fold")
    for name, row in result["criteria"].items():
        verdict = {True: "yes", False: "not shown", None: NONE}[row["non_inferior"]]
        table.add_row(
            name,
            number(row["original"], 2),
            number(row["denoised"], 2),
            f"{number(row['difference'], 2)} {_interval(row['interval'])}",
            verdict,
            number(row["wilcoxon_p"], 3),
            _kappa(row["intra_reader_kappa"]),
            _kappa(row["inter_reader_kappa"]),
        )
    out_console.print(table)
    liked = result["preference"]
    out_console.print(
        f"Preferred: denoised {liked['denoised']}, original {liked['original']}, neither "
        f"{liked['neither']}; share of denoised {number(liked['share'], 2)} "
        f"{_interval(liked['interval'])}",
        highlight=False,
    )


def _kappa(found: Json | None) -> str:
    if found is None:
        return NONE
    return f"{number(found['kappa'], 2)} {_interval(found['interval'])} of {found['pairs']}"


def _interval(ends: Sequence[float | None]) -> str:
    return NONE if None in ends else f"[{ends[0]:.2f}, {ends[1]:.2f}]"
