"""Figures of a segmenter: per class and patient, then over patients."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from torch import nn

from pipeline.config.segmentation import IGNORED, Segmentation
from pipeline.core.json_numbers import Figure, Interval, JsonRecord
from pipeline.core.types import Progress
from pipeline.core.volume import Volume
from pipeline.inference.segment import segment
from pipeline.metrics.bootstrap import bootstrap_distribution, percentile_interval
from pipeline.metrics.segmentation import FIGURES, structure_figures
from pipeline.store.labels import stored_labels
from pipeline.store.store import Store

#: FIGURES of each class in one series, or their means; a distance may be infinite.
Classes = dict[str, dict[str, float | None]]
#: Of the draws of the bootstrap: the same figures have the same interval.
SEED = 0


class ClassFigures(JsonRecord):
    """FIGURES of one class (pipeline.metrics.segmentation), of a series or as means.

    cases: patients (or series) in whom the class was there or was found; missed: those in whom
    only one of the two holds, whose distance is infinite and in no mean. dice_interval: of a mean
    over two patients and more, the 95 % confidence interval by the bootstrap over them.
    """

    dice: Figure
    iou: Figure
    surface_dice: Figure
    hd95_mm: Figure
    volume_ml: Figure
    true_volume_ml: Figure
    volume_error_ml: Figure
    volume_error_percent: Figure
    cases: int | None = None
    missed: int | None = None
    dice_interval: Interval | None = None


class SegmentationOverall(JsonRecord):
    """Means over patients; dice and surface_dice: their mean over classes. dice_interval: as of a
    class, of the patients' mean Dice over the classes that they have.

    doses: the same of other images of the same patients, by what they are, such as low dose.
    """

    patients: int
    dice: Figure
    surface_dice: Figure
    classes: dict[str, ClassFigures]
    doses: dict[str, SegmentationOverall] = Field(default_factory=dict)
    dice_interval: Interval | None = None


class SegmentedPatient(JsonRecord):
    """Figures by class of each series of a patient, and their means."""

    series: dict[str, dict[str, ClassFigures]]
    classes: dict[str, ClassFigures]


class SegmentationResult(JsonRecord):
    """Figures of a segmenter over patients, and of each patient."""

    overall: SegmentationOverall
    patients: dict[str, SegmentedPatient]

    def with_doses(self, doses: Mapping[str, SegmentationOverall]) -> SegmentationResult:
        """The same, with figures of the patients' images at other doses beside them."""
        overall = self.overall.model_copy(update={"doses": {**self.overall.doses, **doses}})
        return self.model_copy(update={"overall": overall})


def evaluate_labels(
    model: nn.Module,
    store: Store,
    keys: list[str],
    settings: Segmentation,
    *,
    image_of: Callable[[str], Volume] | None = None,
    progress: Progress = lambda slices: None,
) -> SegmentationResult:
    """Figures of stored series, each on its own grid, against its label map.

    image_of: what is segmented in the place of a stored series. A patient's figures are the
    mean over their series. A class that a label map does not list has no figures there, where the
    settings say that it is unknown.
    """
    records = store.records()
    series: dict[str, dict[str, Classes]] = {}
    for key in keys:
        volume = (image_of or store.load)(key)
        found = segment(model, volume, settings, progress=progress)
        labelmap = stored_labels(store, key, settings.labels)
        truth = settings.classes_of(labelmap)
        figures = class_figures(found, truth, settings, volume.spacing_mm)
        figures |= {name: dict.fromkeys(FIGURES) for name in settings.not_listed(labelmap)}
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


def summarise_classes(series: Mapping[str, Mapping[str, Classes]]) -> SegmentationResult:
    """Means from the figures of each patient's series: a patient's, then over patients.

    A figure's mean is over those who have it, and finite ones.
    """
    means = {name: _mean_classes(list(of.values())) for name, of in series.items()}
    classes = _mean_classes(list(means.values()))
    each = [_mean([of[name]["dice"] for name in classes]) for of in means.values()]
    return SegmentationResult(
        overall=SegmentationOverall(
            patients=len(means),
            dice=_mean([figures["dice"] for figures in classes.values()]),
            surface_dice=_mean([figures["surface_dice"] for figures in classes.values()]),
            classes={
                name: ClassFigures.from_dict(
                    {
                        **figures,
                        "dice_interval": _interval([of[name]["dice"] for of in means.values()]),
                    }
                )
                for name, figures in classes.items()
            },
            dice_interval=_interval(each),
        ),
        patients={
            name: SegmentedPatient(
                series={key: _typed(found) for key, found in series[name].items()},
                classes=_typed(of_patient),
            )
            for name, of_patient in means.items()
        },
    )


def _interval(of_patients: list[float | None]) -> tuple[float, float] | None:
    """Of the mean over those patients who have the figure; None for fewer than two."""
    known = np.array([figure for figure in of_patients if figure is not None])
    if len(known) < 2:
        return None
    means = bootstrap_distribution(
        lambda drawn: known[drawn].mean(axis=-1),
        len(known),
        generator=np.random.default_rng(SEED),
    )
    low, high = percentile_interval(means)
    return float(low), float(high)


def _typed(classes: Classes) -> dict[str, ClassFigures]:
    return {name: ClassFigures.from_dict(figures) for name, figures in classes.items()}


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
