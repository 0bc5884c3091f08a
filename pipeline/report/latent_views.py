"""What `ldct latent` shows of a model: a view by its name, made and written."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from pipeline.config.task_runs import GenerateRun
from pipeline.core.errors import ConfigError
from pipeline.data.images import StoredSlices, labels_of
from pipeline.dicom.synthetic.generated_series import MARKING, write_synthetic_series
from pipeline.evaluation.generation import stored_images
from pipeline.generative import latent_images as latent_grids
from pipeline.generative.attributes import attribute_of, require_free
from pipeline.generative.latent_images import (
    ImageGrid,
    RealImages,
    chosen,
    labels_asked,
    pairs_of_one_label,
    starting_codes,
)
from pipeline.models.adapters.generative import Generative
from pipeline.report.marked_images import save_grid, save_latent_plot, write_synthetic_nifti
from pipeline.store.published_splits import TEST
from pipeline.store.store import Store

#: Generated slices have no scale of their own: a pixel counts as one millimetre.
NOMINAL_MM = (1.0, 1.0, 1.0)


@dataclass(frozen=True)
class LatentRequest:
    """How much to show. `count` is of images or of rows, `steps` of images in a row."""

    count: int = 8
    steps: int = 9
    seed: int = 0
    label: int | None = None
    attribute: str = ""

    def __post_init__(self) -> None:
        if self.count < 1 or self.steps < 2:
            raise ConfigError(f"show at least 1 by 2 images, not {self.count} by {self.steps}")


def view(
    name: str, model: Generative, config: GenerateRun, store: Store | None, request: LatentRequest
) -> ImageGrid:
    """One of `sample`, `reconstruct`, `interpolate`, `traverse`, `arithmetic`.

    With a store, codes are of its images, held back ones where its split is known, and samples
    are drawn like all of them; without, codes are random and all images synthetic.
    Raises ConfigError where the model, or what is requested, does not allow the view.
    """
    if name == "sample":
        asked = _asked(model, request.count, request)
        if store is None:
            return latent_grids.samples(model, asked, seed=request.seed)
        return latent_grids.samples_like(model, _all_known(store, config), asked, seed=request.seed)
    if name == "arithmetic":
        require_free(request.attribute, config, labels=model.labels)
        stored = _of(store, name)
        images, labels = stored_images(stored, sorted(stored.records()), config)
        attribute = attribute_of(request.attribute, images)
        known = _stacked(images, labels)
        return latent_grids.arithmetic(model, known, attribute, shown=request.count)
    if name == "reconstruct":
        known = known_images(_of(store, name), config, request.count)
        return latent_grids.reconstructions(model, known)
    start = None if store is None else _starts(name, model, config, store, request)
    return _walk(name, model, start, request)


def _starts(
    name: str, model: Generative, config: GenerateRun, store: Store, request: LatentRequest
) -> RealImages:
    """Images to start from: of one label in each row that a conditional model interpolates."""
    if name != "interpolate" or not model.labels:
        return known_images(store, config, 2 * request.count)
    return pairs_of_one_label(
        *stored_images(store, held_back_keys(store), config), request.count, label=request.label
    )


def _walk(
    name: str, model: Generative, known: RealImages | None, request: LatentRequest
) -> ImageGrid:
    """Interpolations or traversals: of stored images' codes, or of random ones."""
    codes = starting_codes(model, known, 2 * request.count, seed=request.seed)
    conditions = known.labels if known else _asked(model, len(codes), request)
    marking = latent_grids.RECONSTRUCTED if known else MARKING
    if name == "interpolate":
        rows = len(codes) // 2
        return latent_grids.interpolations(
            model, codes[: 2 * rows], conditions[:rows], request.steps, marking=marking
        )
    order = latent_grids.latent_order(model, known)[: request.count]
    return latent_grids.traversals(
        model, codes[0], conditions[:1], order, request.steps, marking=marking
    )


def _asked(model: Generative, count: int, request: LatentRequest) -> torch.Tensor:
    if request.label is None:
        return labels_asked(np.arange(max(1, model.labels)), count)
    if not 0 <= request.label < model.labels:
        there = f"0 to {model.labels - 1}" if model.labels else "none"
        raise ConfigError(f"--label {request.label}: the model's labels are {there}")
    return torch.full((count,), request.label)


def _of(store: Store | None, name: str) -> Store:
    if store is None:
        raise ConfigError(f"latent {name}: give the --store whose images to start from")
    return store


def known_images(store: Store, config: GenerateRun, count: int) -> RealImages:
    """Some of a store's images: of held-back patients where its split is known."""
    images, labels = stored_images(store, held_back_keys(store), config)
    return chosen(images, labels, count)


def held_back_keys(store: Store) -> list[str]:
    """Series of held-back patients; all, where the store has no split."""
    sides, records = store.split(), sorted(store.records().items())
    keys = [key for key, record in records if sides.get(record.patient) == TEST]
    return keys or [key for key, _ in records]


def _all_known(store: Store, config: GenerateRun) -> RealImages:
    return _stacked(*stored_images(store, sorted(store.records()), config))


def _stacked(images: StoredSlices, labels: NDArray[np.int64]) -> RealImages:
    stacked = np.stack([images[number] for number in range(len(images))])
    return RealImages(torch.from_numpy(stacked)[:, None], torch.from_numpy(labels))


def write_view(
    grid: ImageGrid,
    name: str,
    out: Path,
    config: GenerateRun,
    *,
    made_by: str,
    seed: int,
    dicom: bool = False,
    nifti: bool = False,
) -> list[Path]:
    """OUT/NAME.png, and the images as slices of synthetic DICOM or NIfTI; returns the paths.

    Raises ConfigError where images of patients, or grey levels, would become a synthetic CT.
    """
    if dicom or nifti:
        if config.generation.source != "series":
            raise ConfigError("--dicom, --nifti: grey levels of pictures are no CT")
        if grid.marking != MARKING:
            raise ConfigError(
                "--dicom, --nifti: only images from random codes may be written as synthetic CT; "
                "leave --store out"
            )
    paths = [out / f"{name}.png"]
    _, window = config.first_window
    save_grid(
        grid.images,
        paths[0],
        window=window,
        columns=grid.columns,
        caption=f"{made_by}. {grid.caption}",
        marking=grid.marking,
    )
    if dicom:
        folder = out / f"synthetic-{name}"
        write_synthetic_series(
            grid.images, folder, spacing_mm=NOMINAL_MM, made_by=made_by, seed=seed
        )
        paths.append(folder)
    if nifti:
        paths.append(out / f"synthetic-{name}.nii.gz")
        write_synthetic_nifti(grid.images, paths[-1], spacing_mm=NOMINAL_MM, made_by=made_by)
    return paths


def plot_codes(model: Generative, config: GenerateRun, store: Store, path: Path) -> None:
    """The codes of a store's images in the two latents that vary most, coloured by label."""
    images, labels = stored_images(store, sorted(store.records()), config)
    stacked = np.stack([images[number] for number in range(len(images))])
    known = RealImages(torch.from_numpy(stacked)[:, None], torch.from_numpy(labels))
    codes = known.codes(model).flatten(1)
    if codes.shape[1] < 2:
        raise ConfigError("latent plot: the model has one latent, and a plot takes two")
    order = codes.var(dim=0).argsort(descending=True)[:2].sort().values.tolist()
    shown = images.labels if images.labels else labels_of(images, "lungs")
    first, second = (number + 1 for number in order)
    points = codes[:, order].numpy(), np.asarray(shown)
    save_latent_plot({config.name: points}, path, latents=(first, second))
