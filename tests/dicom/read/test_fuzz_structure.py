"""Valid but odd series, drawn at random, whose volume is known: each must be read, and exactly."""

from __future__ import annotations

import os
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from conftest import missing

if find_spec("hypothesis") is None:
    missing("hypothesis is not installed: it is in requirements.lock")

from helpers.dicom import NAMED
from helpers.odd_series.build import Known, write_series
from helpers.odd_series.case import OddSeries, odd_series
from hypothesis import HealthCheck, given, seed, settings

from pipeline.core.refusals import Disposition
from pipeline.dicom.derived.publish import derived_series
from pipeline.dicom.derived.write import write_slice
from pipeline.dicom.read.series import Series, find_series
from pipeline.dicom.read.volume import Reading, SliceReader, read_volume

#: Cases of a run, and the fraction that are exported too; LDCT_FUZZ_CASES asks for more.
CASES = int(os.environ.get("LDCT_FUZZ_CASES", "500"))
EXPORTED_SHARE = 20
#: Hypothesis remembers what it drew: so many cases at a time.
BATCH = 500
BATCHES = range(max(1, CASES // BATCH))


def at_random(examples: int) -> settings:
    """Always the same cases; slow ones and large ones are no failure."""
    return settings(
        max_examples=examples,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )


@contextmanager
def in_folder() -> Iterator[Path]:
    """A folder of a case's own; what pydicom warns of is what is odd."""
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield Path(folder)


def read_whole(case: OddSeries, folder: Path) -> tuple[list[Known], list[Reading]]:
    """The case written and read: each of its volumes must be there, and whole."""
    written = write_series(case, folder)
    found = find_series(folder)
    lost = [r for r in found.refusals if r.disposition is not Disposition.EXCLUDED]
    assert not lost, lost
    assert len(found.series) == len(written.volumes), [series.part for series in found.series]
    assert len(found.refusals) == written.excluded, found.refusals
    readings = [read_volume(series) for series in found.series]
    assert not [reading.refusals for reading in readings if reading.refusals]
    return written.volumes, readings


def assert_known(known: list[Known], readings: list[Reading]) -> None:
    """HU, mask and place are those that were written; volumes come in any order."""
    assert len(readings) == len(known)
    assert all(reading.series.evenly_spaced for reading in readings)
    for one in known:
        reading = min(readings, key=lambda reading: _difference(one, reading))
        volume = reading.volume
        np.testing.assert_array_equal(volume.valid, one.valid)
        np.testing.assert_array_equal(volume.image_hu, one.image_hu)
        np.testing.assert_allclose(volume.affine_lps, one.affine_lps, rtol=0, atol=1e-9)


def _difference(known: Known, reading: Reading) -> float:
    assert reading.volume.image_hu.shape == known.image_hu.shape
    return float(np.abs(reading.volume.image_hu - known.image_hu).sum())


def exported(series: Series, folder: Path) -> Reading:
    """The derived series of a model that changes nothing, checked as every export is."""
    with derived_series(folder, series, NAMED, write_slice) as writer:
        for processed in SliceReader(series).slices():
            writer.write(processed)
    derived = find_series(folder)
    assert not derived.refusals
    assert len(derived.series) == 1
    return read_volume(derived.series[0])


@pytest.mark.parametrize("batch", BATCHES)
def test_an_odd_series_is_read_exactly(batch):
    @seed(batch)
    @at_random(min(BATCH, CASES))
    @given(odd_series())
    def check(case: OddSeries) -> None:
        with in_folder() as folder:
            assert_known(*read_whole(case, folder))

    check()


@pytest.mark.parametrize("batch", BATCHES)
def test_an_odd_series_is_exported_as_it_is(batch):
    @seed(-1 - batch)
    @at_random(min(BATCH, CASES) // EXPORTED_SHARE)
    @given(odd_series())
    def check(case: OddSeries) -> None:
        with in_folder() as folder:
            (folder / "in").mkdir()
            known, readings = read_whole(case, folder / "in")
            derived = [exported(r.series, folder / str(n)) for n, r in enumerate(readings)]
            assert_known(known, derived)

    check()
