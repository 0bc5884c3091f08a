"""Figures of real pairs: of each, and of those of one kernel and dose."""

from __future__ import annotations

from pydantic import Field

from pipeline.core.json_numbers import Figure, JsonRecord
from pipeline.evaluation.noise_ceiling import NoiseCeiling
from pipeline.evaluation.per_patient import Bias, WindowFigures


class MatchedPair(JsonRecord):
    """How many slices of a real pair were compared, and the first voxel [x, y, z] in mm of each
    slice that only one series has."""

    slices: int
    unmatched_input_mm: list[list[float]]
    unmatched_target_mm: list[list[float]]


class PairFigures(JsonRecord):
    """One pair: the pseudonyms of its patient and its full-dose series, and its means.

    dose_percent: the input's dose of the target's, as stated; measured_dose_percent: by the noise
    of both. hu_bias: of input and output, by tissue. ceiling: None without flat tissue.
    """

    patient: str
    series: str
    anatomy: str
    kernel: str
    dose_percent: int | None
    measured_dose_percent: Figure
    matched: MatchedPair
    windows: dict[str, WindowFigures]
    hu_bias: dict[str, Bias]
    ceiling: NoiseCeiling | None

    @property
    def dose(self) -> str:
        """For people, and to group by: as stated, else as measured in steps of five."""
        if self.dose_percent is not None:
            return f"{self.dose_percent} %"
        if self.measured_dose_percent is None:
            return "not known"
        return f"about {5 * max(1, round(self.measured_dose_percent / 5))} %"


class PairGroup(JsonRecord):
    """All pairs of one kernel and dose: means over patients, as the convention counts them.

    ceiling_gain_db: the mean over pairs of how much PSNR can rise at most; None where one of
    them has no figure.
    """

    kernel: str
    dose: str
    pairs: int
    patients: int
    slices: int
    windows: dict[str, WindowFigures]
    hu_bias: dict[str, Bias] = Field(default_factory=dict)
    ceiling_gain_db: Figure = None
