"""Figures of one patient: slice by slice, then the mean, beside the undenoised input."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from pipeline.core.json_numbers import Figure, Figures, JsonRecord, finite
from pipeline.core.masks import body_mask
from pipeline.core.types import ImageHU
from pipeline.core.units import TISSUE_RANGES_HU, Window
from pipeline.metrics.conventions import ALWAYS, HOUSE, ON_REQUEST, Convention
from pipeline.metrics.image import tissue_masks

KINDS = ("input", "output")
#: The filters leave Python's lock alone most of the time.
THREADS = min(4, os.cpu_count() or 1)


#: Mean error in HU by tissue; None where there is none of it. NaN stays, for a gate to see.
Bias = dict[str, float | None]


class WindowFigures(JsonRecord):
    """Means in one display window, of a patient or over patients.

    input, output: psnr (dB), ssim, rmse_hu and those asked for (conventions.ON_REQUEST); change:
    output minus input. hu_bias: of the output. patients, slices: how many have the
    window, of a mean over patients.
    """

    centre_hu: float
    width_hu: float
    input: Figures
    output: Figures
    change: Figures = Field(default_factory=dict)
    hu_bias: Bias = Field(default_factory=dict)
    patients: int | None = None
    slices: int | None = None

    @property
    def psnr_gain_db(self) -> float | None:
        """Output minus input; None unless both are known."""
        return difference(self.output["psnr"], self.input["psnr"])


class PerSlice(JsonRecord):
    """Columns of equal length, a row for each slice: its series, its index in it (sorted along
    the normal, from 0), and each figure by window and by input or output."""

    series: list[str]
    slice: list[int]
    windows: dict[str, dict[str, dict[str, list[Figure]]]]


class PatientFigures(JsonRecord):
    """Means over a patient's slices. hu_bias: of input and output, over all voxels of a tissue."""

    slices: int
    windows: dict[str, WindowFigures]
    hu_bias: dict[str, Bias] = Field(default_factory=dict)
    per_slice: PerSlice | None = None


@dataclass(frozen=True)
class _SliceFigures:
    """rows by (window, kind, figure), error sums by (tissue, kind), voxel counts by tissue."""

    rows: dict[tuple[str, str, str], float]
    errors: dict[tuple[str, str], float]
    voxels: dict[str, int]


@dataclass
class PatientMeasurement:
    """Measures one patient, a series at a time.

    windows: by name. also: figures beyond PSNR, SSIM and RMSE (conventions.ON_REQUEST).
    """

    windows: dict[str, Window]
    also: Sequence[str] = ()
    convention: Convention = HOUSE
    places: list[tuple[str, int]] = field(default_factory=list)
    rows: dict[tuple[str, str, str], list[float]] = field(default_factory=lambda: defaultdict(list))
    errors: dict[tuple[str, str], list[float]] = field(default_factory=lambda: defaultdict(list))
    voxels: dict[str, list[int]] = field(default_factory=lambda: defaultdict(list))

    @property
    def slices(self) -> int:
        """Slices measured so far."""
        return len(self.places)

    def add(
        self,
        *,
        input_hu: ImageHU,
        output_hu: ImageHU,
        target_hu: ImageHU,
        valid: NDArray,
        series: str = "",
        numbers: Sequence[int] | None = None,
    ) -> None:
        """Add a series, each [slices, rows, columns]. Slices without a body do not count.

        series and numbers name the slices in per_slice; by default they count from 0.
        """
        names = range(len(target_hu)) if numbers is None else numbers

        def measure(index: int) -> _SliceFigures | None:
            """One slice; None where it shows no body."""
            return self._of_slice(input_hu[index], output_hu[index], target_hu[index], valid[index])

        with ThreadPoolExecutor(THREADS) as pool:
            for number, found in zip(names, pool.map(measure, range(len(target_hu))), strict=True):
                if found is not None:
                    self._keep(found, (series, number))

    def name_series(self, name: str) -> None:
        """What all slices measured so far are called in per_slice."""
        self.places = [(name, number) for _, number in self.places]

    def extend(self, other: PatientMeasurement) -> None:
        """Add the slices that another measured, in the same windows, of the same patient."""
        self.places.extend(other.places)
        for mine, theirs in ((self.rows, other.rows), (self.errors, other.errors)):
            for name, values in theirs.items():
                mine[name].extend(values)  # type: ignore[index]
        for tissue, counts in other.voxels.items():
            self.voxels[tissue].extend(counts)

    def _keep(self, found: _SliceFigures, place: tuple[str, int]) -> None:
        self.places.append(place)
        for row, figure in found.rows.items():
            self.rows[row].append(figure)
        for error, summed in found.errors.items():
            self.errors[error].append(summed)
        for tissue, count in found.voxels.items():
            self.voxels[tissue].append(count)

    def _of_slice(
        self, input_hu: ImageHU, output_hu: ImageHU, target_hu: ImageHU, valid: NDArray
    ) -> _SliceFigures | None:
        target = np.asarray(target_hu, dtype=np.float32)
        mask = body_mask(target) & valid
        if not mask.any():
            return None
        tissues = tissue_masks(target, mask)
        rows, errors = {}, {}
        for kind, image_hu in zip(KINDS, (input_hu, output_hu), strict=True):
            # Padding holds no measurement: whatever a model makes of it is no error.
            image = np.where(valid, image_hu, target).astype(np.float32)
            for name, window in self.windows.items():
                figures = self.convention.figures(image, target, mask, window, also=self.also)
                rows.update({(name, kind, figure): value for figure, value in figures.items()})
            for tissue, voxels in tissues.items():
                error = float((image - target)[voxels].sum()) if voxels.any() else 0.0
                errors[tissue, kind] = error
        return _SliceFigures(rows, errors, {t: int(v.sum()) for t, v in tissues.items()})

    def summary(self) -> PatientFigures:
        """Means over the slices, and every slice's own figures."""
        bias = {kind: self._bias(kind) for kind in KINDS}
        return PatientFigures(
            slices=self.slices,
            windows={
                name: self._window(name, window, bias["output"])
                for name, window in self.windows.items()
            },
            hu_bias=bias,
            per_slice=self._per_slice(),
        )

    def _per_slice(self) -> PerSlice:
        return PerSlice(
            series=[series for series, _ in self.places],
            slice=[index for _, index in self.places],
            windows={
                name: {
                    kind: {figure: [*self.rows[name, kind, figure]] for figure in self._figures()}
                    for kind in KINDS
                }
                for name in self.windows
            },
        )

    def _figures(self) -> list[str]:
        return [*ALWAYS, *(figure for figure in ON_REQUEST if figure in self.also)]

    def _window(self, name: str, window: Window, hu_bias: Bias) -> WindowFigures:
        before, after = (
            {figure: mean(self.rows[name, kind, figure]) for figure in self._figures()}
            for kind in KINDS
        )
        return WindowFigures(
            centre_hu=window.centre,
            width_hu=window.width,
            input=before,
            output=after,
            change={figure: difference(after[figure], before[figure]) for figure in before},
            hu_bias=hu_bias,
        )

    def _bias(self, kind: str) -> Bias:
        return {
            name: sum(self.errors[name, kind]) / sum(self.voxels[name])
            if sum(self.voxels[name])
            else None
            for name in TISSUE_RANGES_HU
        }


def difference(after: float | None, before: float | None) -> float | None:
    """after - before; None unless both are known."""
    return None if after is None or before is None else after - before


def mean(numbers: list[float], weights: list[float] | None = None) -> float | None:
    """The mean, or None where there is none: no numbers, or an infinite PSNR among them."""
    return finite(float(np.average(numbers, weights=weights))) if numbers else None
