"""How far a denoised series may be off, voxel by voxel, as it is written beside the series."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.core.errors import ConfigError
from pipeline.core.types import ImageHU, Json
from pipeline.core.volume import Volume
from pipeline.dicom.derived.check import check_structures
from pipeline.dicom.derived.parametric_map import FILE, uncertainty_of, write_deviation_map
from pipeline.dicom.derived.write import Operation
from pipeline.dicom.read.series import Series
from pipeline.dicom.read.volume import Slice
from pipeline.models.adapters.card import ModelCard
from pipeline.quality.uncertainty import Calibration, factor_95, half_widths_hu


def require_uncertainty(card: ModelCard) -> Calibration:
    """The model's calibration; ConfigError where it has none that holds as it is applied."""
    if card.uncertainty is None:
        raise ConfigError(
            f"{card.uri} was not calibrated for --uncertainty: that needs errors on patients that "
            "it was not trained on (benchmarks/uncertainty.py); anydose@pretrained was"
        )
    if card.strength != 1:
        raise ConfigError(
            f"--uncertainty holds at full strength only, and strength is {card.strength:g}: ask "
            "for less by --dose-ratio, --target-noise or --level"
        )
    return card.uncertainty


@dataclass
class SeriesUncertainty:
    """The standard deviations of a series' voxels at one dose ratio, slice by slice in order."""

    calibration: Calibration
    dose_ratio: float
    slices: list[ImageHU] = field(default_factory=list)

    def add(self, processed: Slice) -> None:
        """The next slice with its result."""
        pixels = processed.pixels
        self._add(pixels.image_hu, processed.image_hu, pixels.valid)

    def add_volume(self, source: Volume, result_hu: ImageHU) -> None:
        """All slices of a volume and its result [slices, rows, columns]."""
        for one in zip(source.image_hu, result_hu, source.valid, strict=True):
            self._add(*one)

    @property
    def deviation_hu(self) -> ImageHU:
        """Of all slices so far, [slices, rows, columns]."""
        return np.stack(self.slices)

    def _add(self, source_hu: ImageHU, result_hu: ImageHU, valid: NDArray[np.bool_]) -> None:
        """What is no measurement is 0, as it is not changed."""
        narrow_hu, _ = half_widths_hu(source_hu, result_hu, self.dose_ratio, self.calibration)
        self.slices.append(np.where(valid, narrow_hu, np.float32(0)))

    def write(self, series: Series, operation: Operation, folder: Path, name: str) -> Json:
        """Write a DICOM Parametric Map into `folder`, which is to be called `name`, and check it;
        returns its row of the report. Raises LdctError for one that fails its check."""
        made_by = uncertainty_of(operation, self.explanation())
        write_deviation_map(self.deviation_hu, series, made_by, folder)
        result = check_structures(folder / FILE, series, name=name)
        result.require()
        return {"folder": name, "instances": 1, "check": result.summary().to_dict()}

    def explanation(self) -> str:
        """What the values are, for headers."""
        wide = sorted(factor_95(self.dose_ratio, self.calibration).values())
        return (
            "Standard deviation in HU of each voxel about an image of the dose asked for, whose "
            "own noise is included: the half width of the 68 % interval; that of the 95 % one is "
            f"{wide[0]:.1f} to {wide[-1]:.1f} times as much, by tissue. Calibrated on "
            f"{self.calibration.series} series that the model was not trained on."
        )
