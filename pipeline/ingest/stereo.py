"""Store scikit-image's stereo pair as pairs of a disparity map and the picture it belongs to.

The scene is a motorcycle (Middlebury stereo 2014, reduced). It is cut into strips, each a patient
of its own, `stereo-0` from the left on: what a strip shows no other one does.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from pipeline.config.restoration import CHANNELS, Colour
from pipeline.core.types import Picture
from pipeline.ingest.ingest import IngestReport
from pipeline.ingest.picture_ingest import store_image
from pipeline.io.colour import WHITE, in_colour
from pipeline.store.store import Store

STRIPS = 6


def store_stereo(
    store: Store, colour: Colour, progress: Callable[[str, int, int], None]
) -> IngestReport:
    """Store each strip as one image: the picture's channels, then as many of the disparity."""
    report = IngestReport(Path())
    whole = np.concatenate(
        [in_colour(stereo_picture(), colour), disparity_levels().repeat(CHANNELS[colour], axis=0)]
    )
    strips = np.array_split(whole, STRIPS, axis=2)
    for number, strip in enumerate(strips):
        name, image = f"stereo-{number}", np.ascontiguousarray(strip)
        kind = f"{colour} pair"
        store_image(image, store, report, colour=kind, patient=name, key=f"{name}-{colour}")
        progress("storing pairs", number + 1, len(strips))
    return report


def stereo_picture() -> Picture:
    """Grey levels [3, rows, columns] of the left picture."""
    from skimage import data

    return np.moveaxis(data.stereo_motorcycle()[0].astype(np.float32), -1, 0)


def disparity_levels() -> Picture:
    """[1, rows, columns]: 0 where the disparity is not known, WHITE where it is largest (near)."""
    from skimage import data

    disparity = data.stereo_motorcycle()[2].astype(np.float32)
    known = np.isfinite(disparity)
    levels = np.where(known, disparity, 0) * (WHITE / disparity[known].max())
    return np.minimum(levels, WHITE)[None].astype(np.float32)
