"""Pictures for the review page: slices in a window, signed differences, the training curve.

Slices become 8-bit PNGs at their own resolution, one pixel a pixel: a plotting library would
resample them, and noise texture is what a reader judges.
"""

from __future__ import annotations

import io
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from numpy.typing import NDArray
from PIL import Image

from pipeline.files import replacing
from pipeline.masks import body_mask
from pipeline.units import Window

#: The difference map's scale, in HU either way. Fixed, so that two reports compare by eye.
DIFFERENCE_LIMIT_HU = 100.0
#: Blue is darker, orange brighter than full dose. No difference is dark, as a white centre
#: would dazzle beside CT slices; colour rises early, as 20 HU matter more than 80.
DIFFERENCE_COLOURS = LinearSegmentedColormap.from_list(
    "difference", ["#a5dcff", "#3f9be8", "#0f1114", "#f07030", "#ffc890"]
)
#: How much larger the body's centre is shown than the whole slice.
ENLARGEMENT = 2.5

Levels = NDArray[np.uint8]


@dataclass(frozen=True)
class Panel:
    """One slice of one held-back patient; images in HU, each [rows, columns].

    `figures` has, for "input" and "output", this slice's psnr (dB), ssim and rmse_hu in
    `window`; any may be None.
    """

    title: str
    target_hu: NDArray
    input_hu: NDArray
    output_hu: NDArray
    figures: Mapping[str, Mapping[str, float | None]]
    window_name: str
    window: Window

    @property
    def difference_hu(self) -> NDArray:
        """Denoised minus full dose: positive where denoising made it brighter."""
        return self.output_hu.astype(np.float32) - self.target_hu.astype(np.float32)


def grey_levels(image_hu: NDArray, window: Window) -> Levels:
    """An image as a viewer shows it: black below the window, white above, 0 to 255."""
    return _levels(image_hu, window.low_hu, window.high_hu)


def difference_levels(difference_hu: NDArray) -> Levels:
    """Places on the diverging colour scale, 0 at or below -100 HU, 255 at or above +100 HU."""
    return _levels(difference_hu, -DIFFERENCE_LIMIT_HU, DIFFERENCE_LIMIT_HU)


def _levels(values: NDArray, low: float, high: float) -> Levels:
    scaled = (values.astype(np.float32) - low) / (high - low)
    # NaN, as a network gone astray gives, has no place on a scale; the lowest keeps it visible.
    return np.rint(np.nan_to_num(scaled).clip(0, 1) * 255).astype(np.uint8)


def grey_png(levels: Levels) -> bytes:
    return _png(Image.fromarray(levels))


def difference_png(levels: Levels) -> bytes:
    """Levels coloured through a palette: a third of the bytes of true colour."""
    image = Image.fromarray(levels)
    image.putpalette(DIFFERENCE_COLOURS(np.arange(256), bytes=True)[:, :3].tobytes())
    return _png(image)


def colour_bar_png() -> bytes:
    """The difference map's scale from -100 HU (left) to +100 HU (right), one pixel high."""
    return difference_png(np.arange(256, dtype=np.uint8)[None])


def _png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format="PNG")
    return buffer.getvalue()


def centre_crop(image_hu: NDArray) -> tuple[slice, slice]:
    """The region around the body's centre that is shown enlarged; the image's without a body."""
    mask = body_mask(image_hu)
    sides = []
    for axis, length in enumerate(image_hu.shape):
        places = np.flatnonzero(mask.any(axis=1 - axis)) if mask.any() else np.arange(length)
        side = max(1, round(length / ENLARGEMENT))
        start = (int(places[0]) + int(places[-1]) + 1 - side) // 2
        start = min(max(0, start), length - side)
        sides.append(slice(start, start + side))
    return sides[0], sides[1]


def curve_png(curve: list[dict[str, Any]]) -> bytes:
    """Training loss (log axis) over iterations, learning rate faint on a second axis."""
    iterations = [point["iteration"] for point in curve]
    figure = Figure(figsize=(13, 3.6), dpi=140, layout="constrained")
    axes = figure.add_subplot()
    axes.set(xlabel="iteration", ylabel="loss (network units, log)")
    rates = axes.twinx()
    rates.plot(iterations, _plottable(curve, "learning_rate"), color="#b08968", alpha=0.6, lw=1.2)
    rates.set_ylabel("learning rate", color="#8a6a4c")
    rates.ticklabel_format(axis="y", style="sci", scilimits=(0, 0))
    rates.set_ylim(bottom=0)
    loss = _plottable(curve, "loss")
    # A single point draws no line.
    axes.plot(iterations, loss, color="#1f5f8b", lw=1.4, marker="." if len(loss) < 20 else "")
    if np.isfinite(loss).any():
        axes.set_yscale("log")
    axes.grid(which="both", alpha=0.2)
    _above(axes, rates)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()


def _plottable(curve: list[dict[str, Any]], key: str) -> list[float]:
    """Values that a log axis can take; NaN, a gap in the line, for the others."""
    values = [point.get(key) for point in curve]
    return [
        value if value is not None and math.isfinite(value) and value > 0 else math.nan
        for value in values
    ]


def _above(front: Axes, back: Axes) -> None:
    front.set_zorder(back.get_zorder() + 1)
    front.patch.set_visible(False)


def save_overview(panels: list[Panel], path: Path) -> None:
    """One PNG, 1600 pixels wide, of the first panel: the whole slice above its enlarged centre.

    Columns: full dose, low dose, denoised, denoised minus full dose with its scale in HU.
    """
    panel = panels[0]
    regions = ((slice(None), slice(None)), centre_crop(panel.target_hu))
    figure, grid = _overview_grid(panel.target_hu.shape)
    for row, region in enumerate(regions):
        for axes, (title, image, limits, colours) in zip(grid[row], _columns(panel), strict=True):
            shown = axes.imshow(
                image[region], vmin=limits[0], vmax=limits[1], cmap=colours, aspect="auto"
            )
            axes.set_axis_off()
            if row == 0:
                axes.set_title(title, color="white", fontsize=13)
    _add_bar(figure, shown, grid)
    figure.text(0.5, 0.01, _overview_note(panel), color="#c9d1d9", fontsize=11, ha="center")
    with replacing(path) as partial:
        figure.savefig(partial, format="png")


def _overview_grid(shape: tuple[int, ...]) -> tuple[Figure, Any]:
    """Two rows of four pictures in the proportions of `shape`, room for a colour bar beside."""
    width, gap, margin = 3.68, 0.06, 0.4  # inches; 100 pixels each
    picture = width * shape[0] / shape[1]
    height = 2 * picture + gap + 2 * margin
    figure = Figure(figsize=(16, height), dpi=100, facecolor="#0d1014")
    grid = figure.subplots(
        2,
        4,
        gridspec_kw={
            "left": gap / 16,
            "right": (4 * width + 4 * gap) / 16,
            "bottom": margin / height,
            "top": 1 - margin / height,
            "wspace": gap / width,
            "hspace": gap / picture,
        },
    )
    return figure, grid


def _add_bar(figure: Figure, shown: AxesImage, grid: Any) -> None:
    """The differences' scale to the right of both rows of `grid`."""
    top, bottom = (grid[row][-1].get_position() for row in (0, 1))
    axes = figure.add_axes((bottom.x1 + 0.007, bottom.y0, 0.01, top.y1 - bottom.y0))
    bar = figure.colorbar(shown, cax=axes, extend="both")
    bar.set_label("denoised − full dose, HU", color="white")
    axes.tick_params(colors="white")


def _columns(panel: Panel) -> list[tuple[str, NDArray, tuple[float, float], Any]]:
    """Title, image, limits in HU and colours of each column."""
    window = (panel.window.low_hu, panel.window.high_hu)
    limits = (-DIFFERENCE_LIMIT_HU, DIFFERENCE_LIMIT_HU)
    return [
        ("full dose", panel.target_hu, window, "gray"),
        ("low dose", panel.input_hu, window, "gray"),
        ("denoised (AI-derived)", panel.output_hu, window, "gray"),
        ("denoised − full dose", panel.difference_hu, limits, DIFFERENCE_COLOURS),
    ]


def _overview_note(panel: Panel) -> str:
    centre, width = panel.window
    return (
        f"{panel.title}    window {panel.window_name}: centre {centre:g}, width {width:g} HU    "
        f"below: the centre, {ENLARGEMENT:g}×    Not for primary diagnosis."
    )
