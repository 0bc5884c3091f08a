"""What some images have and others lack: a label, lungs, a place in a list, what pixels measure."""

from __future__ import annotations

import csv
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.config.task_runs import GenerateRun
from pipeline.core.errors import ConfigError
from pipeline.data.images import StoredSlices, labels_of, lung_share
from pipeline.metrics.strokes import slant_degrees, stroke_thickness

LABEL_IS, LUNGS = "label=", "lungs"
Measure = Callable[[NDArray[np.float32]], float]
#: Measured from pixels; images above the median have the attribute.
MEASURED: dict[str, tuple[Measure, str]] = {
    "thickness": (stroke_thickness, "pixels across a stroke"),
    "slant": (slant_degrees, "degrees to the right"),
}


@dataclass(frozen=True)
class Attribute:
    """Which of some images [count] have it, and how its strength is measured, if it can be."""

    name: str
    has: NDArray[np.bool_]
    measure: Measure | None = None
    unit: str = ""


def attribute_of(name: str, images: StoredSlices) -> Attribute:
    """`lungs`, `label=N`, `thickness`, `slant`, or a CSV file whose lines `series,slice` have it.

    Slices count from 1, as in a viewer. Raises ConfigError for another name, and for a file that
    cannot be read or names what the images lack.
    """
    if name == LUNGS:
        has = labels_of(images, "lungs").astype(bool)
        return Attribute(name, has, lung_share, "of the body is lung by its HU")
    if name in MEASURED:
        measure, unit = MEASURED[name]
        values = np.array([measure(images[number]) for number in range(len(images))])
        return Attribute(name, values > np.nanmedian(values), measure, unit)
    if name.startswith(LABEL_IS) and name.removeprefix(LABEL_IS).isdigit():
        labels = labels_of(images, "given")
        return Attribute(name, labels == int(name.removeprefix(LABEL_IS)))
    return Attribute(name, _listed(name, images))


def require_free(name: str, config: GenerateRun, *, labels: int) -> None:
    """Raises ConfigError where the model's own condition would undo the attribute.

    A conditional decoder gets the label beside the code: the code need not hold it, and what is
    added to a code does not change what the decoder was asked for.
    """
    condition = config.generation.label
    clashes = {"lungs": name == LUNGS, "given": name.startswith(LABEL_IS)}
    if labels and clashes.get(condition, False):
        raise ConfigError(
            f"--attribute {name}: {config.name} is asked for the label ({condition}) with each "
            "code, so that codes do not hold it; train it without: --set model.args.labels=0"
        )


def _listed(path: str, images: StoredSlices) -> NDArray[np.bool_]:
    try:
        with Path(path).open(newline="", encoding="utf-8") as lines:
            listed = {(row[0], int(row[1]) - 1) for row in csv.reader(lines) if row}
    except (OSError, ValueError, IndexError) as error:
        raise ConfigError(
            f"--attribute {path}: write lungs, thickness, slant, label=N or a CSV file of "
            "series,slice"
        ) from error
    unknown = sorted(listed - set(images.places))
    if unknown:
        raise ConfigError(
            f"--attribute: the store has no slice {unknown[0][1] + 1} of {unknown[0][0]}"
        )
    return np.array([place in listed for place in images.places])
