"""A restorer on held-back pictures: PSNR, SSIM and colour beside the classical answers."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence

import numpy as np
from pydantic import Field, model_serializer, model_validator

from pipeline.config.task_runs import RestoreRun
from pipeline.core.json_numbers import Figures, JsonRecord
from pipeline.core.types import Json, Picture, Progress
from pipeline.core.units import Window
from pipeline.data.stored_pictures import StoredPictures, matching
from pipeline.degradations.labels import ImageToLabels
from pipeline.evaluation.classical_denoisers import Tuning
from pipeline.evaluation.classical_restorers import tuned_references, unrestored
from pipeline.evaluation.generation import training_keys
from pipeline.evaluation.texture_figures import TextureFigures, TextureMeasure
from pipeline.inference.restore import restored
from pipeline.io.colour import chroma_error, levels_of
from pipeline.metrics.image import flicker, psnr_db, ssim
from pipeline.models.adapters.restorer import Restorer, degradation_of, target_of
from pipeline.store.store import Store

INPUT, OUTPUT, TARGET = "input", "output", "target"
#: A pixel of a sequence is still where the target changes by less than this share of the window.
STILL = 0.01
#: Figures of one picture, by name.
Measured = dict[str, float]


class RestorationWindow(JsonRecord):
    """Mean figures in one window: of the input, the output and each reference, by name.

    Each has psnr (dB) and ssim, chroma_error of runs in L*a*b*, flicker of runs on sequences,
    mean_iou of runs whose target is a label map.
    JSON has the answers beside `centre` and `width`.
    """

    centre: float
    width: float
    answers: dict[str, Figures]

    @model_serializer
    def _flat(self) -> Json:
        return {"centre": self.centre, "width": self.width, **self.answers}

    @model_validator(mode="before")
    @classmethod
    def _nested(cls, found: Json) -> Json:
        if "answers" in found:
            return found
        place = {name: found[name] for name in ("centre", "width")}
        return {**place, "answers": {k: v for k, v in found.items() if k not in place}}


class RestorationOverall(JsonRecord):
    """Means over pictures; tuning: of the references, by name; texture: where the run asks for
    it (`restoration.frechet_side`)."""

    images: int
    aggregation: str
    windows: dict[str, RestorationWindow]
    tuning: dict[str, Tuning] = Field(default_factory=dict)
    texture: TextureFigures | None = None


class PictureFigures(JsonRecord):
    """Means over the pictures (or slices) of one patient or file."""

    slices: int
    windows: dict[str, RestorationWindow]


class RestorationResult(JsonRecord):
    """Figures of a restorer over all pictures, and of each patient or file."""

    overall: RestorationOverall
    patients: dict[str, PictureFigures]


def evaluate_restoration(
    model: Restorer,
    store: Store,
    keys: Sequence[str],
    config: RestoreRun,
    progress: Progress = lambda slices: None,
) -> RestorationResult:
    """Figures of stored pictures, whose degraded images must be cached.

    The answers are the input (what is there without restoring), the output and each reference;
    flicker (pipeline.metrics.image) is in levels or HU. References are tuned on the store's
    training side, and need one.
    """
    references, tuning = tuned_references(store, training_keys(store), config)
    pictures, degradation = StoredPictures(store, keys, config), degradation_of(config)
    colour, side = config.restoration.colour, config.restoration.frechet_side
    texture = None if side is None else TextureMeasure(side)
    found: dict[str, list[dict[str, dict[str, Measured]]]] = defaultdict(list)
    before: dict[str, Picture] = {}
    for number in range(len(pictures)):
        degraded = pictures.degraded(number)
        target = matching(pictures.target(number), degraded, degradation.scale)
        answers = {
            INPUT: unrestored(degraded, degradation, colour),
            OUTPUT: restored(model, pictures.model_input(number)),
            **{name: reference(degraded) for name, reference in references.items()},
        }
        figures = {name: _in_windows(image, target, config) for name, image in answers.items()}
        if texture is not None:
            unknown = np.isnan(degraded[0]) if degradation.hides else None
            shown = {name: levels_of(image, colour) for name, image in answers.items()}
            texture.add(shown, levels_of(target, colour), unknown=unknown)
        if pictures.neighbours is not None:
            answers[TARGET] = target
            _add_flicker(figures, answers, {} if pictures.begins(number) else before, config)
            before = answers
        found[pictures.patient(number)].append(figures)
        progress(len(target) if colour != "grey" else 1)
    every = [one for of_patient in found.values() for one in of_patient]
    of_texture = {} if texture is None else {"texture": texture.figures()}
    return RestorationResult(
        overall=RestorationOverall(
            images=len(every),
            aggregation="mean over pictures",
            windows=_mean(every, config),
            tuning=tuning,
            **of_texture,
        ),
        patients={
            patient: PictureFigures(slices=len(own), windows=_mean(own, config))
            for patient, own in found.items()
        },
    )


def _add_flicker(
    figures: dict[str, dict[str, Measured]],
    now: dict[str, Picture],
    before: dict[str, Picture],
    config: RestoreRun,
) -> None:
    """Each answer's change from the place before where the target has none; NaN at the first."""
    _, window = config.first_window
    still = np.zeros(0, dtype=bool)
    if before:
        still = np.abs(now[TARGET] - before[TARGET]) <= STILL * window.width
    for answer, windows in figures.items():
        found = math.nan
        if still.any():
            found = flicker(np.stack([before[answer], now[answer]]), still[None])
        for each in windows.values():
            each["flicker"] = found


def _in_windows(image: Picture, target: Picture, config: RestoreRun) -> dict[str, Measured]:
    colour = config.restoration.colour
    extra = {"chroma_error": chroma_error(image, target)} if colour == "lab" else {}
    classes = target_of(config)
    if isinstance(classes, ImageToLabels):
        extra["mean_iou"] = mean_iou(image, target, classes.values)
    if config.restoration.source != "series":
        image, target = levels_of(image, colour), levels_of(target, colour)
    return {
        name: {**picture_figures(image, target, window), **extra}
        for name, window in config.windows.items()
    }


def mean_iou(image: Picture, target: Picture, values: Picture) -> float:
    """Intersection over union of the pixels nearest to each of `values`, in image and target: the
    mean over the values that either has."""
    found, wanted = (np.abs(one[..., None] - values).argmin(axis=-1) for one in (image, target))
    shares = []
    for number in range(len(values)):
        own, other = found == number, wanted == number
        if (either := np.count_nonzero(own | other)) > 0:
            shares.append(np.count_nonzero(own & other) / either)
    return float(np.mean(shares))


def picture_figures(image: Picture, target: Picture, window: Window) -> Measured:
    """{"psnr", "ssim"} of [channels, rows, columns]: over all channels, and their mean."""
    likeness = [ssim(one, truth, window) for one, truth in zip(image, target, strict=True)]
    return {"psnr": psnr_db(image, target, window), "ssim": float(np.mean(likeness))}


def _mean(
    rows: list[dict[str, dict[str, Measured]]], config: RestoreRun
) -> dict[str, RestorationWindow]:
    """By window the mean of each answer's figures."""
    return {
        name: RestorationWindow(
            centre=window.centre,
            width=window.width,
            answers={
                answer: {
                    figure: _known_mean([row[answer][name][figure] for row in rows])
                    for figure in rows[0][answer][name]
                }
                for answer in rows[0]
            },
        )
        for name, window in config.windows.items()
    }


def _known_mean(values: list[float]) -> float:
    """Of the first image of a sequence no flicker is known."""
    known = [value for value in values if not math.isnan(value)]
    return float(np.mean(known)) if known else math.nan
