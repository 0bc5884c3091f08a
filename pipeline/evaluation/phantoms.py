"""A model on phantoms whose truth is known: sharpness, noise texture, bias, dose equivalence."""

from __future__ import annotations

import numpy as np
from torch import nn

from pipeline.config.component import build
from pipeline.config.run import RunConfig
from pipeline.core.types import Progress
from pipeline.inference.denoise import apply_model
from pipeline.models.adapters.any_dose import at_dose_ratio
from pipeline.physics.lowdose import LowDoseCT
from pipeline.quality.dose_equivalence import DoseSweep, dose_equivalence
from pipeline.quality.dose_sweep import Sweep
from pipeline.quality.phantom_metrics import PHANTOMS, PhantomFigures, phantom_figures
from pipeline.quality.phantom_scan import Scanner

#: Scans of each phantom: for a command of its own, and for a run's report, which must not wait.
SLICES, REPORT_SLICES = 16, 4
#: Of the phantoms where the model was not trained on simulated dose.
DOSE_FRACTION = 0.25
#: The same noise for every model, so that two models differ by themselves alone.
SEED = 0


def images_on_phantoms(slices: int) -> int:
    """Images that measure_on_phantoms gives to the model."""
    return PHANTOMS * slices


def measure_on_phantoms(
    model: nn.Module,
    config: RunConfig,
    *,
    slices: int = SLICES,
    photons_per_ray: float | None = None,
    progress: Progress = lambda slices: None,
) -> PhantomFigures:
    """phantom_figures of a model at the dose and on the scanner of its configuration.

    photons_per_ray: another scanner's. A figure that a broken image does not have is None.
    """
    physics = _physics(config)
    with np.errstate(divide="ignore", invalid="ignore"):
        return phantom_figures(
            lambda image_hu: apply_model(model, image_hu, progress=progress),
            scanner=Scanner.like(physics, photons_per_ray=photons_per_ray),
            generator=np.random.default_rng(SEED),
            dose_fraction=physics.dose_fraction,
            slices=slices,
        )


def sweep_doses(
    model: nn.Module,
    config: RunConfig,
    sweep: Sweep,
    *,
    photons_per_ray: float | None = None,
    progress: Progress = lambda slices: None,
) -> DoseSweep:
    """dose_equivalence of a model on the scanner of its configuration, `sweep.images` images."""
    return dose_equivalence(
        lambda image_hu, dose: apply_model(
            at_dose_ratio(model, 1 / dose), image_hu, progress=progress
        ),
        scanner=scanner_of(config, photons_per_ray=photons_per_ray),
        generator=np.random.default_rng(SEED),
        sweep=sweep,
    )


def dose_of(config: RunConfig) -> float:
    """The simulated dose that a model was trained on."""
    return _physics(config).dose_fraction


def scanner_of(config: RunConfig, *, photons_per_ray: float | None = None) -> Scanner:
    """The scanner whose noise a model was trained on, or one with other photons."""
    return Scanner.like(_physics(config), photons_per_ray=photons_per_ray)


def _physics(config: RunConfig) -> LowDoseCT:
    """The degradation that a model was trained on, or the usual one where it is another kind."""
    if config.degradation:
        physics = build(config.degradation, key="degradation", base=object)
        if isinstance(physics, LowDoseCT):
            return physics
    return LowDoseCT(dose_fraction=DOSE_FRACTION)
