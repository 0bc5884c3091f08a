"""The page of a restoring run: input, classical answer, output and target, and the figures."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image as PillowImage

from pipeline.config.task_runs import RestoreRun
from pipeline.core.atomic_files import replacing
from pipeline.core.types import Json, Picture
from pipeline.data.stored_pictures import StoredPictures, matching
from pipeline.evaluation.classical_denoisers import Tuning
from pipeline.evaluation.classical_restorers import references_at, unrestored
from pipeline.inference.restore import restored
from pipeline.io.colour import levels_of
from pipeline.metrics.image import windowed
from pipeline.models.adapters.restorer import Restorer, degradation_of
from pipeline.report.charts import Curve
from pipeline.report.pages import data_uri, write_run_page
from pipeline.store.store import Store

#: Pictures shown, their side in pixels, and the white between two images.
SHOWN, SIDE, GAP = 4, 256, 4
STRIPS = "strips"


def restoration_strips(
    model: Restorer,
    store: Store,
    keys: list[str],
    config: RestoreRun,
    *,
    tuning: Mapping[str, Tuning],
) -> dict[str, NDArray[np.uint8]]:
    """By what they show, input | references | output | target of the middles of pictures.

    tuning: the references' strengths, as the evaluation found them.
    """
    references = references_at(tuning, config)
    pictures, degradation = StoredPictures(store, keys, config), degradation_of(config)
    colour = config.restoration.colour
    order = ["input", *references, "output", "target"]
    found = {}
    places = np.linspace(0, len(pictures) - 1, min(SHOWN, len(pictures)))
    for number in np.unique(places.round().astype(int)).tolist():
        degraded = pictures.degraded(number)
        answers = [
            unrestored(degraded, degradation, colour),
            *(reference(degraded) for reference in references.values()),
            restored(model, pictures.model_input(number)),
            matching(pictures.target(number), degraded, degradation.scale),
        ]
        place = pictures.places[number]
        title = f"{place.key}, {place.slices.start or 0}: {', '.join(order)}".replace("_", " ")
        found[title] = _strip([_shown(_middle(answer), config) for answer in answers])
    return found


def write_restoration(
    report: Json,
    strips: dict[str, NDArray[np.uint8]],
    *,
    curve: Curve,
    path: Path,
) -> None:
    """Write the page to `path`, and each strip as PNG beside it. curve: the training log."""
    shown = {}
    for number, (title, strip) in enumerate(strips.items()):
        file = io.BytesIO()
        PillowImage.fromarray(strip).save(file, "PNG")
        with replacing(path.with_name(f"restored-{number}.png")) as partial:
            partial.write_bytes(file.getvalue())
        shown[title] = data_uri(file.getvalue())
    write_run_page("restoration.html", report, curve=curve, path=path, strips=shown)


def _shown(picture: Picture, config: RestoreRun) -> NDArray[np.uint8]:
    """[rows, columns, 3] on a screen: grey levels as they are, HU in the first window."""
    settings = config.restoration
    if settings.source == "series":
        window = next(iter(config.windows.values()))
        levels = windowed(picture, window) * (255 / window.width)
    else:
        levels = levels_of(picture, settings.colour).astype(np.float64)
    pixels = np.rint(np.broadcast_to(levels, (3, *levels.shape[1:])))
    return np.moveaxis(pixels, 0, -1).astype(np.uint8)


def _middle(picture: Picture) -> Picture:
    rows, columns = (max(0, (side - SIDE) // 2) for side in picture.shape[-2:])
    return picture[..., rows : rows + SIDE, columns : columns + SIDE]


def _strip(images: list[NDArray[np.uint8]]) -> NDArray[np.uint8]:
    gap = np.full((images[0].shape[0], GAP, 3), 255, dtype=np.uint8)
    parts = [part for image in images for part in (image, gap)]
    return np.concatenate(parts[:-1], axis=1)
