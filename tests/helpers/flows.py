"""An identity model, and how it gets into a registry."""

from __future__ import annotations

from typing import Any

from flows.tracking.registration import NewVersion
from flows.tracking.registration import register as register_version
from flows.tracking.registry import Registry
from pipeline.config.load import parse_config
from pipeline.config.run import RunConfig
from pipeline.core.verdicts import Check, Verdict
from pipeline.evaluation.aggregate import DenoisingOverall, DenoisingResult
from pipeline.evaluation.per_patient import WindowFigures
from pipeline.models.adapters.base import build_model
from pipeline.models.adapters.card import ModelCard

#: A whole run of a model that changes nothing.
IDENTITY_RUN: dict[str, Any] = {
    "name": "identity",
    "task": "denoise",
    "degradation": {
        "target": "pipeline.physics.lowdose.LowDoseCT",
        "args": {"dose_fraction": 0.5, "detectors": 96, "views": 90},
    },
    "model": {"target": "pipeline.models.adapters.base.Identity"},
    "step": {
        "target": "pipeline.training.steps.supervised.Supervised",
        "args": {"residual": False},
    },
    "loss": {"target": "torch.nn.MSELoss"},
    "train": {"iterations": 1},
    "windows": {"soft_tissue": [40, 400]},
    "register": {"name": "identity"},
}


def identity_config() -> RunConfig:
    return parse_config(IDENTITY_RUN)


def registry_waiting_for(check: str) -> Registry:
    """The default registry, with version 1 of "m", whose gate waits for this check alone."""
    found = Registry.default()
    client = found.client
    experiment = client.create_experiment("e", artifact_location=found.artifacts)
    run = client.create_run(experiment)
    checks = [{"check": "PSNR gain", "passed": True}, {"check": check, "passed": False}]
    figures = {"figures": {}, "gate": {"passed": False, "checks": checks}}
    client.log_dict(run.info.run_id, figures, "ldct/figures.json")
    client.create_registered_model("m")
    client.create_model_version("m", "unused", run_id=run.info.run_id, tags={"gate": "failed"})
    return found


def register(
    config: RunConfig, *, passed: bool = True, training: str = "", psnr_db: float = 30.0
) -> ModelCard:
    window = WindowFigures(
        centre_hu=40.0,
        width_hu=400.0,
        input={"psnr": 20.0, "ssim": 0.5, "rmse_hu": 50.0},
        output={"psnr": psnr_db, "ssim": 0.9, "rmse_hu": 10.0},
    )
    bias = {"output": {"lung": -0.5, "bone": None}}
    overall = DenoisingOverall(windows={"soft_tissue": window}, hu_bias=bias, patients=3, slices=9)
    registry = Registry.default()
    with registry.run(config, data_digest="0" * 64) as run:
        new = NewVersion(
            build_model(config),
            config,
            data_digest="0" * 64,
            figures=DenoisingResult(overall=overall, patients={}),
            verdict=Verdict.of([Check("gain", 10.0, ">= 1.0", passed)]),
            training=training,
        )
        return register_version(registry, run, new)
