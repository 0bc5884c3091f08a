"""What the commands have in common: their options, and how they begin and end."""

from __future__ import annotations

import gc
import tempfile
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Annotated

import typer

from flows.cli.completion import complete_config, complete_model
from flows.tracking.references import require_model
from pipeline.core.errors import ConfigError, NothingUsableError

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout.")]
Out = Annotated[Path, typer.Option("--out", "-o", help="Folder for the results; made if need be.")]
StoreFolder = Annotated[Path, typer.Option("--store", help="Folder of the data set on disk.")]
Config = Annotated[
    Path,
    typer.Argument(
        help="One complete run: a YAML file, or the name of one that comes with the software, such "
        "as denoise_redcnn.",
        autocompletion=complete_config,
    ),
]
Model = Annotated[
    str,
    typer.Argument(help="NAME, NAME@alias or NAME/VERSION.", autocompletion=complete_model),
]
Denoiser = Annotated[
    str | None,
    typer.Option(
        "--denoiser",
        metavar="MODEL",
        help="Of a segmenter: does this denoiser help it on low-dose images?",
    ),
]
Source = Annotated[
    Path,
    typer.Argument(
        help="A folder tree, zip archive or DICOMDIR of DICOM files, an image file (NIfTI, NRRD, "
        "MetaImage), or a folder of those."
    ),
]
Settings = Annotated[
    list[str] | None,
    typer.Option("--set", help="Override a setting: --set train.iterations=500", metavar="A.B=C"),
]
IngestChoices = Annotated[
    list[str] | None,
    typer.Option(
        "--intake",
        metavar="NAME=CHOICE",
        help="Use what is refused by default: gaps=slices|fill, uneven=resample, tilt=unshear, "
        "unidentified=folder, rescale_type=hu, air=accept, labels=nearest, fractions=half; "
        "patients=folder|FILE.csv says which image files are one patient's; skip_folders=WORD "
        "leaves folders alone. May be given several times.",
    ),
]
Strength = Annotated[
    float | None,
    typer.Option(
        "--strength",
        help="The share of the model's correction to apply, above 0 and at most 1: input + "
        "strength * (denoised - input). By default that of its configuration.",
    ),
]
Device = Annotated[
    str | None,
    typer.Option(
        "--device",
        metavar="auto|cpu|cuda|cuda:N",
        help="Where to compute; by default on a GPU where there is one. It goes before a "
        "configuration's train.device.",
    ),
]
Flow = Annotated[
    bool,
    typer.Option(
        "--flow",
        help="As a Prefect flow, also where PREFECT_API_URL names no server: then on one that "
        "ends with the command.",
    ),
]
DoseRatio = Annotated[
    float | None,
    typer.Option(
        "--dose-ratio",
        metavar="K",
        help="As if scanned at K times the dose, 1 to 20; for dose-conditioned models. By "
        "default by the noise in each series.",
    ),
]
TargetNoise = Annotated[
    float | None,
    typer.Option(
        "--target-noise", metavar="HU", help="The noise to be left in flat tissue, instead."
    ),
]
Level = Annotated[
    int | None,
    typer.Option("--level", metavar="1..5", help="12 % less noise for each level, instead."),
]
Style = Annotated[
    str | None,
    typer.Option(
        "--style",
        metavar="PICTURE|N",
        help="Of a model that draws pictures in many styles: the style of this picture, or the "
        "random one with this number. By default the mean of all styles.",
    ),
]
SkipUnneeded = Annotated[
    bool,
    typer.Option(
        "--skip-unneeded",
        help="Write nothing of a series that a dose-conditioned model would leave as it is.",
    ),
]
HoldOnFailedGate = Annotated[
    bool,
    typer.Option(
        "--hold-on-failed-gate",
        help="Export nothing by a model that did not pass its gate; by default it is exported and "
        "marked.",
    ),
]
LowDose = Annotated[
    bool,
    typer.Option(
        "--low-dose/--no-low-dose",
        help="Of the held-back series also what the figures rest on: the simulated low dose, and "
        "the model's result on it.",
    ),
]
Hospital = Annotated[
    Path, typer.Argument(metavar="HOSPITAL", help="A YAML: source, rules, model, destination.")
]

Metrics = Annotated[
    str | None,
    typer.Option(
        "--metrics",
        metavar="[HOST:]PORT",
        help="Answer /metrics and /health there; on this computer alone unless a host is given.",
    ),
]


def writable(out: Path) -> None:
    """Refuse an unusable OUT before any work is done for it."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=out):
            pass
    except OSError as error:
        raise ConfigError(f"cannot write to --out {out}: {error.strerror}") from error


def require_source(source: Path) -> None:
    """Refuse a SOURCE that is not there before anything heavy is imported for it."""
    if not source.exists():
        raise NothingUsableError(f"{source} does not exist")


def require_usable(model: str, source: Path, out: Path) -> None:
    """Refuse a SOURCE or MODEL that is not there and an unusable OUT before heavy imports."""
    require_source(source)
    require_model(model)
    writable(out)


@contextmanager
def quick_imports() -> Iterator[None]:
    """Around the imports of a command's work: Python does not look for cycles among what is never
    freed, neither now (1.3 s) nor at any later time."""
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


@contextmanager
def import_with_server_warmup() -> Iterator[None]:
    """As quick_imports, with Prefect's temporary server starting beside them, for a command that
    is a flow in any case."""
    from flows.runtime import ephemeral_server

    ephemeral_server.start()
    with quick_imports():
        yield


def imports_of(flow: bool) -> AbstractContextManager[None]:
    """Around the imports of a command that is a flow only where it is asked to be."""
    return import_with_server_warmup() if flow else quick_imports()
