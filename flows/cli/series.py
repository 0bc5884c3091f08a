"""The commands over CT series: in, out, checked, and without identity."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from flows.cli.endings import end, show
from flows.cli.options import (
    Device,
    DoseRatio,
    Flow,
    HoldOnFailedGate,
    IngestChoices,
    Json,
    Level,
    Model,
    Out,
    SkipUnneeded,
    Source,
    StoreFolder,
    Strength,
    Style,
    TargetNoise,
    imports_of,
    quick_imports,
    require_source,
    require_usable,
    writable,
)
from pipeline.config.computing import require_compute
from pipeline.core.device import CPU, choose_device, compute_on
from pipeline.core.errors import ConfigError

Compress = Annotated[
    str,
    typer.Option("--compress", help="Of the derived pixels, without loss: none, j2k, jpegls, rle."),
]
Enhanced = Annotated[
    bool,
    typer.Option("--enhanced", help="A series as one multi-frame object: Enhanced CT Image."),
]
Difference = Annotated[
    bool, typer.Option("--difference", help="Also a series of what the model changed, in HU.")
]
Uncertainty = Annotated[
    bool,
    typer.Option(
        "--uncertainty",
        help="Also how far each voxel of a denoiser's result may be off, in HU: a DICOM "
        "Parametric Map, or an image file.",
    ),
]
Compute = Annotated[
    str,
    typer.Option(
        "--compute",
        help="How a denoiser is computed on a CPU: auto (the fastest way that is within 0.5 HU of "
        "fp32, measured once on this machine), fp32, or bf16 wherever that is as near.",
    ),
]
UNCOMPRESSED = "none"
AUTO = "auto"
LabelForm = Annotated[
    str,
    typer.Option("--labels", help="A segmenter's result of DICOM: seg, labelmap, rtstruct, nifti."),
]
Spread = Annotated[
    str | None,
    typer.Option(
        "--spread",
        metavar="N|ADDRESS",
        help="Series side by side: in N processes of this computer, or on the Dask cluster whose "
        "scheduler is at tls://HOST:PORT.",
    ),
]


ProjectionDevice = Annotated[
    str | None,
    typer.Option(
        "--device",
        metavar="auto|cpu|cuda|cuda:N",
        help="Where to project; by default on the CPU. The drawn noise is the same everywhere.",
    ),
]


def add_series_commands(app: typer.Typer) -> None:
    """Add the commands over CT series."""
    for command in (ingest, apply, simulate, check, deidentify):
        app.command()(command)


def ingest(
    source: Source,
    store: StoreFolder,
    intake: IngestChoices = None,
    pairs: Annotated[
        bool,
        typer.Option(
            "--pairs",
            help="Only full-dose series that have a low-dose one at the same places, which becomes "
            "their input. SeriesDescription or a folder says 'full dose', 'low dose'.",
        ),
    ] = False,
    flow: Flow = False,
    json_: Json = False,
) -> None:
    """Find the CT volumes below SOURCE, check them, and store them in HU.

    What cannot be trusted is refused and named: lost slices, copies that differ, damaged files.
    """
    require_source(source)
    with imports_of(flow):
        from flows.cli.tables.base import ingest_table
        from flows.ingest import ingest_flow
        from pipeline.config.load import parse_intake
        from pipeline.config.sections import Pairs

    partners = Pairs() if pairs else None
    report = ingest_flow(source, store, parse_intake(intake), partners, as_flow=flow)
    show(report, json_, lambda: ingest_table(report))
    end(report)


def apply(
    model: Model,
    source: Source,
    out: Out,
    compress: Compress = UNCOMPRESSED,
    enhanced: Enhanced = False,
    difference: Difference = False,
    uncertainty: Uncertainty = False,
    labels: LabelForm = "seg",
    strength: Strength = None,
    dose_ratio: DoseRatio = None,
    target_noise: TargetNoise = None,
    level: Level = None,
    style: Style = None,
    skip_unneeded: SkipUnneeded = False,
    spread: Spread = None,
    hold_on_failed_gate: HoldOnFailedGate = False,
    compute: Compute = AUTO,
    intake: IngestChoices = None,
    device: Device = None,
    flow: Flow = False,
    json_: Json = False,
) -> None:
    """A registered model over every CT below SOURCE; derived DICOM series in OUT.

    A dose-conditioned denoiser makes up for as much as the noise of each series lacks to that
    of a full dose with such a kernel and thickness, unless an option says otherwise. A denoiser
    gives CT series, a segmenter DICOM SEG, and both image files for image files (NIfTI, NRRD,
    MetaImage). A restorer of pictures takes PNG, JPEG, TIFF and NIfTI, and writes each under its
    own name in OUT, with its bit depth and EXIF orientation; it overwrites nothing. A derived
    series is checked before it is exported; one that fails is not written.
    """
    compute_on(device)
    how = require_compute(compute)
    require_usable(model, source, out)
    with imports_of(flow):
        from flows.cli.tables.base import applied_table
        from flows.cli.tables.restoration import pictures_table
        from flows.commands import apply_flow
        from pipeline.config.dose import DoseRequest
        from pipeline.config.load import parse_intake
        from pipeline.export.series import Export

    to = Export(
        out,
        compress,
        difference,
        labels,
        enhanced=enhanced,
        skip_unneeded=skip_unneeded,
        uncertainty=uncertainty,
        compute=how,
    )
    report = apply_flow(
        model,
        source,
        to,
        intake=parse_intake(intake),
        strength=strength,
        dose=DoseRequest.of(ratio=dose_ratio, noise_hu=target_noise, level=level),
        style=style,
        spread=spread,
        hold_on_failed_gate=hold_on_failed_gate,
        as_flow=flow,
    )
    shown = pictures_table if report.get("pictures") else applied_table
    show(report, json_, lambda: shown(report, out))
    end(report)


def simulate(
    source: Source,
    out: Out,
    dose: Annotated[float, typer.Option(help="Dose fraction, above 0 and at most 1.")],
    photons: Annotated[
        str,
        typer.Option(
            metavar="NUMBER|auto",
            help="Photons per ray at full dose; auto measures them, and the kernel, in each "
            "volume's own noise.",
        ),
    ] = "1.5e5",
    seed: Annotated[int, typer.Option(help="Seed of the noise.")] = 0,
    compress: Compress = UNCOMPRESSED,
    enhanced: Enhanced = False,
    intake: IngestChoices = None,
    device: ProjectionDevice = None,
    json_: Json = False,
) -> None:
    """A low-dose copy of every CT below SOURCE; derived DICOM series in OUT."""
    compute_on(device)
    photons_per_ray = _photons(photons)
    require_source(source)
    writable(out)
    with quick_imports():
        from flows.cli.tables.base import simulated_table
        from flows.commands import simulate_flow
        from pipeline.config.load import parse_intake
        from pipeline.physics.lowdose import LowDoseCT

    report = simulate_flow(
        source,
        out,
        physics=LowDoseCT(
            dose_fraction=dose, photons_per_ray=photons_per_ray, device=choose_device(CPU)
        ),
        seed=seed,
        intake=parse_intake(intake),
        compress=compress,
        enhanced=enhanced,
    )
    show(report, json_, lambda: simulated_table(report, out))
    end(report)


def check(
    folder: Annotated[Path, typer.Argument(help="A folder tree of derived series.")],
    source: Annotated[
        Path | None, typer.Option("--source", help="The series they were derived from.")
    ] = None,
    intake: IngestChoices = None,
    json_: Json = False,
) -> None:
    """Do derived series say what they are? Finds what dciodvfy cannot.

    Originals in disguise, missing or wrong sources, wrong code meanings, reused UIDs, geometry
    or patient that differ from the source, identity where it must not be. Exit code 1 where a
    series fails.
    """
    from flows.cli.tables.base import checked_table
    from flows.runtime.progress import StageProgress
    from pipeline.config.load import parse_intake
    from pipeline.dicom.derived.check import check_tree

    choices = parse_intake(intake)
    with StageProgress("check"):
        checked = check_tree(folder, source, intake=choices)
    report = {
        "passed": all(series.passed for series in checked),
        "series": [series.to_dict() for series in checked],
    }
    show(report, json_, lambda: checked_table(report))
    if not report["passed"]:
        raise typer.Exit(1)


def deidentify(
    source: Source,
    out: Out,
    key_file: Annotated[
        Path, typer.Option("--key-file", help="At least 32 secret bytes: the same key, same names.")
    ],
    shift_dates: Annotated[
        bool, typer.Option(help="Keep dates, moved by a secret number of days per patient.")
    ] = False,
    safe_private: Annotated[
        bool, typer.Option(help="Keep private attributes that DICOM lists as safe.")
    ] = False,
    retain_device: Annotated[bool, typer.Option(help="Keep the scanner's identity.")] = False,
    trust_pixels: Annotated[
        bool,
        typer.Option(
            "--trust-pixels",
            help="Copy CT images too that may hold text in their pixels: you have looked at them.",
        ),
    ] = False,
    json_: Json = False,
) -> None:
    """Copies of the CT below SOURCE without identity: DICOM PS3.15 Basic Profile.

    What may hold identity that cannot be removed is left out: secondary captures and reports, and
    CT images with evidence of text in their pixels (exit code 4).
    """
    require_source(source)
    writable(out)
    with quick_imports():
        from flows.cli.tables.base import deidentified_table
        from flows.commands import deidentify_flow
        from pipeline.dicom.deidentify.profile import Options

    options = Options(
        shift_dates=shift_dates,
        safe_private=safe_private,
        retain_device=retain_device,
        trust_pixels=trust_pixels,
    )
    report = deidentify_flow(source, out, key_file=key_file, options=options)
    show(report, json_, lambda: deidentified_table(report, out))
    end(report)


def _photons(text: str) -> float | None:
    """None for auto: measured in the image."""
    if text == AUTO:
        return None
    try:
        return float(text)
    except ValueError:
        raise ConfigError(f"--photons {text}: give a number such as 1.5e5, or {AUTO}") from None
