"""Figures of real pairs, for people: by kernel and dose beside the ceiling, then each pair."""

from __future__ import annotations

from rich.table import Table

from flows.cli.tables.figures import number, out_console
from pipeline.core.types import Json
from pipeline.evaluation.noise_ceiling import FORMULA
from pipeline.evaluation.pair_figures import PairFigures, PairGroup


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
        caption="ceiling: by how much PSNR can rise at most, since the full dose is noisy itself: "
        f"{FORMULA}.",
    )
    for column in ("kernel", "dose", "pairs", "patients", "window"):
        table.add_column(column)
    for column in ("PSNR dB", "denoised", "gain", "ceiling", "SSIM", "denoised"):
        table.add_column(column, justify="right")
    for group in groups:
        about = [group.kernel, group.dose, str(group.pairs), str(group.patients)]
        for name, window in group.windows.items():
            psnrs = [window.input["psnr"], window.output["psnr"], window.change["psnr"]]
            cells = [number(value, 2) for value in (*psnrs, group.ceiling_gain_db)]
            ssims = [number(each["ssim"], 4) for each in (window.input, window.output)]
            table.add_row(*about, name, *cells, *ssims)
            about = [""] * 4
    out_console.print(table)


def _each(pairs: list[PairFigures]) -> None:
    table = Table(title="By patient")
    for column in ("patient", "kernel", "dose", "window"):
        table.add_column(column)
    for column in ("slices", "PSNR dB", "denoised", "gain", "ceiling", "dose by noise %"):
        table.add_column(column, justify="right")
    for pair in sorted(pairs, key=lambda one: (one.patient, one.kernel, one.dose)):
        about = [pair.patient, pair.kernel, pair.dose]
        ceiling = None if pair.ceiling is None else pair.ceiling.gain_db
        for name, window in pair.windows.items():
            psnrs = [window.input["psnr"], window.output["psnr"], window.psnr_gain_db]
            cells = [number(value, 2) for value in (*psnrs, ceiling)]
            by_noise = number(pair.measured_dose_percent, 0)
            table.add_row(*about, name, str(pair.matched.slices), *cells, by_noise)
            about = [""] * 3
    out_console.print(table)
