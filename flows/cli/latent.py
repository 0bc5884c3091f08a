"""`ldct latent`: what a generative model's space of codes holds."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from flows.cli.endings import end, json_output
from flows.cli.options import Device, IngestChoices, Json, Model, Out, writable
from pipeline.core.device import compute_on
from pipeline.core.types import Json as JsonObject

latent_app = typer.Typer(
    help="Draw, restore and mix images with a generative model. Grids as PNG in OUT.",
    no_args_is_help=True,
)

Store = Annotated[
    Path | None,
    typer.Option("--store", help="Start from this data set's images; else from random codes."),
]
Images = Annotated[Path, typer.Option("--store", help="The data set whose images to start from.")]
Seed = Annotated[int, typer.Option(help="Of the random codes.")]
Label = Annotated[
    int | None, typer.Option(help="Ask a conditional model for this; else for each in turn.")
]
Dicom = Annotated[
    bool, typer.Option("--dicom", help="Also as a CT series, marked SYNTHETIC in every header.")
]
Nifti = Annotated[bool, typer.Option("--nifti", help="Also as NIfTI, marked SYNTHETIC.")]
Steps = Annotated[int, typer.Option(help="Images in a row.")]
Rows = Annotated[int, typer.Option(help="Rows of images.")]


def add_latent_commands(app: typer.Typer) -> None:
    """Add `ldct latent ...`."""
    app.add_typer(latent_app, name="latent")


@latent_app.command()
def sample(
    model: Model,
    out: Out,
    store: Annotated[
        Path | None,
        typer.Option("--store", help="Draw from where the codes of this data set's images lie."),
    ] = None,
    count: Annotated[int, typer.Option(help="How many images.")] = 64,
    label: Label = None,
    seed: Seed = 0,
    dicom: Dicom = False,
    nifti: Nifti = False,
    device: Device = None,
    json_: Json = False,
) -> None:
    """Synthetic images, from random codes."""
    compute_on(device)
    asked = {"count": count, "label": label, "seed": seed}
    _show("sample", model, out, asked, store=store, dicom=dicom, nifti=nifti, json_=json_)


@latent_app.command()
def reconstruct(
    model: Model,
    out: Out,
    store: Images,
    count: Annotated[int, typer.Option(help="How many images.")] = 8,
    device: Device = None,
    json_: Json = False,
) -> None:
    """Stored images, and below them what is left after the way through the code."""
    compute_on(device)
    _show("reconstruct", model, out, {"count": count}, store=store, json_=json_)


def _add_walk(name: str, help_text: str, *, default_rows: int) -> None:
    """A command that shows rows of images on a way through the codes."""

    @latent_app.command(name, help=help_text)
    def walk(
        model: Model,
        out: Out,
        store: Store = None,
        rows: Rows = default_rows,
        steps: Steps = 9,
        label: Label = None,
        seed: Seed = 0,
        dicom: Dicom = False,
        nifti: Nifti = False,
        device: Device = None,
        json_: Json = False,
    ) -> None:
        compute_on(device)
        asked = {"count": rows, "steps": steps, "label": label, "seed": seed}
        _show(name, model, out, asked, store=store, dicom=dicom, nifti=nifti, json_=json_)


_add_walk("interpolate", "Straight ways from one code to another.", default_rows=4)
_add_walk(
    "traverse",
    "One latent after the other moved from -3 to +3 sigma; with a store, by their variance.",
    default_rows=8,
)


@latent_app.command()
def arithmetic(
    model: Model,
    out: Out,
    store: Images,
    attribute: Annotated[
        str,
        typer.Option(
            help="thickness or slant of strokes (above the median), lungs, label=N, or a CSV file "
            "whose lines series,slice have it."
        ),
    ],
    rows: Rows = 6,
    device: Device = None,
    json_: Json = False,
) -> None:
    """Give images an attribute: add to their codes what sets those that have it apart."""
    compute_on(device)
    asked = {"count": rows, "attribute": attribute}
    _show("arithmetic", model, out, asked, store=store, json_=json_)


@latent_app.command()
def fill(
    model: Model,
    source: Annotated[
        Path, typer.Argument(help="CT as for `ldct apply`; for a generator of pictures, those.")
    ],
    out: Out,
    region: Annotated[
        str,
        typer.Option(
            metavar="metal|truncation|missing|MASK",
            help="Of CT: metal by its HU, the body beyond the field of view, slices missing "
            "inside, or a label file on the CT's grid. Of pictures: a mask picture, white is the "
            "hole and black is known, or a folder of masks of the pictures' names.",
        ),
    ],
    threshold: Annotated[float, typer.Option(help="HU from which on it is metal.")] = 2500.0,
    margin: Annotated[float, typer.Option(help="mm around metal that are made up too.")] = 2.0,
    sequence: Annotated[
        bool, typer.Option("--sequence", help="The pictures are frames, in the order of names.")
    ] = False,
    moves: Annotated[
        int, typer.Option(help="Of the search; each further frame or slice takes a third.")
    ] = 384,
    seed: Seed = 0,
    intake: IngestChoices = None,
    device: Device = None,
    json_: Json = False,
) -> None:
    """Make up what was not measured: search the code whose image fits what is known around it.

    Known pixels keep their values to the bit. CT comes back as a derived series that says MADE UP,
    with a DICOM SEG of where; slices made up are never DICOM but NIfTI marked SYNTHETIC. Nothing
    of it is for diagnosis.
    """
    compute_on(device)
    writable(out)
    from flows.fill import fill_flow
    from pipeline.config.load import parse_intake
    from pipeline.export.filled import FillRequest
    from pipeline.generative.fill import Fill

    searched = Fill(moves=moves, follow=max(1, moves // 3), seed=seed)
    wanted = FillRequest(region, threshold_hu=threshold, margin_mm=margin, fill=searched)
    report = fill_flow(
        model, source, out, wanted=wanted, intake=parse_intake(intake), sequence=sequence
    )
    _print_report({**report, "files": [_filled(row, out) for row in report["exported"]]}, json_)
    end(report)


def _filled(row: JsonObject, out: Path) -> str:
    """A line on what was made up where."""
    pixels = f"{row['pixels']} pixels" if "pixels" in row else f"{len(row['made_up'])} slices"
    name = row["folder"] if "folder" in row else row["file"]
    return f"{out / name}: {pixels} MADE UP, not for diagnosis"


@latent_app.command()
def plot(model: Model, out: Out, store: Images, device: Device = None, json_: Json = False) -> None:
    """The codes of stored images in the two latents that vary most, coloured by label."""
    compute_on(device)
    writable(out)
    from flows.latent import plot_latents

    _print_report(plot_latents(model, store, out), json_)


def _show(
    name: str,
    model: str,
    out: Path,
    asked: JsonObject,
    *,
    store: Path | None = None,
    dicom: bool = False,
    nifti: bool = False,
    json_: bool,
) -> None:
    writable(out)
    from flows.latent import show_latents

    _print_report(
        show_latents(name, model, out, asked, store=store, dicom=dicom, nifti=nifti), json_
    )


def _print_report(report: JsonObject, as_json: bool) -> None:
    if as_json:
        json_output.print(report)
    else:
        print("\n".join(report["files"]))
