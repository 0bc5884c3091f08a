"""Figures of one patient: slice by slice, then the mean, beside the undenoised input."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.core.json_numbers import finite
from pipeline.core.masks import body_mask
from pipeline.core.units import TISSUE_RANGES_HU, Window
from pipeline.metrics.conventions import ALWAYS, HOUSE, ON_REQUEST, Convention
from pipeline.metrics.image import tissue_masks

KINDS = ("input", "output")
Images = NDArray[np.float32]
#: The filters leave Python's lock alone most of the time.
THREADS = min(4, os.cpu_count() or 1)


@dataclass(frozen=True)
class _SliceFigures:
    """rows by (window, kind, figure), error sums by (tissue, kind), voxel counts by tissue."""

    rows: dict[tuple[str, str, str], float]
    errors: dict[tuple[str, str], float]
    voxels: dict[str, int]


@dataclass
class PatientFigures:
    """Figures of one patient's slices, as they come in.

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
        return len(self.places)

    def add(
        self,
        *,
        input_hu: Images,
        output_hu: Images,
        target_hu: Images,
        valid: NDArray,
        series: str = "",
        numbers: Sequence[int] | None = None,
    ) -> None:
        """Add a series, each [slices, rows, columns]. Slices without a body do not count.

        series and numbers name the slices in per_slice; by default they count from 0.
        """
        called = range(len(target_hu)) if numbers is None else numbers

        def one(index: int) -> _SliceFigures | None:
            return self._of_slice(input_hu[index], output_hu[index], target_hu[index], valid[index])

        with ThreadPoolExecutor(THREADS) as pool:
            for number, found in zip(called, pool.map(one, range(len(target_hu))), strict=True):
                if found is not None:
                    self._keep(found, (series, number))

    def _keep(self, found: _SliceFigures, place: tuple[str, int]) -> None:
        self.places.append(place)
        for row, figure in found.rows.items():
            self.rows[row].append(figure)
        for error, summed in found.errors.items():
            self.errors[error].append(summed)
        for tissue, count in found.voxels.items():
            self.voxels[tissue].append(count)

    def _of_slice(
        self, input_hu: Images, output_hu: Images, target_hu: Images, valid: NDArray
    ) -> _SliceFigures | None:
        target = np.asarray(target_hu, dtype=np.float32)
        mask = body_mask(target) & valid
        if not mask.any():
            return None
        tissues = tissue_masks(target, mask)
        rows, errors = {}, {}
        for kind, given in zip(KINDS, (input_hu, output_hu), strict=True):
            # Padding holds no measurement: whatever a model makes of it is no error.
            image = np.where(valid, given, target).astype(np.float32)
            for name, window in self.windows.items():
                figures = self.convention.figures(image, target, mask, window, also=self.also)
                rows.update({(name, kind, figure): value for figure, value in figures.items()})
            for tissue, voxels in tissues.items():
                error = float((image - target)[voxels].sum()) if voxels.any() else 0.0
                errors[tissue, kind] = error
        return _SliceFigures(rows, errors, {t: int(v.sum()) for t, v in tissues.items()})

    def summary(self) -> dict[str, Any]:
        """Means over the slices, and every slice's own figures (see per_slice).

        HU bias is over all voxels of a tissue, None where it has none. `change` is output
        minus input.
        """
        windows = {
            name: {
                "centre_hu": window.centre,
                "width_hu": window.width,
                **self._means(name),
                "hu_bias": self._bias("output"),
            }
            for name, window in self.windows.items()
        }
        return {
            "slices": self.slices,
            "windows": windows,
            "hu_bias": {kind: self._bias(kind) for kind in KINDS},
            "per_slice": self.per_slice(),
        }

    def per_slice(self) -> dict[str, Any]:
        """Columns of equal length: the series and the slice's index in it, sorted along the
        normal from 0, and each figure by window and kind; None for an infinite PSNR."""
        return {
            "series": [series for series, _ in self.places],
            "slice": [index for _, index in self.places],
            "windows": {
                name: {
                    kind: {
                        figure: [finite(value) for value in self.rows[name, kind, figure]]
                        for figure in self._figures()
                    }
                    for kind in KINDS
                }
                for name in self.windows
            },
        }

    def _figures(self) -> list[str]:
        return [*ALWAYS, *(figure for figure in ON_REQUEST if figure in self.also)]

    def _means(self, window: str) -> dict[str, dict[str, float | None]]:
        means = {
            kind: {figure: mean(self.rows[window, kind, figure]) for figure in self._figures()}
            for kind in KINDS
        }
        before, after = means["input"], means["output"]
        change = {figure: _difference(after[figure], before[figure]) for figure in before}
        return {**means, "change": change}

    def _bias(self, kind: str) -> dict[str, float | None]:
        return {
            name: sum(self.errors[name, kind]) / sum(self.voxels[name])
            if sum(self.voxels[name])
            else None
            for name in TISSUE_RANGES_HU
        }


def _difference(after: float | None, before: float | None) -> float | None:
    return None if after is None or before is None else after - before


def mean(numbers: list[float], weights: list[float] | None = None) -> float | None:
    """The mean, or None where there is none: no numbers, or an infinite PSNR among them."""
    return finite(float(np.average(numbers, weights=weights))) if numbers else None
