"""A restorer on held-back pictures: PSNR, SSIM and colour beside the classical answers."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np

from pipeline.config.task_runs import RestoreRun
from pipeline.core.json_numbers import finite
from pipeline.core.types import Picture, Progress
from pipeline.core.units import Window
from pipeline.data.stored_pictures import StoredPictures, matching
from pipeline.evaluation.classical_restorers import tuned_references, unrestored
from pipeline.evaluation.generation import training_keys
from pipeline.inference.restore import restored
from pipeline.io.colour import chroma_error, levels_of
from pipeline.metrics.image import flicker, psnr_db, ssim
from pipeline.models.adapters.restorer import Restorer, degradation_of
from pipeline.store.store import Store

INPUT, OUTPUT, TARGET = "input", "output", "target"
#: A pixel of a sequence is still where the target changes by less than this share of the window.
STILL = 0.01
Figures = dict[str, float]


def evaluate_restoration(
    model: Restorer,
    store: Store,
    keys: Sequence[str],
    config: RestoreRun,
    progress: Progress = lambda slices: None,
) -> dict[str, Any]:
    """{"overall", "patients"} of stored pictures, whose degraded images must be cached.

    Each window has "input" (what is there without restoring), "output" and one entry for each
    reference, with "psnr" and "ssim", and "chroma_error" of runs in L*a*b*; "tuning" has the
    strengths of the references, and runs on sequences have "flicker" (pipeline.metrics.image), in
    levels or HU. Means over pictures. References need the store's training side.
    """
    references, tuning = tuned_references(store, training_keys(store), config)
    pictures, degradation = StoredPictures(store, keys, config), degradation_of(config)
    colour = config.restoration.colour
    found: dict[str, list[dict[str, dict[str, Figures]]]] = defaultdict(list)
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
        if pictures.neighbours is not None:
            answers[TARGET] = target
            _add_flicker(figures, answers, {} if pictures.begins(number) else before, config)
            before = answers
        found[pictures.patient(number)].append(figures)
        progress(len(target) if colour != "grey" else 1)
    every = [one for of_patient in found.values() for one in of_patient]
    return {
        "overall": {
            "images": len(every),
            "aggregation": "mean over pictures",
            "windows": _mean(every, config),
            "tuning": tuning,
        },
        "patients": {
            patient: {"slices": len(own), "windows": _mean(own, config)}
            for patient, own in found.items()
        },
    }


def _add_flicker(
    figures: dict[str, dict[str, Figures]],
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


def _in_windows(image: Picture, target: Picture, config: RestoreRun) -> dict[str, Figures]:
    colour = config.restoration.colour
    extra = {"chroma_error": chroma_error(image, target)} if colour == "lab" else {}
    if config.restoration.source != "series":
        image, target = levels_of(image, colour), levels_of(target, colour)
    return {
        name: {**picture_figures(image, target, window), **extra}
        for name, window in config.windows.items()
    }


def picture_figures(image: Picture, target: Picture, window: Window) -> Figures:
    """{"psnr", "ssim"} of [channels, rows, columns]: over all channels, and their mean."""
    likeness = [ssim(one, truth, window) for one, truth in zip(image, target, strict=True)]
    return {"psnr": psnr_db(image, target, window), "ssim": float(np.mean(likeness))}


def _mean(rows: list[dict[str, dict[str, Figures]]], config: RestoreRun) -> dict[str, Any]:
    """By window its centre and width, and by answer the mean of each figure."""
    return {
        window: {
            "centre": place.centre,
            "width": place.width,
            **{
                answer: {
                    figure: finite(_known_mean([row[answer][window][figure] for row in rows]))
                    for figure in rows[0][answer][window]
                }
                for answer in rows[0]
            },
        }
        for window, place in config.windows.items()
    }


def _known_mean(values: list[float]) -> np.floating:
    """Of the first image of a sequence no flicker is known."""
    known = [value for value in values if not math.isnan(value)]
    return np.mean(known) if known else np.float64(np.nan)


def answers_of(window: dict[str, Any]) -> dict[str, dict[str, float | None]]:
    """What a window tells of input, output and references."""
    return {name: found for name, found in window.items() if isinstance(found, dict)}
