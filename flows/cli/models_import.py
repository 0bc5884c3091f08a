"""`ldct models import`: a model from elsewhere, from local files."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from flows.cli.endings import end, json_output
from flows.cli.options import Json, quick_imports


def add_import_command(models_app: typer.Typer) -> None:
    """Add `ldct models import`."""
    models_app.command("import")(import_)


def import_(
    settings: Annotated[
        Path,
        typer.Argument(
            metavar="YAML|BUNDLE|RESULTS",
            help="A YAML: which weights, which network of MONAI, which HU and classes. Or a MONAI "
            "bundle of a segmenter, a folder or a zip archive. Or a results folder of nnU-Net v2, "
            "such as a weight folder of TotalSegmentator.",
        ),
    ],
    store: Annotated[
        Path | None,
        typer.Option(
            "--store",
            help="Patients that it is measured on, all of them; without, it gets no alias.",
        ),
    ] = None,
    name: Annotated[
        str | None,
        typer.Option("--name", help="Of a bundle or results: as what it is registered."),
    ] = None,
    axes: Annotated[
        str | None,
        typer.Option(
            "--axes",
            help="Of nnU-Net: where slices, rows and columns of its training images ran to, such "
            "as SPL or SAR; letters of left, right, posterior, anterior, superior, inferior.",
        ),
    ] = None,
    licence: Annotated[
        str | None,
        typer.Option("--licence", help="Of nnU-Net, where dataset.json does not name it."),
    ] = None,
    json_: Json = False,
) -> None:
    """Register weights from elsewhere (safetensors, or a state dict) behind HU, after checks.

    Nothing of the files is run: the network is one of a list, by name. Exit code 5 when the model
    did not pass its gate.
    """
    with quick_imports():
        from flows.cli.tables.base import model_line
        from flows.cli.tables.tasks import task_figures
        from flows.import_model import import_model

    result = import_model(settings, store, name=name, axes=axes, licence=licence).to_dict()
    if json_:
        json_output.print(result)
    else:
        if result["metrics"] is not None:
            task_figures(result["task"], result["metrics"])
        model_line(result["model"], result["gate"])
    end(result)
