"""`ldct compress` and `ldct expand`: images as small files of a VQ-VAE, and back."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from flows.cli.endings import end, show
from flows.cli.options import (
    Device,
    IngestChoices,
    Json,
    Model,
    Out,
    quick_imports,
    require_source,
    require_usable,
    writable,
)
from flows.tracking.references import require_model
from pipeline.core.device import compute_on

StagesWritten = Annotated[
    int | None,
    typer.Option(
        "--stages",
        min=1,
        help="How many of the model's stages a file holds, the first ones: fewer bytes, a coarser "
        "image. All by default.",
    ),
]
StagesRead = Annotated[
    int | None,
    typer.Option(
        "--stages",
        min=1,
        help="How many of a file's stages are read, the first ones: a coarser image. All by "
        "default.",
    ),
]


def add_compression_commands(app: typer.Typer) -> None:
    """Add `ldct compress` and `ldct expand`."""
    app.command()(compress)
    app.command()(expand)


def compress(
    model: Model,
    source: Annotated[Path, typer.Argument(help="Grey pictures, or CT: what the model is for.")],
    out: Out,
    intake: IngestChoices = None,
    stages: StagesWritten = None,
    device: Device = None,
    json_: Json = False,
) -> None:
    """Pictures or CT as files of a few kilobytes, by a VQ-VAE. Lossy: never in place of the
    original, not for diagnosis.

    A file NAME.ldctvq holds what is needed to expand it: a checksum, the model's name and the
    SHA-256 of its weights, and of CT axes and origin. It is expanded by that model alone.
    """
    compute_on(device)
    require_usable(model, source, out)
    with quick_imports():
        from flows.cli.tables.compression import compressed_table
        from flows.compression import compress_files
        from pipeline.config.load import parse_intake

    report = compress_files(model, source, out, intake=parse_intake(intake), stages=stages)
    show(report, json_, lambda: compressed_table(report, out))
    end(report)


def expand(
    source: Annotated[Path, typer.Argument(help="Files of `ldct compress`, or a folder of them.")],
    out: Out,
    model: Annotated[
        str,
        typer.Option(
            "--model",
            help="In place of the one that each file names, with the same weights.",
        ),
    ] = "",
    stages: StagesRead = None,
    device: Device = None,
    json_: Json = False,
) -> None:
    """The pictures (PNG) or CT volumes (NIfTI, in HU) of compressed files.

    A damaged file, and one of another model, are named and left out.
    """
    compute_on(device)
    require_source(source)
    if model:
        require_model(model)
    writable(out)
    with quick_imports():
        from flows.cli.tables.compression import expanded_table
        from flows.compression import expand_files

    report = expand_files(source, out, reference=model, stages=stages)
    show(report, json_, lambda: expanded_table(report, out))
    end(report)
