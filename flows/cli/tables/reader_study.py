"""The results of a reader study, and what one needs, for people."""

from __future__ import annotations

from collections.abc import Sequence

from rich import box
from rich.table import Table

from flows.cli.tables.figures import NONE, number, out_console, word_columns
from pipeline.core.types import Json
from pipeline.review.study.power import MOST_CASES, StudyPlan

#: For which numbers of readers the plan's table has a row.
READERS = range(2, 13)


def study_table(result: Json) -> None:
    """Of a study in which pairs were scored, or lesions marked."""
    if "froc" in result:
        _marks_table(result)
    else:
        _scores_table(result)


def _marks_table(result: Json) -> None:
    """A row for each figure, then the points of the FROC."""
    table = Table(
        title=f"{len(result['readers'])} readers, {result['lesions']} lesions in "
        f"{result['with_lesions']} of {result['cases']} cases; non-inferior above "
        f"-{result['margin']:g}",
        box=box.SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
    )
    word_columns(table, "figure", "original", "denoised", "difference, 95 % interval", "p")
    table.add_column("non-inferior")
    table.caption = result["no_verdict"] or "readers and cases random (Obuchowski-Rockette, Hillis)"
    for name, row in {**result["criteria"], **result["figures"]}.items():
        decides = name in result["criteria"]
        verdict = {True: "yes", False: "not shown", None: NONE}[row["non_inferior"]]
        table.add_row(
            name,
            number(row["original"], 3),
            number(row["denoised"], 3),
            f"{number(row['difference'], 3)} {_interval(row['interval'], 3)}",
            number(row["p"], 3),
            verdict if decides else "",
        )
    out_console.print(table)
    for kind, points in result["froc"].items():
        reached = ", ".join(f"{point['llf']:.2f} at {point['nlf']:.2f}" for point in points)
        out_console.print(
            f"{kind}, lesions found at false marks per case, ratings from 5 to 1: {reached}",
            highlight=False,
        )


def _scores_table(result: Json) -> None:
    """A row for each criterion that readers scored, then which images they preferred."""
    table = Table(
        title=f"{len(result['readers'])} readers, {result['cases']} cases, "
        f"{result['readings']} readings; non-inferior above -{result['margin']:g}",
        box=box.SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
    )
    word_columns(
        table,
        "criterion",
        "original",
        "denoised",
        "difference, 95 % interval",
        "non-inferior",
        "p",
        "Wilcoxon p",
        "kappa within readers",
        "kappa between readers",
    )
    table.caption = result["no_verdict"] or "readers and cases random (Obuchowski-Rockette, Hillis)"
    for name, row in result["criteria"].items():
        verdict = {True: "yes", False: "not shown", None: NONE}[row["non_inferior"]]
        table.add_row(
            name,
            number(row["original"], 2),
            number(row["denoised"], 2),
            f"{number(row['difference'], 2)} {_interval(row['interval'])}",
            verdict,
            number(row["p"], 3),
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
    out_console.print(
        f"Over readers and cases: share {number(liked['share_of_all'], 2)} "
        f"{_interval(liked['interval_of_all'])}, p of one half {number(liked['p_of_all'], 3)}",
        highlight=False,
    )


def plan_table(plan: StudyPlan) -> None:
    """How many cases each number of readers needs, and which is planned."""
    what = "by weighted JAFROC" if plan.lesions else "in every criterion"
    table = Table(
        title=f"Not inferior above -{plan.margin:g} {what}, power {plan.power:g}",
        caption=f"denoised minus original varies by {plan.reader_sd:g} points between readers, "
        f"{plan.case_sd:g} between cases, {plan.residual_sd:g} beyond (standard deviations)",
    )
    table.add_column("readers", justify="right")
    table.add_column("cases that each reads", justify="right")
    for readers in sorted({*READERS, plan.readers}):
        cases = plan.cases_needed(readers)
        planned = " (planned)" if readers == plan.readers else ""
        table.add_row(
            f"{readers}{planned}", f"more than {MOST_CASES}" if cases is None else str(cases)
        )
    out_console.print(table)
    if plan.lesions:
        out_console.print(
            "Readers mark lesions; half of the cases have some. Each case is read twice.",
            highlight=False,
        )
    if plan.forced_choice:
        out_console.print("Readers must prefer one side.", highlight=False)


def _kappa(found: Json | None) -> str:
    if found is None:
        return NONE
    return f"{number(found['kappa'], 2)} {_interval(found['interval'])} of {found['pairs']}"


def _interval(ends: Sequence[float | None], digits: int = 2) -> str:
    return NONE if None in ends else f"[{ends[0]:.{digits}f}, {ends[1]:.{digits}f}]"
