"""`ldct evaluate`: how well a model does, on patients and on phantoms."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from flows.cli.endings import end, json_output
from flows.cli.options import Denoiser, Device, Flow, Json, Model, Strength, imports_of, writable
from flows.tracking.references import require_model
from pipeline.core.device import compute_on
from pipeline.core.types import Json as JsonObject

CONVENTIONS = """How figures are taken, by default as in the model's training. ldct: the model's
own windows, whole slice, mean over patients. ldct_body: the same within the body. eulig2024: Eulig
et al. 2024, chest -600/1500, abdomen 50/400, neuro 40/80. redcnn: [-160, 240] HU, as RED-CNN's
reimplementation on Mayo 2016. range4096: the same on [-1024, 3072] HU. Figures of two conventions
do not compare."""


StoreOption = Annotated[
    Path | None, typer.Option("--store", help="A store, on whose test patients.")
]
Input = Annotated[
    Path | None,
    typer.Option("--input", help="A low-dose series, or a folder of many, of any doses."),
]
Target = Annotated[
    Path | None,
    typer.Option(
        "--target",
        help="Its full-dose series, or a folder of many: what belongs together is found by "
        "patient, position and kernel. The same folder as --input where it holds both.",
    ),
]
Convention = Annotated[str | None, typer.Option(help=CONVENTIONS, metavar="NAME")]
Baselines = Annotated[
    bool,
    typer.Option(
        "--baselines",
        help="Beside Gaussian, bilateral, non-local means and total variation, each at the "
        "strength that is best on the store's training patients. Minutes.",
    ),
]
DoseSweep = Annotated[
    str | None,
    typer.Option(
        "--dose-sweep",
        metavar="DOSES",
        help="Low-contrast detectability at dose fractions such as 0.1,0.25,0.5,1, with and "
        "without the model: at which dose do its images show as much as full dose?",
    ),
]
Phantoms = Annotated[
    bool,
    typer.Option(
        "--phantoms", help="Noise texture, sharpness, HU and contrast on simulated phantoms."
    ),
]
Contrast = Annotated[
    bool,
    typer.Option(
        "--contrast",
        help="What of small things survives: contrast kept of discs of 2 to 10 mm and 10 to 100 HU "
        "at 10 to 100 % dose and each setting, and an observer's d'. Minutes.",
    ),
]
Photons = Annotated[
    float | None,
    typer.Option(
        help="Photons per ray at full dose of the phantoms' scanner, by default those of the "
        "model's training. `ldct simulate --photons auto` measures a real scanner's."
    ),
]
Out = Annotated[
    Path | None,
    typer.Option("--out", "-o", help="Folder for evaluation.html, evaluation.json and curves."),
]


def add_evaluate_command(app: typer.Typer) -> None:
    """Add `ldct evaluate`."""
    app.command()(evaluate)


def evaluate(
    model: Model,
    store: StoreOption = None,
    input_: Input = None,
    target: Target = None,
    convention: Convention = None,
    baselines: Baselines = False,
    dose_sweep: DoseSweep = None,
    phantoms: Phantoms = False,
    contrast: Contrast = False,
    photons: Photons = None,
    denoiser: Denoiser = None,
    strength: Strength = None,
    out: Out = None,
    device: Device = None,
    flow: Flow = False,
    json_: Json = False,
) -> None:
    """How well a registered model does: on patients of a store, a pair of series, phantoms.

    On phantoms no data is needed: --dose-sweep 0.1,0.25,0.5,1 --phantoms. PSNR and SSIM do not
    say whether lesions stay visible; detectability on phantoms says it for simple objects.
    """
    compute_on(device)
    from pipeline.quality.dose_sweep import Sweep, parse_doses

    sweep = None if dose_sweep is None else Sweep(doses=parse_doses(dose_sweep))
    if out:
        writable(out)
    from pipeline.evaluation.requests import EvaluateRequest

    request = EvaluateRequest(
        model,
        store=store,
        input=input_,
        target=target,
        convention=convention,
        baselines=baselines,
        sweep=sweep,
        phantoms=phantoms,
        contrast=contrast,
        photons_per_ray=photons,
        denoiser=denoiser,
        strength=strength,
    )
    require_model(model)
    with imports_of(flow):
        from flows.evaluate import evaluate_flow

    report = evaluate_flow(request, out, as_flow=flow)
    if json_:
        json_output.print(_as_json(report))
    else:
        from flows.cli.tables.quality import evaluation_tables

        evaluation_tables(report, out)
    end(report)


def _as_json(report: JsonObject) -> JsonObject:
    """Figures by window first, as scripts know them; then all the rest."""
    figures = report.get("figures")
    if not figures or "windows" not in figures["overall"]:
        return report
    rest = {name: part for name, part in report.items() if name != "figures"}
    return {**figures["overall"]["windows"], "details": figures, **rest}
