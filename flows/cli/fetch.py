"""`ldct fetch`: CT series of the Imaging Data Commons, shown first, then fetched."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich import box
from rich.table import Table

from flows.cli.endings import end, json_output
from flows.cli.options import Json, writable
from flows.runtime.progress import StageProgress
from pipeline.core.errors import ConfigError
from pipeline.ingest import idc_index, idc_transfer
from pipeline.ingest.idc_index import Selection, Wanted

Several = list[str] | None
Collections = Annotated[
    Several, typer.Option("--collection", help="Such as LDCT-and-Projection-data.")
]
Vendors = Annotated[Several, typer.Option("--vendor", help="The beginning of Manufacturer.")]
BodyParts = Annotated[Several, typer.Option("--body-part", help="BodyPartExamined.")]
Words = Annotated[Several, typer.Option("--word", help="In SeriesDescription; each must be.")]
Kernels = Annotated[
    Several, typer.Option("--kernel", help="ConvolutionKernel; needs --ct-index once.")
]
AnyLicence = Annotated[
    bool, typer.Option("--any-licence", help="Others than CC BY too, such as non-commercial ones.")
]
OutFolder = Annotated[Path | None, typer.Option("--out", "-o", help="Where the series are laid.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Show series, size and licences alone.")]
Yes = Annotated[bool, typer.Option("--yes", help="Fetch without asking.")]
CtIndex = Annotated[
    bool, typer.Option("--ct-index", help="Download the index that has kernels, once.")
]


def fetch(
    collection: Collections = None,
    vendor: Vendors = None,
    body_part: BodyParts = None,
    word: Words = None,
    kernel: Kernels = None,
    any_licence: AnyLicence = False,
    out: OutFolder = None,
    dry_run: DryRun = False,
    yes: Yes = False,
    ct_index: CtIndex = False,
    json_: Json = False,
) -> None:
    """Fetch public CT series of the Imaging Data Commons (pip install 'ldct\\[fetch]').

    Series, size and licences are shown first. Real pairs for training and the benchmark:
    --collection LDCT-and-Projection-data --vendor siemens --word "dose images". Options may be
    given several times.
    """
    index = idc_index.index_file()
    if ct_index:
        where = idc_transfer.fetch_ct_index()
        json_output.print({"ct_index": str(where)}) if json_ else print(f"Downloaded: {where}")
        return
    wanted = Wanted(
        collections=tuple(collection or ()),
        vendors=tuple(vendor or ()),
        body_parts=tuple(body_part or ()),
        words=tuple(word or ()),
        kernels=tuple(kernel or ()),
        any_licence=any_licence,
    )
    if not dry_run and out is None:
        raise ConfigError("say where to with --out, or --dry-run to see what there is")
    if json_ and not (dry_run or yes):
        raise ConfigError("--json cannot ask: give --yes, or --dry-run")
    selection = idc_index.select_series(
        wanted, index, idc_index.ct_index_file() if kernel else None
    )
    if not json_:
        _show(selection)
    report = {**_summary(selection), "series": [one.to_dict() for one in selection.series]}
    if out is not None and not dry_run:
        if not yes:
            typer.confirm(f"Fetch {selection.megabytes / 1000:.1f} GB into {out}?", abort=True)
        report |= _fetch(selection, out)
    if json_:
        json_output.print(report)
    end(report)


def _fetch(selection: Selection, out: Path) -> dict[str, object]:
    writable(out)
    idc_transfer.require_network()
    with StageProgress("fetch", unit="series", total=len(selection.series)) as stage:
        found = idc_transfer.fetch_series(
            selection.series, out, idc_transfer.idc_transfer(), stage.advance
        )
    for series, why in found.failed:
        typer.echo(f"not fetched: {series.folder}: {why}", err=True)
    return found.to_dict()


def _summary(selection: Selection) -> dict[str, object]:
    return {
        "count": len(selection.series),
        "megabytes": round(selection.megabytes, 1),
        "licences": selection.licences,
        "left_out_by_licence": selection.other_licences,
    }


def _show(selection: Selection) -> None:
    from flows.cli.tables.figures import figure_columns, out_console, word_columns

    title = f"{len(selection.series)} series, {selection.megabytes / 1000:.1f} GB"
    table = Table(title=title, box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    word_columns(table, "collection", "vendor", "body part", "description", "licence")
    figure_columns(table, "series", "GB")
    gigabytes: dict[tuple[str, ...], list[float]] = {}
    for one in selection.series:
        kind = (one.collection, one.vendor, one.body_part, one.description, one.licence)
        gigabytes.setdefault(kind, []).append(one.megabytes / 1000)
    for words, sizes in sorted(gigabytes.items()):
        table.add_row(*words, str(len(sizes)), f"{sum(sizes):.2f}")
    out_console.print(table)
    for licence, count in selection.other_licences.items():
        out_console.print(f"left out by its licence, {licence}: {count} series (--any-licence)")
