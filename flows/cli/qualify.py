"""`ldct qualify`: a model on a hospital's own protocol."""

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
    writable,
)
from flows.tracking.references import require_model
from pipeline.core.device import compute_on

Doses = Annotated[
    str, typer.Option("--doses", help="Fractions of the series' own dose to simulate.")
]
SiteName = Annotated[
    str,
    typer.Option(
        "--site",
        metavar="NAME",
        help="The hospital, or a protocol of it: the registry keeps the result by this name, for "
        "models that register: {gate: {qualified: NAME}} lets serve only then.",
    ),
]


def add_qualify_command(app: typer.Typer) -> None:
    """Add `ldct qualify`."""
    app.command()(qualify)


def qualify(
    model: Model,
    source: Annotated[Path, typer.Argument(help="Full-dose CT series of one protocol.")],
    out: Out,
    doses: Doses = "0.1,0.25,0.5,1",
    site: SiteName = "",
    intake: IngestChoices = None,
    device: Device = None,
    json_: Json = False,
) -> None:
    """What a denoiser does on your own protocol, from your own full-dose series. Minutes.

    Noise and kernel are measured in the series, lower doses simulated from there: noise, its
    spectrum, sharpness, HU bias, contrast of small discs, what an observer finds at each dose with
    and without the model, the dose at which denoised equals full dose, what is unlike the model's
    training, and the worst slices.
    """
    compute_on(device)
    from pipeline.quality.dose_sweep import parse_doses

    require_source(source)
    parsed = parse_doses(doses)
    require_model(model)
    writable(out)
    with quick_imports():
        from flows.cli.tables.qualification import qualification_tables
        from flows.qualify import qualify_flow
        from pipeline.config.load import parse_intake
        from pipeline.evaluation.qualification import QualifyRequest

    request = QualifyRequest(parsed, site)
    report = qualify_flow(model, source, out, request, intake=parse_intake(intake))
    show(report, json_, lambda: qualification_tables(report, out))
    end(report, gate=report)
