"""`ldct models` and `ldct models show`: what the registry has."""

from __future__ import annotations

from dataclasses import asdict
from functools import partial
from typing import Annotated

import typer

from flows.cli.endings import json_output
from flows.cli.options import Flow, Json, imports_of


def add_list_commands(models_app: typer.Typer) -> None:
    """Add the list, which `ldct models` alone shows, and `ldct models show`."""
    models_app.callback()(models)
    models_app.command("show")(models_show)


def models(
    context: typer.Context,
    sort: Annotated[
        str | None,
        typer.Option(
            help="A metric, such as test.soft_tissue.output.psnr: the largest comes first."
        ),
    ] = None,
    where: Annotated[
        list[str] | None,
        typer.Option(help="Only versions such as 'test.soft_tissue.output.psnr > 38', 'task = x'."),
    ] = None,
    ascending: Annotated[bool, typer.Option("--ascending", help="The smallest first.")] = False,
    flow: Flow = False,
    json_: Json = False,
) -> None:
    """List the registered models: version, alias, figures and date; by any metric."""
    if context.invoked_subcommand is not None:
        return
    with imports_of(flow):
        from flows.cli.tables.base import models_table
        from flows.runtime.orchestration import in_flow
        from flows.tracking.ranking import ranked
        from flows.tracking.registry import Registry

    listed = partial(
        ranked,
        Registry.default(),
        sort=sort,
        where=where or [],
        ascending=ascending,
        every_metric=json_,
    )
    # A list alone is no flow of the server's, unless it is asked to be.
    found = in_flow("ldct-models", listed, always=True) if flow else listed()
    if json_:
        rows = [asdict(row) for row in found.rows]
        json_output.print({"models": rows, "without_metric": found.lacking})
    else:
        models_table(found)


def models_show(
    name: Annotated[str, typer.Argument(help="A registered model's name.")], json_: Json = False
) -> None:
    """Everything known of a model's versions: configuration, data digest, figures, gate."""
    from flows.cli.tables.base import model_details
    from flows.tracking.registry import Registry

    rows = Registry.default().show(name)
    if json_:
        versions = [row.to_dict() for row in rows]
        json_output.print({"name": name, "versions": versions})
    else:
        model_details(rows)
