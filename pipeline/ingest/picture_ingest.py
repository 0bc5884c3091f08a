"""Photographs in the store: a series is one picture, its slices the picture's channels.

Values are what the run sees, grey levels or L*a*b*, and a pixel counts as 1 mm. A picture is a
patient of its own, so that no two pieces of it are on two sides of the split.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.config.restoration import CHANNELS, Colour
from pipeline.core.errors import LdctError, NothingUsableError
from pipeline.core.refusals import Disposition, Refusal, Unreadable
from pipeline.core.types import Picture
from pipeline.core.volume import Volume
from pipeline.ingest.ingest import IngestReport
from pipeline.io.colour import seen_as
from pipeline.io.discover import image_key
from pipeline.io.picture_files import SUFFIXES, find_pictures, read_picture
from pipeline.io.volume_files import NIFTI
from pipeline.store.store import Store

#: What scikit-image (its name where the function's differs) and scikit-learn bring along, in
#: colour. No download; the stereo pair's left picture alone.
COLOURED = (
    *("astronaut", "cat", "coffee", "hubble_deep_field", "immunohistochemistry"),
    *("motorcycle", "retina", "rocket", "china.jpg", "flower.jpg"),
)
#: The same in grey.
GREY = ("brick", "camera", "coins", "grass", "gravel", "moon")


def shipped_names(colour: Colour) -> tuple[str, ...]:
    return COLOURED if CHANNELS[colour] == 3 else (*COLOURED, *GREY)


def shipped(name: str) -> Picture:
    """The grey levels of a picture that a library brings along, [1 or 3, rows, columns]."""
    from skimage import data
    from sklearn.datasets import load_sample_image

    if name.endswith(".jpg"):
        pixels = load_sample_image(name)
    elif name == "motorcycle":
        pixels = data.stereo_motorcycle()[0]
    else:
        pixels = getattr(data, name)()
    levels = np.asarray(pixels, dtype=np.float32)
    return levels[None] if levels.ndim == 2 else np.moveaxis(levels, -1, 0)


def store_shipped(
    store: Store, colour: Colour, progress: Callable[[str, int, int], None]
) -> IngestReport:
    """Put the shipped photographs into a store, as series `shipped-NAME-COLOUR`."""
    report = IngestReport(Path())
    names = shipped_names(colour)
    for done, name in enumerate(names, start=1):
        patient = f"shipped-{name.removesuffix('.jpg')}"
        store_picture(shipped(name), store, report, colour=colour, patient=patient, name=patient)
        progress("storing pictures", done, len(names))
    return report


def store_picture_files(
    root: Path,
    store: Store,
    colour: Colour,
    *,
    key: bytes,
    progress: Callable[[str, int, int], None],
) -> IngestReport:
    """Put picture files below `root` into a store; NothingUsableError where none can be used.

    A picture goes by the pseudonym of its bytes: its name may be a person's. Of a NIfTI file
    every slice is a grey picture.
    """
    report = IngestReport(root)
    paths = find_pictures(root)
    for done, path in enumerate(paths, start=1):
        try:
            picture, patient = read_picture(path), image_key(path, key, "p")
            sheets = [picture.levels]
            if path.name.lower().endswith(NIFTI):
                sheets = [one[None] for one in picture.levels]
            for number, levels in enumerate(sheets):
                name = f"{patient}-{number}" if len(sheets) > 1 else patient
                store_picture(levels, store, report, colour=colour, patient=patient, name=name)
        except Unreadable as fault:
            report.refusals.append(fault.refusal(path))
        except LdctError as fault:
            report.refusals.append(Refusal(path, Disposition.QUARANTINED, str(fault)))
        progress("storing pictures", done, len(paths))
    if not report.series:
        raise NothingUsableError(f"no usable picture in {root}: {_commonest(report, paths)}")
    return report


def _commonest(report: IngestReport, paths: list[Path]) -> str:
    if not paths:
        return f"no file named {', '.join(SUFFIXES)}"
    return f"{len(paths)} files refused, such as: {report.refusals[0].reason}"


def store_picture(
    levels: Picture,
    store: Store,
    report: IngestReport,
    *,
    colour: Colour,
    patient: str,
    name: str,
) -> None:
    """Add one picture in grey levels to the store and the report; LdctError without colour."""
    image = np.ascontiguousarray(seen_as(levels, colour))
    store_image(image, store, report, seen=colour, patient=patient, key=f"{name}-{colour}")


def store_stack(
    frames: Picture, store: Store, report: IngestReport, *, colour: Colour, name: str
) -> None:
    """Add a sequence of grey frames [frames, rows, columns], a patient of its own."""
    store_image(frames, store, report, seen=colour, patient=name, key=name)


def store_image(
    image: Picture, store: Store, report: IngestReport, *, seen: str, patient: str, key: str
) -> None:
    """Add [channels, rows, columns] as a series. seen: as what; runs use what they see so."""
    volume = Volume(
        image_hu=image,
        valid=np.ones(image.shape, dtype=bool),
        affine_lps=np.eye(4),
        slice_origins_mm=np.arange(len(image))[:, None] * np.array([0.0, 0.0, 1.0]),
        provenance={"source": "picture", "colour": seen, "warnings": [], "evenly_spaced": True},
    )
    is_new = store.add(volume, key=key, patient=patient)
    row: dict[str, Any] = {"series": key, "patient": patient, "slices": len(image), "new": is_new}
    report.series.append({**row, "description": {"Manufacturer": "picture"}, "warnings": []})
