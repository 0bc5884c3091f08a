"""Pictures for the review page: slices in a window and signed differences.

Slices become 8-bit PNGs at their own resolution, one pixel a pixel: a plotting library would
resample them, and noise texture is what a reader judges.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from numpy.typing import NDArray
from PIL import Image

from pipeline.core.atomic_files import replacing
from pipeline.core.masks import body_mask
from pipeline.core.units import Window

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
#: Rows and columns of a region.
Crop = tuple[slice, slice]


@dataclass(frozen=True)
class Panel:
    """One slice of one held-back patient; images in HU, each [rows, columns].

    `figures` has, for "input" and "output", this slice's psnr (dB), ssim and rmse_hu in
    `window`; any may be None. pixel_mm is the distance between columns. remark: why it is
    shown, empty for a slice like any other.
    """

    title: str
    target_hu: NDArray
    input_hu: NDArray
    output_hu: NDArray
    figures: Mapping[str, Mapping[str, float | None]]
    window_name: str
    window: Window
    pixel_mm: float
    remark: str = ""

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
    """Levels [rows, columns] as they are."""
    return _png(Image.fromarray(levels))


def difference_png(levels: Levels) -> bytes:
    """Levels coloured through a palette: a third of the bytes of true colour."""
    image = Image.fromarray(levels)
    image.putpalette(DIFFERENCE_COLOURS(np.arange(256), bytes=True)[:, :3].tobytes())
    return _png(image)


def colour_bar_png() -> bytes:
    """The difference map's scale from -100 HU (left) to +100 HU (right), one pixel high."""
    return difference_png(np.arange(256, dtype=np.uint8)[None])


def png_of(picture: Levels) -> bytes:
    """Grey [rows, columns], or RGB [rows, columns, 3]."""
    return _png(Image.fromarray(picture))


def _png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format="PNG")
    return buffer.getvalue()


def centre_crop(image_hu: NDArray) -> Crop:
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


def save_overview(panels: list[Panel], path: Path) -> None:
    """One PNG, 1600 pixels wide, of the first usual panel: the whole slice above its centre.

    Columns: full dose, low dose, denoised, denoised minus full dose with its scale in HU.
    """
    panel = next((panel for panel in panels if not panel.remark), panels[0])
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
