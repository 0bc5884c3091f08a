"""Closing tables: what went where, and how well. On stdout, for people."""

from __future__ import annotations

import json
from pathlib import Path

import yaml
from rich import box
from rich.table import Table

from flows.cli.endings import reason_lines
from flows.cli.tables.figures import (
    NONE,
    figure_columns,
    number,
    out_console,
    word_columns,
)
from flows.cli.tables.tasks import task_figures
from flows.tracking.ranking import Ranking
from flows.tracking.versions import VersionDetails
from pipeline.core.refusals import count_of
from pipeline.core.types import Json
from pipeline.core.verdicts import Check, Verdict


def run_table(report: Json, out: Path, registry: tuple[str, str]) -> None:
    """The end of a run: series, figures, and where everything is.

    registry: where it is, and how to look at it.
    """
    _drift_lines(report)
    ingest_table(report)
    if "published_split" in report:
        out_console.print(report["published_split"]["summary"], highlight=False)
    task_figures(report["task"], report["metrics"])
    for reference, figures in report["compared"].items():
        out_console.print(f"Beside it, {reference} on the same patients:")
        task_figures(report["task"], figures)
    model_line(report["model"], report["gate"])
    model = report["model"]
    table = Table(title="Where it is, and how to look at it", show_header=False)
    for _ in range(3):
        table.add_column(overflow="fold")  # a path cut short is no path
    for row in report["exported"]:
        table.add_row("derived", str(out / row["folder"]), "open the folder in a viewer")
    for row in report.get("low_dose", ()):
        for kind in ("input", "output"):
            if kind in row:
                table.add_row(f"low dose, {kind}", str(out / row[kind]["folder"]), "")
    for row in report.get("held", ())[:1]:
        table.add_row("held", f"{len(report['held'])} series", row["reason"])
    table.add_row("report", str(out / "report.html"), "open it in a browser")
    table.add_row("figures", str(out / "report.json"), "")
    table.add_row(
        "model", f"{model['name']}/{model['version']}", f"ldct models show {model['name']}"
    )
    table.add_row("its training", *registry)
    out_console.print(table)
    print_audits(report)


def _drift_lines(report: Json) -> None:
    """Whether the exported series are like those that the model learned from."""
    from pipeline.inference.drift import first_lines  # reads stores: not for every table

    for line in first_lines(report["exported"]):
        out_console.print(line, markup=False, highlight=False, soft_wrap=True)


def ingest_table(report: Json) -> None:
    """A row for each series, and a line for each reason of refusal."""
    table = Table(title="What went where", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for column in ("series", "patient", "side"):
        table.add_column(column, no_wrap=True)
    figure_columns(table, "slices")
    word_columns(table, "remarks")
    for row in report["series"]:
        remarks = "; ".join(row["warnings"])
        side = row.get("side", NONE)
        table.add_row(row["series"], row["patient"], side, str(row["slices"]), remarks)
    out_console.print(table)
    print_reasons(report)


def print_audits(report: Json) -> None:
    """A line for each derived series: where more than noise was changed (export.audit)."""
    for row in report["exported"]:
        if "audit" in row:
            line = f"{row['series']}: {row['audit']['summary']}"
            out_console.print(line, markup=False, highlight=False, soft_wrap=True)


def print_reasons(report: Json) -> None:
    """A line for each reason why series were not exported and files not used."""
    for line in reason_lines(report):
        out_console.print(line, markup=False, highlight=False)


def model_line(model: Json, gate: Json) -> None:
    """The model's name and whether it passed, then each check that failed."""
    verdict = Verdict.from_dict(gate)
    outcome = "passed its gate" if verdict.passed else "did not pass its gate"
    alias = f" ({', '.join(model['aliases'])})" if model["aliases"] else ""
    strength = model["strength"]
    partly = "" if strength == 1 else f" at strength {strength:g}"
    out_console.print(f"Model {model['name']} version {model['version']}{partly}{alias} {outcome}.")
    for check in verdict.failed:
        out_console.print(f"  {check.outcome}", markup=False)


def applied_table(report: Json, out: Path) -> None:
    """What is unlike the model's training, a row for each derived series, what was refused."""
    _drift_lines(report)
    table = Table(title=f"Derived series, model {report['model']}, strength {report['strength']:g}")
    word_columns(table, "folder", "instances", "clipped pixels", "structures", "remarks")
    for row in report["exported"]:
        folder = str(out / row["folder"])
        dose = row.get("dose")
        made_up = [f"dose x {dose['dose_ratio']:g}, {dose['why']}"] if dose else []
        computing = row.get("computing")
        other = computing is not None and computing["way"]["name"] != "fp32"
        way = [f"computed in {computing['description']}"] if other else []
        remarks = "; ".join([*made_up, *way, *row["warnings"]])
        counts = [str(row.get(name, NONE)) for name in ("clipped_pixels", "structures")]
        table.add_row(folder, str(row["instances"]), *counts, remarks)
    out_console.print(table)
    print_audits(report)
    for row in report.get("skipped", ()):
        line = f"{row['series']}: nothing written: {row['reason']}"
        out_console.print(line, markup=False, highlight=False)
    print_reasons(report)


def simulated_table(report: Json, out: Path) -> None:
    """As applied_table, and how the noise was set for each."""
    from pipeline.quality.summary import rounded  # compiles: not for every table

    table = Table(title=f"Derived series at dose {report['dose_fraction']:g}: {report['noise']}")
    word_columns(table, "folder", "instances", "photons per ray", "noise HU", "kernel", "remarks")
    for row in report["exported"]:
        set_to = row["calibration"]
        cutoff = set_to["kernel_cutoff"]
        table.add_row(
            str(out / row["folder"]),
            str(row["instances"]),
            f"{rounded(set_to['photons_per_ray'])} {'measured' if set_to['measured'] else 'given'}",
            number(set_to["measured_noise_hu"], 1),
            "bare ramp" if cutoff is None else f"Hann to {cutoff:.2f}",
            "; ".join([*row["warnings"], *set_to["notes"]]),
        )
    out_console.print(table)
    print_reasons(report)


def checked_table(report: Json) -> None:
    """A row for each series, and a line for each thing that is wrong."""
    table = Table(title="Derived series, checked")
    word_columns(table, "series", "instances", "verdict", "also by")
    for row in report["series"]:
        verdict = "passed" if not row["problems"] else f"{len(row['problems'])} problems"
        programs = f"{', '.join(row['programs'])} on {row['files']} files" if row["files"] else NONE
        if row["from_source"]:
            programs += f"; {count_of(len(row['from_source']), 'finding')} of the source's own"
        table.add_row(row["series"], str(row["instances"]), verdict, programs)
    out_console.print(table)
    for row in report["series"]:
        for problem in row["problems"]:
            parts = [problem[part] for part in ("file", "rule", "attribute", "value", "remedy")]
            out_console.print(": ".join(filter(None, parts)), markup=False, soft_wrap=True)


def deidentified_table(report: Json, out: Path) -> None:
    """A row for each copied series, then warnings and what was refused."""
    table = Table(title=f"Without identity, in {out}")
    word_columns(table, "series", "patient", "images")
    for row in report["series"]:
        table.add_row(row["series"], row["patient"], str(row["images"]))
    out_console.print(table)
    for warning in report["warnings"]:
        out_console.print(f"warning: {warning}", markup=False, soft_wrap=True)
    print_reasons(report)


def models_table(found: Ranking) -> None:
    """A row for each version, with the metrics that were asked about, else its task's headline."""
    # Six columns have to fit a terminal of 80.
    table = Table(title="Registered models", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    figures = found.metrics or ["figures"]
    word_columns(table, "name")
    figure_columns(table, "v")
    word_columns(table, "alias", "gate")
    for column in figures:  # a metric's name is broken after its dots, and its figure is not
        table.add_column(column.replace(".", ".\n"), overflow="fold", min_width=9)
    figure_columns(table, "date")
    for row in found.rows:
        measured = [number(row.metrics.get(name), 4) for name in found.metrics]
        table.add_row(
            row.name,
            str(row.version),
            ", ".join(row.aliases),
            row.gate,
            *(measured or [row.headline.get("text", NONE)]),
            row.created[:10],
        )
    out_console.print(table)
    for name, count in found.lacking.items():
        line = f"{count_of(count, 'version')} without {name}: not recorded, or of another task"
        out_console.print(line, highlight=False, soft_wrap=True)


def model_details(versions: list[VersionDetails]) -> None:
    """Every version, newest first: digests, gate, figures per patient, configuration."""
    for version in versions:
        row, recorded = version.row, version.recorded
        out_console.rule(f"{row.name} version {row.version} {', '.join(row.aliases)}")
        for key in ("created", "strength", "data_digest", "config_digest", "weights_sha256"):
            out_console.print(f"{key}: {getattr(row, key)}", highlight=False, soft_wrap=True)
        for site, outcome in row.qualified.items():
            out_console.print(f"qualified at {site}: {outcome}", highlight=False)
        task_figures(version.config.task, recorded.figures)
        for check in recorded.verdict.checks:
            mark = "passed" if check.passed else "FAILED"
            out_console.print(f"{mark}: {check.name} {_figure(check)} ({check.limit})")
        patients = {
            key: patient.get("windows") or patient.get("classes")
            for key, patient in recorded.patients.items()
        }
        out_console.print("per patient:")
        out_console.print_json(json.dumps(patients))
        out_console.print("configuration:")
        out_console.print(
            yaml.safe_dump(version.config.resolved(), sort_keys=False), highlight=False
        )


def _figure(check: Check) -> str:
    return number(check.figure, 2 if check.decimals is None else check.decimals)


def deployed_table(report: Json, out: Path) -> None:
    """What each engine's output differs by, in the output's units."""
    table = Table(title=f"{report['model']} for other programs", box=box.SIMPLE_HEAD)
    word_columns(table, "run by")
    figure_columns(table, "largest difference")
    for engine, difference in report["largest_difference"].items():
        table.add_row(engine, f"{difference:.2g}")
    out_console.print(table)
    says = "configs/metadata.json" if (out / "configs").is_dir() else "card.json"
    out_console.print(f"{out}: its {says} says what goes in and comes out", soft_wrap=True)
