"""Positions that the source rounded: an even grid stays one, and real unevenness is found."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from helpers.dicom import only_series, write_series
from pydicom.dataset import Dataset

from pipeline.dicom.read.ingest_options import IngestOptions
from pipeline.dicom.read.series import Series, find_series


def series_at(
    folder: Path, places_mm: list[float], decimals: int, *, numbers: list[int] | None = None
) -> Series:
    """A series with these places along z, written with so many decimals."""

    def edit(dataset: Dataset, index: int) -> None:
        z_mm = f"{places_mm[index]:.{decimals}f}"
        dataset.ImagePositionPatient = ["-249.51171875", "-166", z_mm]
        dataset.InstanceNumber = numbers[index] if numbers else index + 1

    write_series(folder, len(places_mm), edit=edit)
    (series,) = find_series(folder, intake=IngestOptions(gaps="slices")).series
    assert len(series.instances) == len(places_mm)
    return series


@pytest.mark.parametrize(
    ("decimals", "steps_mm"),
    [(1, (0.25, 0.625, 0.7, 1.25, 2.45, 3.27, 5.0)), (0, (2.0, 2.5, 3.75, 3.27, 10.4))],
)
@pytest.mark.parametrize("start_mm", [-730.04, 0.0, 0.31])
def test_an_even_grid_that_was_rounded_is_even(tmp_path, decimals, steps_mm, start_mm):
    for step_mm in steps_mm:
        series = series_at(
            tmp_path / f"{step_mm}", [start_mm + step_mm * n for n in range(23)], decimals
        )
        assert series.evenly_spaced, step_mm
        told = [warning for warning in series.warnings if "off an even grid" in warning]
        exact = (step_mm * 10**decimals).is_integer()
        assert len(told) == (not exact)
        assert len(series.warnings) == len(told)


def test_ties_that_were_rounded_to_even_are_even(tmp_path):
    """As printf does: -17.75 is -17.8 and -15.25 is -15.2."""

    def edit(dataset: Dataset, index: int) -> None:
        dataset.ImagePositionPatient = ["0", "0", f"{2.5 * index - 20.25:.1f}"]

    write_series(tmp_path, 9, edit=edit)
    assert only_series(tmp_path).evenly_spaced


def test_whole_millimetres_beside_a_coordinate_that_was_rounded_are_even(tmp_path):
    """Steps of one last decimal of z, but all alike: no gap hides there."""

    def edit(dataset: Dataset, index: int) -> None:
        dataset.ImagePositionPatient = ["0", f"{round(0.087 * index, 1):g}", str(index)]

    write_series(tmp_path, 6, edit=edit)
    assert only_series(tmp_path).evenly_spaced


def test_a_tilted_stack_that_was_rounded_is_even(tmp_path):
    def edit(dataset: Dataset, index: int) -> None:
        tilt = np.radians(15)
        dataset.ImageOrientationPatient = [1, 0, 0, 0, f"{np.cos(tilt):.6f}", f"{np.sin(tilt):.6f}"]
        y_mm, z_mm = 0.33 * index, 2.43 * index
        dataset.ImagePositionPatient = ["0.0", f"{y_mm:.1f}", f"{z_mm:.1f}"]

    write_series(tmp_path, 20, edit=edit)
    assert only_series(tmp_path).evenly_spaced


@pytest.mark.parametrize(
    ("places_mm", "decimals"),
    [
        ([0, 2.5, 5.0, 7.8, 10.0, 12.5], 1),  # 0.3 mm off, where rounding gives 0.05
        ([0, 2.4, 4.8, 7.2, 9.7, 12.2, 14.7, 17.2], 1),  # two grids one after the other
        ([0, 2.5, 5.0, 7.6, 10.0, 12.5], 2),
        ([0, 5, 10, 17, 20, 25], 0),
        ([0, 1, 2, 4, 5, 6], 0),  # a gap: a step of one last decimal says nothing
    ],
)
def test_real_unevenness_is_found(tmp_path, places_mm, decimals):
    series = series_at(tmp_path, places_mm, decimals)
    assert not series.evenly_spaced
    assert any("uneven spacing" in warning for warning in series.warnings)


@pytest.mark.parametrize(("step_mm", "decimals"), [(2.45, 1), (0.625, 1), (2.5, 0), (3.75, 0)])
def test_lost_slices_are_found_between_rounded_positions(tmp_path, step_mm, decimals):
    numbers = [n for n in range(12) if n not in (4, 5)]
    places_mm = [step_mm * n for n in numbers]
    told = series_at(tmp_path / "told", places_mm, decimals, numbers=[n + 1 for n in numbers])
    assert not told.evenly_spaced
    assert any("2 slices missing inside" in warning for warning in told.warnings)
    assert find_series(tmp_path / "told").series == []
    silent = series_at(tmp_path / "silent", places_mm, decimals)
    assert any("2 slices may be missing inside" in warning for warning in silent.warnings)
