"""Closing tables of `ldct evaluate`: patients, dose sweep, phantoms."""

from __future__ import annotations

from pathlib import Path

from rich import box
from rich.table import Table

from flows.cli.tables.base import print_reasons
from flows.cli.tables.figures import NONE, figures_table, number, out_console
from flows.cli.tables.pairs import pairs_tables
from flows.cli.tables.tasks import task_figures
from pipeline.core.types import Json
from pipeline.evaluation.contrast_table import ContrastTable
from pipeline.quality.dose_equivalence import DoseSweep
from pipeline.quality.model_observer import Detectability
from pipeline.quality.phantom_metrics import PhantomFigures
from pipeline.quality.summary import (
    NONE_MEANS,
    equivalent_doses,
    phantom_conditions,
    phantom_rows,
    sweep_conditions,
)
from pipeline.report.contrast import card_text


def evaluation_tables(report: Json, out: Path | None) -> None:
    """All that was measured, and where it was written."""
    if "figures" in report:
        if "baselines" in report:
            figures_table(report["figures"], report["baselines"])
        else:
            task_figures(report["config"]["task"], report["figures"])
        pairs_tables(report["figures"])
    if "dose_sweep" in report:
        sweep_tables(DoseSweep.from_dict(report["dose_sweep"]))
    if "phantoms" in report:
        phantoms_table(PhantomFigures.from_dict(report["phantoms"]))
    if "contrast" in report:
        text = card_text(ContrastTable.from_dict(report["contrast"]))
        out_console.print(text, markup=False, highlight=False, soft_wrap=True)
    print_reasons(report)
    if out:
        out_console.print(f"Written to {out}: evaluation.html, evaluation.json", soft_wrap=True)


def sweep_tables(sweep: DoseSweep) -> None:
    """d' and AUC by rod and dose, then the doses that denoised images are worth."""
    table = Table(
        title="Low-contrast detectability against dose",
        caption=f"{sweep_conditions(sweep)}.",
        box=box.SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
    )
    table.add_column("rod")
    table.add_column("dose", justify="right")
    for column in ("d′ undenoised", "d′ denoised", "AUC undenoised", "AUC denoised"):
        table.add_column(column)
    for rod in sweep.rods:
        name = rod.name
        for point in rod.curve:
            arms = (point.undenoised, point.denoised)
            d_primes = [_d_prime(seen) for seen in arms]
            aucs = [_auc(seen) for seen in arms]
            table.add_row(name, f"{point.dose_fraction:g}", *d_primes, *aucs)
            name = ""
        table.add_section()
    out_console.print(table)
    equivalent_table(sweep)
    for warning in sweep.conditions.warnings:
        out_console.print(f"warning: {warning}", markup=False, soft_wrap=True)


def equivalent_table(sweep: DoseSweep) -> None:
    """The doses that denoised images are worth, by rod."""
    answers = Table(title="Equivalent dose", caption=NONE_MEANS)
    for column in ("rod", "dose fraction", f"{sweep.conditions.confidence:.0%} interval"):
        answers.add_column(column)
    for answer in equivalent_doses(sweep):
        answers.add_row(*answer)
    out_console.print(answers)


def _d_prime(seen: Detectability | None) -> str:
    return _between(seen.d_prime, seen.d_prime_interval, 1) if seen else NONE


def _auc(seen: Detectability | None) -> str:
    return _between(seen.auc, seen.auc_interval, 2) if seen else NONE


def _between(figure: float, interval: tuple[float, float], digits: int) -> str:
    low, high = interval
    return f"{figure:.{digits}f} ({low:.{digits}f}–{high:.{digits}f})"


def phantoms_table(figures: PhantomFigures) -> None:
    """Noise, sharpness and HU on phantoms, undenoised beside denoised."""
    table = Table(
        title="On phantoms",
        caption=f"{phantom_conditions(figures)}.",
        box=box.SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
    )
    table.add_column("")
    for column in ("undenoised", "denoised", "full dose"):
        table.add_column(column, justify="right")
    group = ""
    for row in phantom_rows(figures):
        if row.group != group:
            group = row.group
            table.add_row(f"[bold]{group}[/bold]")
        cells = [
            f"{value:+z.{row.decimals}f}"
            if row.signed and value is not None
            else number(value, row.decimals)
            for value in (row.values.get(arm) for arm in ("undenoised", "denoised", "full_dose"))
        ]
        table.add_row(f"  {row.name}", *cells)
    out_console.print(table)
