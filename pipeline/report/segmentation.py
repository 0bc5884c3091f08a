"""The page of a segmenter's run: outlines over slices, figures per class."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch import nn

from pipeline.config.segmentation import IGNORED
from pipeline.config.task_runs import SegmentRun
from pipeline.core.atomic_files import replacing
from pipeline.core.types import Json
from pipeline.inference.segment import segment
from pipeline.metrics.segmentation import TOLERANCE_MM
from pipeline.report.charts import Curve
from pipeline.report.overlay import colour_of, overlay
from pipeline.report.pages import data_uri, write_run_page
from pipeline.report.slice_images import png_of
from pipeline.store.labels import stored_labels
from pipeline.store.store import Store

SLICES_PER_SERIES = 2
MAX_SERIES = 4
#: Small working images are shown so many times larger, to be seen at all.
SMALLEST_SIDE = 400


@dataclass(frozen=True)
class Overlay:
    """A slice with the label map's outlines, and with what was found: RGB [rows, columns, 3]."""

    title: str
    window: str
    truth: NDArray[np.uint8]
    found: NDArray[np.uint8]


def choose_overlays(
    model: nn.Module, store: Store, keys: list[str], config: SegmentRun
) -> list[Overlay]:
    """Of each of the first series, the slices where the label map shows most classes."""
    settings = config.grid
    name, window = next(iter(config.windows.items()))
    overlays = []
    for key in keys[:MAX_SERIES]:
        volume = store.load(key)
        found = segment(model, volume, settings)
        truth = settings.classes_of(stored_labels(store, key, settings.labels))
        for number in _most_labelled(truth):
            image_hu = np.array(volume.image_hu[number])
            overlays.append(
                Overlay(
                    title=f"{store.record(key).patient}, slice {number + 1} of {len(truth)}",
                    window=f"{name}: centre {window.centre:g}, width {window.width:g} HU",
                    truth=_enlarged(overlay(image_hu, truth[number], window)),
                    found=_enlarged(overlay(image_hu, found[number], window)),
                )
            )
    return overlays


def _most_labelled(truth: NDArray[np.uint8]) -> list[int]:
    """The slice of the most classes (and, of these, of the most labelled voxels) in each of
    SLICES_PER_SERIES parts of a volume."""
    parts = np.array_split(np.arange(len(truth)), min(SLICES_PER_SERIES, len(truth)))

    def labelled(number: int) -> tuple[int, int]:
        """How many classes a slice shows, and how many voxels of them."""
        plane = truth[number]
        known = plane[(plane > 0) & (plane != IGNORED)]
        return len(np.unique(known)), len(known)

    return [max(part.tolist(), key=labelled) for part in parts]


def _enlarged(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    times = -(-SMALLEST_SIDE // max(picture.shape[:2]))
    return picture.repeat(times, axis=0).repeat(times, axis=1)


def write_segmentation_report(
    report: Json, *, overlays: list[Overlay], curve: Curve, path: Path
) -> None:
    """Write the page of a segmenter's run to `path`; see pipeline.report.pages.write_report."""
    overall = ((report.get("metrics") or {}).get("overall")) or {}
    write_run_page(
        "segmentation.html",
        report,
        curve=curve,
        path=path,
        tolerance_mm=TOLERANCE_MM,
        colours={
            name: "#{:02x}{:02x}{:02x}".format(*colour_of(number))
            for number, name in enumerate(overall.get("classes") or {}, start=1)
        },
        denoiser=report.get("denoiser"),
        overlays=[
            {
                "title": each.title,
                "window": each.window,
                "truth": data_uri(png_of(each.truth)),
                "found": data_uri(png_of(each.found)),
            }
            for each in overlays
        ],
    )


def save_overlay(shown: Overlay, path: Path) -> None:
    """One PNG: the label map left, what was found right."""
    gap = np.zeros((len(shown.truth), 8, 3), np.uint8)
    picture = np.concatenate([shown.truth, gap, shown.found], axis=1)
    with replacing(path) as partial:
        partial.write_bytes(png_of(picture))
