"""How well, in physical units: per slice, per patient, beside the undenoised input."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from torch import nn

from pipeline.config.task_runs import DenoiseRun
from pipeline.core.errors import NothingUsableError
from pipeline.core.types import Json, Progress
from pipeline.degradations.digest import degradation_digest
from pipeline.evaluation.aggregate import DenoisingResult, Unmeasured, summarise
from pipeline.evaluation.per_patient import PatientMeasurement
from pipeline.inference.denoise import apply_model
from pipeline.metrics.conventions import CONVENTIONS, Convention
from pipeline.models.adapters.any_dose import at_dose_ratio
from pipeline.models.adapters.denoiser import dose_ratio_measured
from pipeline.store.store import Store


def evaluate_store(
    model: nn.Module,
    store: Store,
    keys: list[str],
    config: DenoiseRun,
    progress: Progress = lambda slices: None,
    *,
    convention: Convention | None = None,
) -> DenoisingResult:
    """Figures of stored series, the cached degraded image as the input.

    By the run's convention where none is given, in the run's windows unless the convention has
    its own; `metrics` of the run says which figures besides PSNR, SSIM, RMSE and HU bias. A
    dose-conditioned model, of whatever run, makes up for what this run's inputs lack.
    Raises NothingUsableError where the convention has no window for any of the series.
    """
    model = at_dose_ratio(model, dose_ratio_measured(config))
    return evaluate_denoiser(
        lambda input_hu: apply_model(model, input_hu, progress=progress),
        store,
        keys,
        config,
        convention=convention,
    )


def evaluate_denoiser(
    denoise: Callable[[NDArray[np.float32]], NDArray[np.float32]],
    store: Store,
    keys: list[str],
    config: DenoiseRun,
    *,
    convention: Convention | None = None,
) -> DenoisingResult:
    """As evaluate_store, of anything that makes image_hu of image_hu [slices, rows, columns]."""
    records = store.records()
    convention = convention or CONVENTIONS[config.convention]
    anatomies = {key: anatomy_of(records[key].provenance) for key in keys}
    shown = {k: convention.windows_for(config.windows, a) for k, a in anatomies.items()}
    unmeasured = [Unmeasured(series=k, anatomy=anatomies[k]) for k in keys if not shown[k]]
    if unmeasured and len(unmeasured) == len(keys):
        raise NothingUsableError(no_window(convention, unmeasured[0].anatomy))
    measured: dict[str, PatientMeasurement] = {}
    for key, windows in shown.items():
        if not windows:
            continue
        volume = store.load(key)
        input_hu = store.load_degraded(key, degradation_digest(config, 0))
        name = records[key].patient
        if name in measured and measured[name].windows != windows:
            name = f"{name} {anatomies[key]}"
        patient = measured.setdefault(name, PatientMeasurement(windows, config.metrics, convention))
        patient.add(
            input_hu=input_hu,
            output_hu=denoise(input_hu),
            target_hu=volume.image_hu,
            valid=volume.valid,
            series=key,
        )
    result = summarise(measured)
    overall = result.overall.model_copy(update={"unmeasured": unmeasured})
    return result.model_copy(update={"overall": overall})


def anatomy_of(provenance: Json) -> str:
    """By BodyPartExamined; "unknown" where nothing says it."""
    return provenance.get("anatomy") or "unknown"


def no_window(convention: Convention, anatomy: str) -> str:
    """Why a series cannot be measured by a convention, for people."""
    return (
        f"convention {convention.name} goes by anatomy ({', '.join(convention.windows)}), and that "
        f"of the series is {anatomy} (BodyPartExamined)"
    )
