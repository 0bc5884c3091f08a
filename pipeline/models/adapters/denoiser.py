"""A denoiser's network behind HU."""

from __future__ import annotations

from torch import nn

from pipeline.config.component import build
from pipeline.config.task_runs import DenoiseRun
from pipeline.models.adapters.any_dose import DOSE_RATIO, AnyDoseModel
from pipeline.models.adapters.base import HUModel, ModelAdapter
from pipeline.models.adapters.inference_transforms import InferenceTransforms


def denoiser(config: DenoiseRun) -> ModelAdapter:
    """The run's network in an adapter from HU to HU: a dose-conditioned one, where it learns
    from pairs of two doses."""
    network = build(config.model, key="model", base=nn.Module)
    if config.data.nested:
        return AnyDoseModel(
            network,
            normalize=config.normalize_hu,
            strength=config.strength,
            dose_ratio=dose_ratio_measured(config),
        )
    residual = bool(config.step.args.get("residual", False))
    model = HUModel(
        network, normalize=config.normalize_hu, residual=residual, strength=config.strength
    )
    if config.transforms and config.transforms.inference:
        model.seen_through = InferenceTransforms(config.transforms.inference)
    return model


def dose_ratio_measured(config: DenoiseRun) -> float:
    """From the dose of the run's degraded images, on which models are measured, to the whole dose;
    DOSE_RATIO where the run does not say it."""
    fraction = config.degradation.args.get("dose_fraction") if config.degradation else None
    return 1 / fraction if fraction else DOSE_RATIO
