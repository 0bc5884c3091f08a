"""Does denoising help the task? A segmenter on full-dose, low-dose and denoised images."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from torch import nn

from pipeline.config.task_runs import SegmentRun
from pipeline.core.errors import ConfigError
from pipeline.core.types import Progress
from pipeline.core.volume import Volume
from pipeline.degradations.digest import degradation_digest
from pipeline.evaluation.segmentation import SegmentationOverall, evaluate_labels
from pipeline.inference.denoise import apply_model
from pipeline.store.store import Store

FULL_DOSE, LOW_DOSE, DENOISED = "full dose", "low dose", "low dose, denoised"


def low_dose_figures(
    segmenter: nn.Module,
    store: Store,
    keys: list[str],
    config: SegmentRun,
    *,
    denoiser: nn.Module | None = None,
    progress: Progress = lambda slices: None,
) -> SegmentationOverall:
    """Overall figures of stored series as the run's degradation leaves them, denoised first if
    there is a denoiser. Raises ConfigError for a run without degradation."""
    if config.degradation is None:
        raise ConfigError("the segmenter's run has no degradation: name the low dose to compare at")

    def image_of(key: str) -> Volume:
        """What stands in the place of a stored series."""
        volume = low_dose_volume(store, key, config)
        if denoiser is None:
            return volume
        return replace(volume, image_hu=apply_model(denoiser, volume.image_hu))

    figures = evaluate_labels(
        segmenter, store, keys, config.grid, image_of=image_of, progress=progress
    )
    return figures.overall


def low_dose_volume(store: Store, key: str, config: SegmentRun) -> Volume:
    """A stored series after the run's degradation."""
    degraded_hu = store.load_degraded(key, degradation_digest(config, 0))
    return replace(store.load(key), image_hu=np.asarray(degraded_hu))
