"""Figures of real pairs, for people: by kernel and dose beside the ceiling, then each pair."""

from __future__ import annotations

from rich import box
from rich.table import Table

from flows.cli.tables.figures import number, out_console
from pipeline.core.types import Json
from pipeline.evaluation.noise_ceiling import FORMULA
from pipeline.evaluation.pair_figures import PairFigures, PairGroup
from pipeline.evaluation.per_patient import WindowFigures


def pairs_tables(figures: Json) -> None:
    """What a terminal shows of `pairs` and `groups`; nothing where there are none."""
    if not figures.get("groups"):
        return
    _groups([PairGroup.from_dict(group) for group in figures["groups"]])
    pairs = [PairFigures.from_dict(pair) for pair in figures["pairs"]]
    if len(pairs) > 1:
        _each(pairs)


def _groups(groups: list[PairGroup]) -> None:
    table = Table(
        title="By kernel and dose",
        box=box.SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
        caption="ceiling: by how much PSNR can rise at most, since the full dose is noisy itself: "
        f"{FORMULA}.",
    )
    for column in ("kernel", "dose", "pairs", "patients", "window"):
        table.add_column(column)
    for column in ("PSNR dB", "gain", "ceiling"):
        table.add_column(column, justify="right")
    for group in groups:
        about = [group.kernel, group.dose, str(group.pairs), str(group.patients)]
        for name, window in group.windows.items():
            table.add_row(*about, name, *_cells(window, group.ceiling_gain_db))
            about = [""] * 4
    out_console.print(table)


def _each(pairs: list[PairFigures]) -> None:
    table = Table(title="By patient", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for column in ("patient", "kernel", "dose", "window"):
        table.add_column(column)
    for column in ("PSNR dB", "gain", "ceiling"):
        table.add_column(column, justify="right")
    for pair in sorted(pairs, key=lambda one: (one.patient, one.kernel, one.dose)):
        about = [pair.patient, pair.kernel, pair.dose]
        ceiling = None if pair.ceiling is None else pair.ceiling.gain_db
        for name, window in pair.windows.items():
            table.add_row(*about, name, *_cells(window, ceiling))
            about = [""] * 3
    out_console.print(table)


def _cells(window: WindowFigures, ceiling_gain_db: float | None) -> list[str]:
    before, after = (number(each["psnr"], 2) for each in (window.input, window.output))
    return [f"{before} → {after}", number(window.psnr_gain_db, 2), number(ceiling_gain_db, 2)]
