"""How well, in physical units: per slice, per patient, beside the undenoised input."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray
from torch import nn

from pipeline.config.dose import MAX_RATIO
from pipeline.config.task_runs import DenoiseRun
from pipeline.core.errors import NothingUsableError
from pipeline.core.refusals import Refusal
from pipeline.core.slice_matching import match_slices
from pipeline.core.types import Json, Progress
from pipeline.core.units import Window
from pipeline.core.volume import Volume
from pipeline.degradations.digest import degradation_digest
from pipeline.dicom.read.series import Series
from pipeline.dicom.read.volume import read_volume
from pipeline.evaluation.aggregate import DenoisingResult, MatchedPair, Unmeasured, summarise
from pipeline.evaluation.per_patient import PatientMeasurement
from pipeline.inference.denoise import apply_model
from pipeline.inference.traits import noise_hu
from pipeline.metrics.conventions import CONVENTIONS, HOUSE, Convention
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
    anatomies = {key: _anatomy(records[key].provenance) for key in keys}
    shown = {k: convention.windows_for(config.windows, a) for k, a in anatomies.items()}
    unmeasured = [Unmeasured(series=k, anatomy=anatomies[k]) for k in keys if not shown[k]]
    if unmeasured and len(unmeasured) == len(keys):
        raise NothingUsableError(_no_window(convention, unmeasured[0].anatomy))
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


def _anatomy(provenance: Json) -> str:
    return provenance.get("anatomy") or "unknown"


def _no_window(convention: Convention, anatomy: str) -> str:
    return (
        f"convention {convention.name} goes by anatomy ({', '.join(convention.windows)}), and that "
        f"of the series is {anatomy} (BodyPartExamined)"
    )


def evaluate_pair(
    model: nn.Module,
    input_: Series,
    target: Series,
    *,
    windows: dict[str, Window],
    progress: Progress = lambda slices: None,
    also: Sequence[str] = (),
    convention: Convention = HOUSE,
    refusals: list[Refusal] | None = None,
) -> DenoisingResult:
    """Figures of a real pair of series of one scan.

    Slices are paired by position; one series may have more of them, which `pair` then names.
    Slice numbers in the figures are those of the target. A dose-conditioned model makes up for
    what the target has more of, by the noise of both. refusals: gets the slices that cannot be
    decoded. Raises SeriesRefusedError where that leaves no series, LdctError where the series do
    not show the same places, and NothingUsableError where the convention has no window for
    their anatomy.
    """
    readings = read_volume(input_), read_volume(target)
    if refusals is not None:
        refusals += [refusal for reading in readings for refusal in reading.refusals]
    low, full = (reading.volume for reading in readings)
    match = match_slices(low, full)
    input_hu = low.image_hu[match.input]
    anatomy = _anatomy(full.provenance)
    shown = convention.windows_for(windows, anatomy)
    if not shown:
        raise NothingUsableError(_no_window(convention, anatomy))
    patient = PatientMeasurement(shown, also, convention)
    model = at_dose_ratio(model, _ratio_of_doses(low, full))
    patient.add(
        input_hu=input_hu,
        output_hu=apply_model(model, input_hu, progress=progress),
        target_hu=full.image_hu[match.target],
        valid=low.valid[match.input] & full.valid[match.target],
        numbers=match.target.tolist(),
    )
    pair = MatchedPair(
        slices=len(match.target),
        unmatched_input_mm=match.unmatched_input_mm,
        unmatched_target_mm=match.unmatched_target_mm,
    )
    return summarise({"pair": patient}).model_copy(update={"pair": pair})


def _ratio_of_doses(low: Volume, full: Volume) -> float:
    """How many times the dose of one volume another of the same scan has, by the noise of both in
    flat tissue; 1 where that cannot be measured."""
    noise = [noise_hu(volume, volume.image_hu) for volume in (low, full)]
    if noise[0] is None or not noise[1]:
        return 1.0
    return min(MAX_RATIO, max(1.0, (noise[0] / noise[1]) ** 2))
