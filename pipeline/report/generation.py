"""The page of a generative run: grids of what the model keeps and draws, and its figures."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.config.task_runs import GenerateRun
from pipeline.core.errors import ConfigError
from pipeline.core.types import Json
from pipeline.data.images import StoredSlices
from pipeline.generative import latent_images as latent_grids
from pipeline.generative.latent_images import (
    ImageGrid,
    RealImages,
    chosen,
    labels_asked,
    pairs_of_one_label,
    starting_codes,
)
from pipeline.models.adapters.generative import Generative
from pipeline.report import charts
from pipeline.report.charts import Curve
from pipeline.report.marked_images import save_grid
from pipeline.report.pages import data_uri, write_run_page

SAMPLES = 64
RECONSTRUCTED = 8
ROWS, STEPS = 4, 9
#: Of the training log, where a step logs them.
PARTS = (
    *("reconstruction", "kl", "divergence", "discriminator_loss", "perceptual_loss"),
    *("diversity", "discriminator_auc", "certainty", "codes_in_use"),
)
ALARMS = ("collapse_alarm", "saturation_alarm")


def report_grids(
    model: Generative, images: StoredSlices, labels: NDArray[np.int64], config: GenerateRun
) -> dict[str, ImageGrid]:
    """Every grid that the model has, by the name of its file."""
    seed = config.train.seed
    known = chosen(images, labels, RECONSTRUCTED)
    found: dict[str, ImageGrid] = {}
    if model.encodes:
        found["reconstructions"] = latent_grids.reconstructions(model, known)
    if model.has_prior:
        asked = labels_asked(labels, SAMPLES)
        found["samples"] = latent_grids.samples(model, asked, seed=seed)
    pairs = _pairs(images, labels) if model.labels and model.encodes else known
    start = (pairs or known) if model.encodes else None
    try:
        ends = starting_codes(model, start, 2 * ROWS, seed=seed)
        order = latent_grids.latent_order(model, start)
    except ConfigError:  # codes without a fixed shape have no space to walk in
        return found
    conditions = start.labels[: len(ends) // 2] if start else known.labels[:1].expand(ROWS)
    marking = latent_grids.RECONSTRUCTED if model.encodes else latent_grids.MARKING
    if pairs:
        found["interpolations"] = latent_grids.interpolations(
            model, ends, conditions, STEPS, marking=marking
        )
    # A code that is an image of noise has no number that is worth a row.
    if model.has_prior and model.latent_shape[-2:] != model.output_shape[-2:]:
        found["traversals"] = latent_grids.traversals(
            model, ends[0], conditions[:1], order[: 2 * ROWS], STEPS, marking=marking
        )
    return found


def _pairs(images: StoredSlices, labels: NDArray[np.int64]) -> RealImages | None:
    """What a conditional model interpolates between; None where no label has two images."""
    try:
        return pairs_of_one_label(images, labels, ROWS)
    except ConfigError:
        return None


def write_generation(
    report: Json,
    grids: dict[str, ImageGrid],
    config: GenerateRun,
    *,
    curve: Curve,
    path: Path,
) -> None:
    """Write the page to `path`, and the grids as PNG beside it. curve: the training log."""
    window = next(iter(config.windows.values()))
    pictures = {}
    for name, grid in grids.items():
        png = path.with_name(f"{name}.png")
        save_grid(
            grid.images,
            png,
            window=window,
            columns=grid.columns,
            caption=grid.caption,
            marking=grid.marking,
        )
        pictures[name] = {"caption": grid.caption, "picture": data_uri(png.read_bytes())}
    parts = [name for name in PARTS if curve and name in curve[-1]]
    write_run_page(
        "generation.html",
        report,
        curve=curve,
        path=path,
        grids=pictures,
        parts=data_uri(charts.parts_png(curve, parts)) if parts else None,
        alarms=alarm_shares(curve),
    )


def alarm_shares(curve: Curve) -> dict[str, float]:
    """The share of the logged iterations in which each alarm was set, of those that are logged."""
    return {
        name: float(np.mean([point.get(name, 0.0) for point in curve]))
        for name in ALARMS
        if any(name in point for point in curve)
    }
