"""Images that a model generated, each marked as such: in the picture and in the file."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

import nibabel
import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from PIL.PngImagePlugin import PngInfo

from pipeline.core.atomic_files import replacing
from pipeline.core.errors import LdctError
from pipeline.core.units import Window
from pipeline.core.versions import SOFTWARE, VERSION
from pipeline.dicom.synthetic.generated_series import MARKING as SYNTHETIC
from pipeline.report.slice_images import grey_levels

_GAP = 2
_FONT_PIXELS = 13
_BACKGROUND, _INK = 16, 220
#: Small pictures are shown at a multiple of their size, so that a digit can be read.
_MIN_SIDE = 48


def save_grid(
    images: NDArray[np.float32],
    path: Path,
    *,
    window: Window,
    columns: int,
    caption: str,
    marking: str = SYNTHETIC,
) -> None:
    """Images [count, rows, columns] row by row, one pixel a pixel or enlarged, as one PNG.

    Under them stand the marking and the caption, and both in the PNG's text as well.
    """
    levels = grey_levels(images, window)
    times = max(1, math.ceil(_MIN_SIDE / min(images.shape[1:])))
    levels = levels.repeat(times, axis=1).repeat(times, axis=2)
    height, width = levels.shape[1] + _GAP, levels.shape[2] + _GAP
    rows = math.ceil(len(levels) / columns)
    lines = _wrapped(f"{marking}. {caption}", columns * width)
    foot = (len(lines) + 1) * (_FONT_PIXELS + 3)
    canvas = np.full((rows * height + foot, columns * width), _BACKGROUND, dtype=np.uint8)
    for number, image in enumerate(levels):
        top, left = (number // columns) * height, (number % columns) * width
        canvas[top : top + height - _GAP, left : left + width - _GAP] = image
    picture = Image.fromarray(canvas)
    ImageDraw.Draw(picture).text((4, rows * height + 4), "\n".join(lines), fill=_INK, font=_font())
    with replacing(path) as partial:
        picture.save(partial, pnginfo=_metadata(marking, caption))


def _font() -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(_FONT_PIXELS)


def _wrapped(text: str, width_pixels: int) -> list[str]:
    """Lines no wider than that, broken between words."""
    lines: list[str] = []
    for word in text.split():
        longer = f"{lines[-1]} {word}" if lines else word
        if lines and _font().getlength(longer) <= width_pixels - 8:
            lines[-1] = longer
        else:
            lines.append(word)
    return lines


def _metadata(marking: str, caption: str) -> PngInfo:
    text = PngInfo()
    text.add_text("Comment", marking)
    text.add_text("Description", caption)
    text.add_text("Software", f"{SOFTWARE} {VERSION}")
    return text


def save_latent_plot(
    panels: Mapping[str, tuple[NDArray[np.float32], NDArray[np.int64]]],
    path: Path,
    *,
    latents: tuple[int, int] = (1, 2),
) -> None:
    """Codes of two latents [count, 2] coloured by label [count], one panel for each title.

    latents: their numbers, counted from 1. The circles hold 68 and 99.7 % of a standard normal
    prior: 1.51 and 3.41 from its centre.
    """
    figure = Figure(figsize=(5 * len(panels), 5.2), dpi=110, layout="constrained")
    grid = figure.subplots(1, len(panels), squeeze=False)[0]
    for axes, (title, (codes, labels)) in zip(grid, panels.items(), strict=True):
        dots = axes.scatter(*codes.T, c=labels, cmap="tab10", s=7, alpha=0.8)
        for share in (0.68, 0.997):
            radius = math.sqrt(-2 * math.log(1 - share))
            angle = np.linspace(0, 2 * np.pi, 200)
            axes.plot(radius * np.cos(angle), radius * np.sin(angle), "--", color="#555", lw=1)
        axes.set(title=title, xlabel=f"latent {latents[0]}", ylabel=f"latent {latents[1]}")
        axes.set_aspect("equal", adjustable="datalim")
    figure.colorbar(dots, ax=grid[-1], label="label")
    with replacing(path) as partial:
        figure.savefig(partial, format="png")


def write_synthetic_nifti(
    image_hu: NDArray[np.float32],
    path: Path,
    *,
    spacing_mm: tuple[float, float, float],
    made_by: str,
) -> None:
    """Generated slices [slices, rows, columns] in HU as NIfTI-1 that says so in its header.

    `descrip` and `intent_name` begin with SYNTHETIC, and the file's name must. Columns run to
    the left and rows to the back (LPS), slices to the head. Raises LdctError for another name.
    """
    if not path.name.lower().startswith("synthetic") or path.exists():
        raise LdctError(f"{path}: choose a new name that begins with 'synthetic'")
    slice_mm, row_mm, column_mm = spacing_mm
    affine = np.diag([-column_mm, -row_mm, slice_mm, 1.0])
    image = nibabel.Nifti1Image(np.asarray(image_hu, np.float32).T, affine)
    image.header.set_xyzt_units("mm")
    image.header["descrip"] = f"{SYNTHETIC}. {made_by}".encode()[:79]
    image.header["intent_name"] = b"SYNTHETIC"
    with replacing(path) as partial:
        nibabel.save(image, partial)
