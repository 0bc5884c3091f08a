"""The last stage: a model over a source series, and the derived DICOM series back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

from pipeline.dicom.findings import Refusal, SeriesRefusedError
from pipeline.dicom.read import read_volume
from pipeline.dicom.series import Series
from pipeline.dicom.write import DENOISED, DOSE_SIMULATED, Operation, write_derived
from pipeline.infer import Progress, apply_model
from pipeline.physics.lowdose import LowDoseCT
from pipeline.versions import VERSION
from pipeline.volume import Volume

Exported = tuple[dict[str, Any] | None, list[Refusal]]


@dataclass(frozen=True)
class ModelCard:
    """Which model: what a derived series must be able to tell."""

    name: str
    version: int
    weights_sha256: str
    config_digest: str
    data_digest: str
    parameters: int

    @property
    def uri(self) -> str:
        return f"models:/{self.name}/{self.version}"

    def operation(self) -> Operation:
        return Operation(
            label=f"AI DENOISED {self.name} v{self.version}",
            description=(
                f"Noise reduction by neural network. Model {self.name} version {self.version}, "
                f"weights SHA-256 {self.weights_sha256}. AI-derived, not for primary diagnosis; "
                "HU by the source's rescale, geometry of the source."
            ),
            code=DENOISED,
            equipment=self.name,
            equipment_version=f"{self.version} sha256:{self.weights_sha256[:16]}",
            identity=f"{self.name}/{self.version}/{self.weights_sha256}",
        )


def export_series(
    model: nn.Module,
    card: ModelCard,
    series: Series,
    folder: Path,
    progress: Progress = lambda slices: None,
) -> Exported:
    """Read the source, denoise it, write the derived series to `folder`.

    Returns what to report of it (None if all of it is refused) and the slices refused.
    """
    return _derive(
        series,
        folder,
        card.operation(),
        lambda volume: apply_model(model, volume.image_hu, progress=progress),
    )


def simulate_series(physics: LowDoseCT, series: Series, folder: Path, *, seed: int) -> Exported:
    """A low-dose copy of a series as a derived series; the same seed gives the same noise."""
    operation = Operation(
        label=f"SIMULATED {physics.dose_fraction:.0%} DOSE",
        description=(
            f"Simulated at dose fraction {physics.dose_fraction:g} by noise insertion (Yu et al. "
            f"2012), {physics.photons_per_ray:g} photons per ray at full dose, electronic noise "
            f"{physics.electronic_noise:g} quanta, seed {seed}. Not for diagnosis."
        ),
        code=DOSE_SIMULATED,
        equipment="dose simulation",
        equipment_version=VERSION,
        identity=f"{physics!r}/{seed}",
    )
    return _derive(
        series, folder, operation, lambda volume: physics(volume, np.random.default_rng(seed))
    )


def _derive(
    series: Series,
    folder: Path,
    operation: Operation,
    compute: Callable[[Volume], NDArray[np.float32]],
) -> Exported:
    try:
        reading = read_volume(series)
    except SeriesRefusedError as refused:
        return None, refused.refusals
    counts = write_derived(compute(reading.volume), reading.series, operation, folder)
    return {"folder": folder.name, **counts}, reading.refusals
