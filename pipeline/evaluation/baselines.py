"""Classical denoisers on the test patients of a network, tuned on its training patients."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from pipeline.config.task_runs import DenoiseRun
from pipeline.core.errors import NothingUsableError
from pipeline.core.types import ImageHU
from pipeline.degradations.digest import degradation_digest
from pipeline.evaluation.aggregate import DenoisingResult
from pipeline.evaluation.classical_denoisers import BASELINES, Baseline, tune
from pipeline.evaluation.denoising import evaluate_denoiser
from pipeline.metrics.conventions import HOUSE, Convention
from pipeline.store.store import Store

#: Slices that a strength is tuned on, at least, and the series they come from, at most.
TUNING_SLICES = 8

#: What is being done, slices done, and their number where it is known, else 0.
Progress = Callable[[str, int, int], None]


def evaluate_baselines(
    store: Store,
    config: DenoiseRun,
    *,
    train: list[str],
    test: list[str],
    convention: Convention = HOUSE,
    baselines: Iterable[Baseline] = tuple(BASELINES.values()),
    progress: Progress = lambda what, done, total: None,
) -> dict[str, DenoisingResult]:
    """By name evaluate_store's figures, and to which strength the baseline was tuned.

    train and test are keys of stored series, whose degraded images must be cached (of train,
    those of tuning_keys). Tuned for PSNR in the first window.
    """
    inputs, targets = _tuning_slices(store, tuning_keys(train), config)
    window = next(iter((convention.windows or config.windows).values()))
    slices = sum(store.record(key).shape[0] for key in test)
    found = {}
    for baseline in baselines:
        name = baseline.name
        counted = _counted(baseline, f"tune {name}", 0, progress)
        strength = tune(counted, inputs, targets, window)
        figures = evaluate_denoiser(
            replace(strength, baseline=_counted(baseline, name, slices, progress)),
            store,
            test,
            config,
            convention=convention,
        )
        tuning = strength.record(slices=len(inputs))
        found[name] = figures.model_copy(update={"tuning": tuning})
    return found


def tuning_keys(train: list[str]) -> list[str]:
    """The training series to tune on: TUNING_SLICES of them, evenly spread."""
    if not train:
        raise NothingUsableError("the baselines have no training patients to be tuned on")
    places = np.linspace(0, len(train) - 1, min(len(train), TUNING_SLICES)).round().astype(int)
    return [sorted(train)[place] for place in places]


def _tuning_slices(
    store: Store, keys: list[str], config: DenoiseRun
) -> tuple[list[ImageHU], list[ImageHU]]:
    """Low and full dose of slices at even distances along each series."""
    each = -(-TUNING_SLICES // len(keys))
    inputs: list[ImageHU] = []
    targets: list[ImageHU] = []
    for key in keys:
        target_hu = store.load(key).image_hu
        input_hu = store.load_degraded(key, degradation_digest(config, 0))
        for place in np.unique(np.linspace(0, len(target_hu), each + 2)[1:-1].astype(int)):
            inputs.append(np.array(input_hu[place], dtype=np.float32))
            targets.append(np.array(target_hu[place], dtype=np.float32))
    return inputs, targets


def _counted(baseline: Baseline, what: str, total: int, progress: Progress) -> Baseline:
    """The same baseline, which reports how many slices it has done."""
    done = 0

    def denoise(image_hu: ImageHU, strength: float) -> NDArray:
        """One slice, counted."""
        nonlocal done
        result = baseline.denoise(image_hu, strength)
        done += 1
        progress(what, done, total)
        return result

    return replace(baseline, denoise=denoise)
