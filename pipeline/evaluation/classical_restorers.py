"""The classical answer to each degradation, at its best strength, to compare a network with.

A reference takes what the degradation made, [channels, rows, columns] with NaN in holes, and
gives the picture. Strengths are tuned on training pictures
(pipeline.evaluation.classical_denoisers). BM3D, whose package is not free for all uses, comes from
benchmarks/.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from skimage import restoration  # loaded at its first use

from pipeline.config.restoration import CHANNELS, Colour, ReferenceName
from pipeline.config.task_runs import RestoreRun
from pipeline.core.errors import ConfigError, NothingUsableError
from pipeline.core.types import Picture
from pipeline.data.stored_pictures import StoredPictures, matching
from pipeline.degradations.base import Chain, Degradation
from pipeline.degradations.blur import Blur
from pipeline.evaluation.classical_denoisers import BASELINES, Baseline, Tuned, Tuning, tune
from pipeline.models.adapters.restorer import degradation_of, lifted
from pipeline.store.store import Store

Reference = Callable[[Picture], Picture]

#: Of each training picture that strengths are tuned on, and how many of them, at most.
TUNING_SIDE, TUNING_PICTURES = 128, 4


def unrestored(degraded: Picture, degradation: Degradation, colour: Colour) -> Picture:
    """What is there without restoring, in the target's shape; in holes the mean of the rest."""
    mean = np.nanmean(degraded, axis=(-2, -1), keepdims=True)
    filled = torch.from_numpy(np.where(np.isnan(degraded), mean, degraded))[None]
    shape = {"channels": CHANNELS[colour], "scale": degradation.scale}
    return lifted(filled, **shape, colour=colour)[0].numpy()


def tuned_references(
    store: Store, training: list[str], config: RestoreRun
) -> tuple[dict[str, Reference], dict[str, Tuning]]:
    """By name the references that the run asks for, and how each was tuned."""
    degradation = degradation_of(config)
    tuning: dict[str, Tuning] = {}
    names = [name for name in config.restoration.references if name != "biharmonic"]
    baselines = {name: _baseline(name, degradation) for name in names}
    if baselines:
        inputs, targets = _tuning_crops(store, training, config)
        window = next(iter(config.windows.values()))
    for name, baseline in baselines.items():
        tuned = tune(baseline, inputs, targets, window)
        tuning[name] = tuned.record(pictures=len(inputs))
    return references_at(tuning, config), tuning


def references_at(tuning: Mapping[str, Tuning], config: RestoreRun) -> dict[str, Reference]:
    """The same at strengths that were found before, as `tuned_references` gave them."""
    degradation = degradation_of(config)
    found: dict[str, Reference] = {}
    for name in config.restoration.references:
        found[name] = biharmonic
        if name != "biharmonic":
            found[name] = Tuned(_baseline(name, degradation), tuning[name].strength, {})
    return found


def biharmonic(degraded: Picture) -> Picture:
    """Holes filled with the smoothest surface (Damelin & Hoang 2018, as scikit-image has it)."""
    holes = np.isnan(degraded[0])
    filled = np.where(holes, 0, degraded)
    return restoration.inpaint_biharmonic(filled, holes, channel_axis=0).astype(np.float32)


def _baseline(name: ReferenceName, degradation: Degradation) -> Baseline:
    if name in BASELINES:
        return BASELINES[name]
    kernel = _kernel(degradation)
    if name == "wiener":
        # Strengths by factors of ten; the balance of noise and sharpness (Orieux et al. 2010).
        return Baseline(
            "wiener",
            "balance",
            (1e-4, 1e-3, 1e-2, 1e-1),
            lambda image, balance: _mirrored(
                image,
                kernel,
                lambda padded: restoration.wiener(padded, kernel, balance, clip=False),
            ),
        )
    return Baseline(
        "richardson_lucy",
        "iterations",
        (4, 8, 16, 32),
        lambda image, count: _mirrored(
            image,
            kernel,
            lambda padded: restoration.richardson_lucy(
                padded, kernel, num_iter=round(count), clip=False
            ),
        ),
    )


def _mirrored(image: Picture, kernel: Picture, deconvolve: Callable[[NDArray], NDArray]) -> Picture:
    """Deconvolution beyond whose rim the image goes on mirrored, as the blur saw it."""
    pad = 2 * (max(kernel.shape) // 2)
    padded = np.pad(np.clip(image, 0, None).astype(np.float64), pad, mode="symmetric")
    return deconvolve(padded)[pad:-pad, pad:-pad].astype(np.float32)


def _kernel(degradation: Degradation) -> Picture:
    """The known point spread of the first blur."""
    parts = degradation.parts if isinstance(degradation, Chain) else [degradation]
    for part in parts:
        if isinstance(part, Blur):
            return part.kernel
    raise ConfigError("restoration.references: deconvolution, but the degradation has no blur")


def _tuning_crops(
    store: Store, training: list[str], config: RestoreRun
) -> tuple[list[Picture], list[Picture]]:
    """Input and target of the middles of training pictures, first channel, [rows, columns]."""
    if not training:
        raise NothingUsableError("the references have no training pictures to be tuned on")
    pictures, degradation = StoredPictures(store, training, config), degradation_of(config)
    inputs, targets = [], []
    places = np.linspace(0, len(pictures) - 1, min(len(pictures), TUNING_PICTURES))
    for number in np.unique(places.round().astype(int)).tolist():
        target = pictures[number]
        if degradation.reach is None:
            degraded = pictures.degraded(number)
        else:
            target = _middle(target)
            generator = np.random.default_rng((config.train.seed, number))
            degraded = degradation.degrade(target, generator)
        naive = unrestored(degraded, degradation, config.restoration.colour)
        inputs.append(_middle(naive)[0])
        targets.append(_middle(matching(target, degraded, degradation.scale))[0])
    return inputs, targets


def _middle(picture: Picture) -> Picture:
    rows, columns = (max(0, (side - TUNING_SIDE) // 2) for side in picture.shape[-2:])
    return picture[..., rows : rows + TUNING_SIDE, columns : columns + TUNING_SIDE]
