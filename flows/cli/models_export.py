"""`ldct models export`: a registered model for other programs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from flows.cli.endings import json_output
from flows.cli.options import Json, Model, writable


def add_deploy_command(models_app: typer.Typer) -> None:
    """Add `ldct models export`."""
    models_app.command("export")(export)


def export(
    model: Model,
    out: Annotated[Path, typer.Option("--out", "-o", help="A folder for the files.")],
    json_: Json = False,
) -> None:
    """Write a model as ONNX and as torch.export's pt2, and check that both give what it gives.

    HU in and HU out: normalisation and strength are in the files. Needs `pip install ldct\\[onnx]`.
    """
    writable(out)
    from flows.cli.tables.base import deployed_table
    from flows.tracking.references import load_named
    from pipeline.export.onnx_pt2 import export_model

    loaded = load_named(model)
    report = export_model(loaded.model, loaded.card, out)
    if json_:
        json_output.print(report)
    else:
        deployed_table(report, out)
