"""`ldct models export`: a registered model for other programs."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from flows.cli.endings import json_output
from flows.cli.options import Json, Model, writable
from pipeline.core.errors import ConfigError
from pipeline.core.types import Json as JsonObject


def add_deploy_command(models_app: typer.Typer) -> None:
    """Add `ldct models export`."""
    models_app.command("export")(export)


def export(
    model: Model,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="A folder for ONNX and pt2.")
    ] = None,
    monai_bundle: Annotated[
        Path | None,
        typer.Option(
            "--monai-bundle",
            metavar="DIR",
            help="A folder for a MONAI bundle, which `python -m monai.bundle run` executes; of "
            "denoisers.",
        ),
    ] = None,
    json_: Json = False,
) -> None:
    """Write a model as ONNX and as torch.export's pt2, or as a MONAI bundle, and check that each
    gives what the model gives.

    HU in and HU out: normalisation and strength are in the files. ONNX needs
    `pip install ldct\\[onnx]`.
    """
    if out is None and monai_bundle is None:
        raise ConfigError("name --out DIR for ONNX and pt2, --monai-bundle DIR for a MONAI bundle")
    for folder in filter(None, (out, monai_bundle)):
        writable(folder)
    from flows.cli.tables.base import deployed_table
    from flows.tracking.references import load_named

    loaded = load_named(model)
    reports: list[tuple[Path, JsonObject]] = []
    if out is not None:
        from pipeline.export.onnx_pt2 import export_model

        reports.append((out, export_model(loaded.model, loaded.card, out)))
    if monai_bundle is not None:
        from pipeline.export.monai_bundle import export_bundle

        reports.append((monai_bundle, asdict(export_bundle(loaded, monai_bundle))))
    if json_:
        differences = {k: v for _, one in reports for k, v in one["largest_difference"].items()}
        whole = {key: value for _, one in reports for key, value in one.items()}
        json_output.print({**whole, "largest_difference": differences})
        return
    for folder, report in reports:
        deployed_table(report, folder)
