"""What is done to a series in memory: simulate a lower dose, denoise, measure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from ldct.series import CTSeries
from pipeline.config.dose import DoseRequest
from pipeline.config.shipped import PRETRAINED
from pipeline.config.task_runs import DenoiseRun
from pipeline.core.device import resolved
from pipeline.core.errors import ConfigError
from pipeline.core.types import Progress
from pipeline.core.units import Window
from pipeline.dicom.read.series import Series

if TYPE_CHECKING:
    from pipeline.evaluation.per_patient import PatientFigures
    from pipeline.models.adapters.card import LoadedModel

#: What comes with the software.
DENOISER = "anydose@pretrained"
#: Centre and width in HU.
SOFT_TISSUE = {"soft_tissue": (40.0, 400.0)}


def load_model(
    reference: str, *, strength: float | None = None, device: str = "cpu"
) -> LoadedModel:
    """A model with its card and configuration, ready for `denoise` or `segment`.

    reference: `NAME@pretrained` for one that comes with the software; `NAME`, `NAME@champion` or
    `NAME/VERSION` for one of the MLflow registry (MLFLOW_TRACKING_URI), which alone imports
    mlflow. strength: the share of the correction that is applied, above 0 and at most 1; None for
    that of its configuration. device: where PyTorch computes: cpu, cuda, cuda:N or auto. Raises
    ConfigError for a GPU or a model that is not there, or a model of which the weights are not
    those that were registered.
    """
    name, _, alias = reference.partition("@")
    if alias == PRETRAINED:
        from pipeline.models.adapters.pretrained import load_pretrained

        loaded = load_pretrained(name)
    else:
        from flows.tracking.references import load_named

        loaded = load_named(reference)
    loaded.model.to(resolved(device, asked_by="device"))
    return loaded if strength is None else loaded.at_strength(strength)


def simulate(
    series: CTSeries,
    dose_fraction: float,
    *,
    seed: int = 0,
    photons_per_ray: float | None = 1.5e5,
    detectors: int = 736,
    views: int = 1152,
) -> CTSeries:
    """The series with the noise that a lower dose would have added (Yu et al., J Comput Assist
    Tomogr 2012).

    dose_fraction: above 0 and at most 1, where nothing changes. seed: the same seed gives the same
    noise. photons_per_ray: quanta at the central ray through air at full dose; None measures them
    in the series' own noise. detectors, views: cells and views of the simulated scanner. Raises
    ConfigError for a value out of its range, and CalibrationError, an LdctError, where the noise
    has to be measured and cannot be.
    """
    from pipeline.export.simulated import simulated_volume
    from pipeline.physics.lowdose import LowDoseCT

    physics = LowDoseCT(
        dose_fraction, photons_per_ray=photons_per_ray, detectors=detectors, views=views
    )
    made = simulated_volume(physics, series.volume, seed=seed)
    return series.processed(made.image_hu, made.operation, made.details)


def denoise(
    series: CTSeries,
    model: str | LoadedModel = DENOISER,
    *,
    dose_ratio: float | None = None,
    uncertainty: bool = False,
    progress: Progress = lambda slices: None,
) -> CTSeries:
    """The series denoised, as `ldct apply` does it; HU in, HU out.

    model: a reference, see `load_model`, or what load_model returned, which saves loading it again.
    dose_ratio: as if scanned with so many times the dose, at least 1, by a dose-conditioned model
    such as anydose; None makes up for what the series' noise lacks to that of a full dose.
    uncertainty: also `.uncertainty_hu` of the result, how far each voxel may be off, by a model
    that was calibrated for it, such as anydose. progress: called with the number of slices that are
    done since the last call. `.details` of the result says which ratio was taken and why, and what
    is unlike the series that the model learned from. Raises ConfigError for a model that is no
    denoiser, takes no dose_ratio, or was not calibrated, and LdctError where the noise has to be
    measured and cannot be.
    """
    from pipeline.export.denoised import denoised_volume

    loaded = load_model(model) if isinstance(model, str) else model
    if not isinstance(loaded.config, DenoiseRun):
        raise ConfigError(f"{loaded.card.uri} is no denoiser of CT; its task: {loaded.config.task}")
    if dose_ratio is not None:
        loaded = loaded.at_dose(DoseRequest("ratio", dose_ratio))
    made = denoised_volume(
        loaded.model,
        loaded.card,
        series.volume,
        progress,
        sampled=isinstance(series.source, Series),
        uncertainty=uncertainty,
    )
    return series.processed(made.image_hu, made.operation, made.details, made.uncertainty)


def evaluate(
    output: CTSeries,
    target: CTSeries,
    *,
    input: CTSeries,
    windows: Mapping[str, tuple[float, float]] = SOFT_TISSUE,
) -> PatientFigures:
    """How near `output` is to `target`, beside the undenoised `input`: as reports measure it.

    All three show the same slices. windows: (centre, width) in HU, by name. Of the result,
    `.windows[NAME].output["psnr"]` is in dB, with peak = the window's width, and
    `.windows[NAME].input`, `.change`, `["ssim"]`, `["rmse_hu"]` likewise, means over the slices
    that show a body; `.hu_bias["output"][TISSUE]` is the mean error in HU. Definitions:
    docs/conventions.md. Raises ConfigError where the shapes differ or no slice shows a body.
    """
    from pipeline.evaluation.per_patient import PatientMeasurement

    shapes = {"output": output, "target": target, "input": input}
    if len({series.image_hu.shape for series in shapes.values()}) > 1:
        listed = ", ".join(f"{name} {series.image_hu.shape}" for name, series in shapes.items())
        raise ConfigError(f"the series are of several shapes [slices, rows, columns]: {listed}")
    measurement = PatientMeasurement({name: Window(*window) for name, window in windows.items()})
    measurement.add(
        input_hu=input.image_hu,
        output_hu=output.image_hu,
        target_hu=target.image_hu,
        valid=target.valid,
    )
    if not measurement.slices:
        raise ConfigError("no slice of the target shows a body: there is nothing to measure")
    return measurement.summary()
