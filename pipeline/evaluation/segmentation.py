"""Figures of a segmenter: per class and patient, then over patients."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

from pipeline.config.segmentation import IGNORED, Segmentation
from pipeline.core.json_numbers import finite_tree
from pipeline.core.types import Progress
from pipeline.core.volume import Volume
from pipeline.inference.segment import segment
from pipeline.metrics.segmentation import FIGURES, structure_figures
from pipeline.store.labels import stored_labels
from pipeline.store.store import Store

Figures = dict[str, float | None]
#: Figures by class, of one series or one patient.
Classes = dict[str, Figures]


def evaluate_labels(
    model: nn.Module,
    store: Store,
    keys: list[str],
    settings: Segmentation,
    *,
    image_of: Callable[[str], Volume] | None = None,
    progress: Progress = lambda slices: None,
) -> dict[str, Any]:
    """{"overall", "patients"} of stored series, each on its own grid, against its label map.

    image_of: what is segmented in the place of a stored series. A patient's figures are the
    mean over their series.
    """
    records = store.records()
    series: dict[str, dict[str, Classes]] = {}
    for key in keys:
        volume = (image_of or store.load)(key)
        found = segment(model, volume, settings, progress=progress)
        truth = settings.classes_of(stored_labels(store, key, settings.labels))
        figures = class_figures(found, truth, settings, volume.spacing_mm)
        series.setdefault(records[key].patient, {})[key] = figures
    return summarise_classes(series)


def class_figures(
    found: NDArray[np.uint8],
    truth: NDArray[np.uint8],
    settings: Segmentation,
    spacing_mm: tuple[float, float, float],
) -> Classes:
    """FIGURES of each class; voxels whose true class is IGNORED count nowhere."""
    known = truth != IGNORED
    return {
        name: structure_figures((found == number) & known, truth == number, spacing_mm=spacing_mm)
        for number, name in enumerate(settings.classes, start=1)
    }


def summarise_classes(series: Mapping[str, Mapping[str, Classes]]) -> dict[str, Any]:
    """{"overall", "patients"} from the figures of each patient's series.

    A figure's mean is over those who have it; `cases` counts patients in whom the class was
    there or was found, `missed` those in whom only one of the two holds: their distance is
    infinite, and its mean is over the others. overall["dice"] is the mean over classes. Numbers
    that are not finite are None.
    """
    means = {name: _mean_classes(list(of.values())) for name, of in series.items()}
    patients = {name: {"series": dict(series[name]), "classes": of} for name, of in means.items()}
    classes = _mean_classes(list(means.values()))
    return finite_tree(
        {
            "overall": {
                "patients": len(patients),
                "dice": _mean([figures["dice"] for figures in classes.values()]),
                "surface_dice": _mean([figures["surface_dice"] for figures in classes.values()]),
                "classes": classes,
            },
            "patients": patients,
        }
    )


def _mean_classes(cases: list[Classes]) -> Classes:
    return {
        name: {
            "cases": sum(case[name]["dice"] is not None for case in cases),
            "missed": sum(case[name]["hd95_mm"] == math.inf for case in cases),
            **{figure: _mean([case[name][figure] for case in cases]) for figure in FIGURES},
        }
        for name in cases[0]
    }


def _mean(figures: list[float | None]) -> float | None:
    """Of what is there and finite; infinite where nothing finite is, None where nothing is."""
    known = [figure for figure in figures if figure is not None]
    finite = [figure for figure in known if math.isfinite(figure)]
    if finite:
        return float(np.mean(finite))
    return math.inf if known else None
