"""A denoiser on one full-dose series, at lower doses that continue the series' own noise."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from torch import nn

from pipeline.config.dose import DoseRequest
from pipeline.core.json_numbers import Figure, JsonRecord
from pipeline.core.masks import body_mask
from pipeline.core.types import Json
from pipeline.core.volume import Volume
from pipeline.evaluation.phantoms import SEED
from pipeline.inference.denoise import apply_model
from pipeline.inference.dose_choice import choose_dose_of
from pipeline.inference.drift import NOT_KNOWN, drift
from pipeline.inference.traits import TrainingTraits, traits
from pipeline.metrics.image import rmse_hu
from pipeline.models.adapters.any_dose import AnyDoseModel, at_dose_ratio
from pipeline.models.adapters.card import LoadedModel
from pipeline.physics.calibration import Calibration
from pipeline.physics.image_noise import FlatTissue, evenly_spread
from pipeline.physics.lowdose import LowDoseCT
from pipeline.quality.hu_accuracy import TissueBias, tissue_bias

#: Slices of a series that are denoised at each dose.
SLICES = 5


class AtDose(JsonRecord):
    """A series at one simulated dose, against its own full dose: before and after denoising.

    dose_ratio: what a dose-conditioned model made up for. noise in flat tissue, HU; fineness as
    physics.image_noise has it; None without flat tissue. rmse_hu within the body, where the full
    dose's own noise is in every figure but that of an undenoised full dose, 0. bias by tissue.
    """

    dose_fraction: float
    dose_ratio: Figure = None
    noise_hu: Figure
    noise_left_hu: Figure
    fineness: Figure
    fineness_left: Figure
    rmse_hu: Figure
    rmse_left_hu: Figure
    bias: dict[str, TissueBias]


class SliceError(JsonRecord):
    """A slice, counted from 1, at one dose: how far it is from full dose before and after."""

    series: str
    slice: int
    dose_fraction: float
    rmse_hu: Figure
    rmse_left_hu: Figure


class SeriesQualification(JsonRecord):
    """A series by its key: how it was scanned, by its own noise, and how the model does on it."""

    series: str
    slices: int
    measured_slices: list[int]
    photons_per_ray: float
    kernel_cutoff: Figure
    noise_hu: Figure
    notes: list[str]
    drift_line: str
    doses: list[AtDose]


@dataclass(frozen=True)
class MeasuredSeries:
    """One series' figures, and the errors of its slices."""

    figures: SeriesQualification
    errors: list[SliceError]

    @classmethod
    def of(
        cls, key: str, volume: Volume, loaded: LoadedModel, doses: tuple[float, ...], *, seed: int
    ) -> MeasuredSeries:
        """Raises CalibrationError where the dose cannot be measured by the noise."""
        physics = LowDoseCT(dose_fraction=1.0, photons_per_ray=None)
        scan = physics.calibration(volume)
        chosen = _chosen(len(volume.image_hu), getattr(loaded.model, "neighbours", 0))
        few = volume.slices(chosen)
        few_scan = replace(
            scan, slice_photons_per_ray=tuple(scan.slice_photons_per_ray[n] for n in chosen)
        )
        rows: list[AtDose] = []
        errors: list[SliceError] = []
        for dose in doses:
            low_hu = replace(physics, dose_fraction=dose)(
                few, np.random.default_rng((SEED, seed)), few_scan
            )
            compared = _Compared(few, low_hu, *_denoised(loaded.model, few, low_hu, dose))
            rows.append(compared.figures(dose))
            errors += compared.errors(key, chosen, dose)
        figures = SeriesQualification(
            series=key,
            slices=len(volume.image_hu),
            measured_slices=[number + 1 for number in chosen],
            doses=rows,
            drift_line=_drift_line(loaded, volume),
            **_scan_facts(scan),
        )
        return cls(figures, errors)


@dataclass(frozen=True)
class _Compared:
    """Slices at full dose, at a lower one, and denoised; dose_ratio of a dose-conditioned model."""

    full: Volume
    low_hu: NDArray[np.float32]
    output_hu: NDArray[np.float32]
    dose_ratio: float | None

    def figures(self, dose: float) -> AtDose:
        """All slices together."""
        before, after = self._noise(self.low_hu), self._noise(self.output_hu)
        bodies = self._bodies
        return AtDose(
            dose_fraction=dose,
            dose_ratio=self.dose_ratio,
            noise_hu=before[0],
            noise_left_hu=after[0],
            fineness=before[1],
            fineness_left=after[1],
            rmse_hu=rmse_hu(self.low_hu, self.full.image_hu, bodies),
            rmse_left_hu=rmse_hu(self.output_hu, self.full.image_hu, bodies),
            bias=tissue_bias(
                self.output_hu, self.full.image_hu, body=bodies, valid=self.full.valid
            ),
        )

    def errors(self, key: str, chosen: list[int], dose: float) -> Iterator[SliceError]:
        """Slice by slice."""
        slices = zip(
            chosen, self.full.image_hu, self.low_hu, self.output_hu, self._bodies, strict=True
        )
        for number, full_hu, low_hu, output_hu, body in slices:
            yield SliceError(
                series=key,
                slice=number + 1,
                dose_fraction=dose,
                rmse_hu=rmse_hu(low_hu, full_hu, body),
                rmse_left_hu=rmse_hu(output_hu, full_hu, body),
            )

    @property
    def _bodies(self) -> NDArray[np.bool_]:
        return np.stack([body_mask(image_hu) for image_hu in self.full.image_hu]) & self.full.valid

    def _noise(self, image_hu: NDArray[np.float32]) -> tuple[float | None, float | None]:
        """In the flat tissue of the full dose: level and fineness."""
        tissue = FlatTissue.of(self.full)
        found = tissue.noise([image_hu[number] for number in tissue.slices])
        return (found.noise_hu, found.fineness) if found else (None, None)


def _chosen(count: int, neighbours: int) -> list[int]:
    """Slices evenly spread; for a model that sees neighbours, some beside each other."""
    if not neighbours:
        return evenly_spread(count, SLICES)
    first = max(0, (count - SLICES) // 2)
    return list(range(first, min(count, first + SLICES)))


def _denoised(
    model: nn.Module, full: Volume, low_hu: NDArray[np.float32], dose: float
) -> tuple[NDArray[np.float32], float | None]:
    """The output, and the ratio of a dose-conditioned model: up to full dose, and of full dose
    itself what an export would choose."""
    if not isinstance(model, AnyDoseModel):
        return apply_model(model, low_hu), None
    ratio = 1 / dose if dose < 1 else choose_dose_of(model, DoseRequest(), full).dose_ratio
    return apply_model(at_dose_ratio(model, ratio), low_hu), ratio


def _drift_line(loaded: LoadedModel, volume: Volume) -> str:
    """Of the full dose: what a low dose of it is like depends on the dose."""
    if loaded.card.seen is None:
        return NOT_KNOWN.line
    return drift(traits(volume), TrainingTraits.from_dict(loaded.card.seen)).line


def _scan_facts(scan: Calibration) -> Json:
    return {
        "photons_per_ray": scan.photons_per_ray,
        "kernel_cutoff": scan.cutoff,
        "noise_hu": scan.measured_noise_hu,
        "notes": list(scan.notes),
    }
