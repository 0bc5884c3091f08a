"""Phases and time points in one series: volumes with names, whatever attribute tells them apart."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.dicom import KEY, ROOT_UID, STEP_MM, ct_slice, quarantined, ramp, save, write_series

from pipeline.core.refusals import Disposition
from pipeline.dicom.read.series import Discovery, find_series
from pipeline.dicom.read.volume import read_volume, series_key

COUNT = 5


def write_phases(
    folder: Path, values: Callable[[int, int], dict[str, Any]], *, phases: int = 2
) -> None:
    """Volumes at the same places, whose stored values differ by the phase's number.

    values: the attributes of a slice by phase and index.
    """
    for phase in range(phases):
        for index in range(COUNT):
            attributes = {
                "InstanceNumber": 1,  # tells nothing apart, but where a test says otherwise
                "SOPInstanceUID": f"{ROOT_UID}.{phase + 1}.{index + 1}",
                **values(phase, index),
            }
            dataset = ct_slice(index, stored=ramp(index) + phase, **attributes)
            save(dataset, folder / f"{index}-{phase}.dcm")


def assert_phases(found: Discovery, *, phases: int = 2) -> list[str]:
    """Each phase is a volume of its own slices; returns the names."""
    assert found.refusals == []
    assert len(found.series) == phases
    seen = set()
    for series in found.series:
        image_hu = read_volume(series).volume.image_hu
        (phase,) = set(np.unique(image_hu - [ramp(i) - 1024.0 for i in range(COUNT)]).tolist())
        seen.add(phase)
        assert series.evenly_spaced
    assert len(seen) == phases
    assert len({series_key(series, KEY) for series in found.series}) == phases
    return sorted(series.part for series in found.series)


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("ScanOptions", ("TP10PC", "TP50PC")),
        ("TriggerTime", ("0", "350.5")),
        ("NominalPercentageOfRespiratoryPhase", (0.0, 50.0)),
        ("TemporalPositionTimeOffset", (0.0, 1.5)),
        ("NominalCardiacTriggerDelayTime", (100.0, 300.0)),
        ("RespiratoryCyclePosition", ("START_RESPIR", "END_RESPIR")),
        ("PhaseNumber", ("1", "2")),
    ],
)
def test_attributes_of_the_acquisition_are_in_the_name(tmp_path, name, values):
    write_phases(tmp_path, lambda phase, _: {name: values[phase]})
    names = assert_phases(find_series(tmp_path))
    assert names == sorted(f"{name} {value}" for value in values)


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("ImageComments", ("Geheim arterial", "Geheim venous")),
        ("ContentTime", ("101500", "101730")),
        ("AcquisitionTime", ("101500.1", "101500.9")),
        ("AcquisitionDateTime", ("19991231101500", "19991231101730")),
        ("AcquisitionDate", ("19991231", "20000101")),
        ("SeriesDescription", ("Geheim arterial", "Geheim venous")),
        ("IrradiationEventUID", (f"{ROOT_UID}.71", f"{ROOT_UID}.72")),
    ],
)
def test_values_that_may_identify_a_patient_are_numbered(tmp_path, name, values):
    write_phases(tmp_path, lambda phase, _: {name: values[phase]})
    found = find_series(tmp_path)
    assert assert_phases(found) == [f"{name}: value {number} of 2" for number in (1, 2)]
    shown = " ".join(repr(series) for series in found.series)
    warnings = " ".join(w for series in found.series for w in series.warnings)
    for value in values:
        assert value not in warnings
        assert f"exact_part='{name} {value}'" not in shown


def test_the_key_hangs_on_the_value_and_not_on_its_number(tmp_path):
    times = ("101500", "101730", "102000")
    write_phases(tmp_path / "two", lambda phase, _: {"ContentTime": times[phase + 1]})
    write_phases(tmp_path / "all", lambda phase, _: {"ContentTime": times[phase]}, phases=3)
    two, three = (
        {series.part: series_key(series, KEY) for series in find_series(tmp_path / name).series}
        for name in ("two", "all")
    )
    assert two["ContentTime: value 1 of 2"] == three["ContentTime: value 2 of 3"]
    assert two["ContentTime: value 2 of 2"] == three["ContentTime: value 3 of 3"]


@pytest.mark.parametrize(
    ("name", "value", "shown"),
    [
        ("ContentTime", lambda n: f"1015{n:02d}", "ContentTime: range {phase} of 3"),
        ("AcquisitionDateTime", lambda n: f"199912311015{n:02d}", "AcquisitionDateTime: range"),
        ("TriggerTime", lambda n: f"{10 * n}.5", "TriggerTime"),
        ("InstanceNumber", lambda n: n + 1, "InstanceNumber"),
    ],
)
def test_what_goes_up_from_slice_to_slice_has_a_range_for_each_volume(tmp_path, name, value, shown):
    write_phases(tmp_path, lambda phase, index: {name: value(phase * COUNT + index)}, phases=3)
    names = assert_phases(find_series(tmp_path), phases=3)
    assert all(found.startswith(shown.split("{")[0]) for found in names)
    if name == "InstanceNumber":
        assert names == [f"InstanceNumber {a} to {a + 4}" for a in (1, 11, 6)]


def test_times_that_lie_in_each_other_divide_nothing(tmp_path):
    """A time that goes up with the phase at each place, and with the place."""
    write_phases(tmp_path, lambda phase, index: {"ContentTime": f"1015{2 * index + phase:02d}"})
    found = find_series(tmp_path)
    assert found.series == []
    assert len(found.refusals) == 2 * COUNT
    reason = found.refusals[0].reason
    assert "differ in ContentTime, which does not divide" in reason
    assert not re.search(r"1015\d\d", reason)


def test_what_nothing_tells_apart_is_said_to_be_so(tmp_path):
    write_phases(tmp_path, lambda phase, index: {})
    found = find_series(tmp_path)
    assert found.series == []
    assert "no attribute distinguishes them" in found.refusals[0].reason


def test_two_attributes_together_tell_volumes_apart(tmp_path):
    write_phases(
        tmp_path,
        lambda phase, _: {"TemporalPositionIndex": phase // 2, "FilterType": "AB"[phase % 2]},
        phases=4,
    )
    names = assert_phases(find_series(tmp_path), phases=4)
    assert names[0] == "TemporalPositionIndex 0, FilterType A"


def test_phases_that_were_copied_too_are_still_told_apart(tmp_path):
    write_phases(tmp_path / "a", lambda phase, _: {"ScanOptions": f"TP{phase}0PC"})
    shutil.copytree(tmp_path / "a", tmp_path / "again")
    found = find_series(tmp_path)
    assert [len(series.instances) for series in found.series] == [COUNT, COUNT]
    assert [r.disposition for r in found.refusals] == [Disposition.EXCLUDED] * 2 * COUNT


@pytest.mark.parametrize(
    ("name", "shift_mm"),
    [
        ("ScanOptions", 0.02),
        ("ScanOptions", 0.9),
        ("ContentTime", 0.9),
        ("TemporalPositionIdentifier", 0.9),
        ("TemporalPositionIdentifier", STEP_MM / 2),  # all slices together are an even grid
    ],
)
def test_phases_that_lie_between_each_other_are_volumes_of_their_own(tmp_path, name, shift_mm):
    values = {"ScanOptions": ("A", "B"), "ContentTime": ("101500", "101730")}.get(name, (1, 2))

    def attributes(phase: int, index: int) -> dict[str, Any]:
        z_mm = index * STEP_MM + phase * shift_mm
        return {
            name: values[phase],
            "ImagePositionPatient": ["0", "0", f"{z_mm:.3f}"],
            "InstanceNumber": 1 + index,
        }

    write_phases(tmp_path, attributes)
    assert_phases(find_series(tmp_path))


@pytest.mark.parametrize("seed", range(8))
def test_two_phases_are_two_volumes_in_any_order_and_with_tiny_differences(tmp_path, seed):
    rng = np.random.default_rng(seed)
    names = ["TriggerTime", "ScanOptions", "ContentTime", "ImageComments", "AcquisitionNumber"]
    name = names[seed % len(names)]
    step_mm, first_mm = rng.uniform(0.6, 5), rng.uniform(-900, 900)

    def attributes(phase: int, index: int) -> dict[str, Any]:
        z_mm = first_mm + step_mm * index + rng.uniform(-1e-4, 1e-4)
        return {
            name: str(phase + 1) if name != "ContentTime" else f"10150{phase}",
            "ImagePositionPatient": ["0", "0", f"{z_mm:.6f}"],
            "KVP": str(rng.choice(["120", "120.0"])),
            "PixelSpacing": [f"{0.70315 + rng.uniform(-1e-6, 1e-6):.8f}"] * 2,
            "InstanceNumber": int(rng.integers(1, 99)),
        }

    write_phases(tmp_path / "written", attributes)
    for number, path in enumerate(rng.permutation(sorted((tmp_path / "written").iterdir()))):
        shutil.move(path, tmp_path / f"{number}.dcm")
    found = find_series(tmp_path)
    assert_phases(found)
    for series in found.series:
        np.testing.assert_allclose(
            np.diff([i.position_mm for i in series.instances]), step_mm, atol=3e-4
        )


def test_a_copy_that_cannot_be_decoded_is_quarantined_for_what_it_is(tmp_path, capfd):
    write_series(tmp_path, 4)
    for number in (1, 2):
        damaged = ct_slice(2, SOPInstanceUID=f"{ROOT_UID}.88.{number}")
        damaged.PixelData = damaged.PixelData[:100]
        save(damaged, tmp_path / f"002-{number}.dcm")
    found = find_series(tmp_path)
    (series,) = found.series
    assert len(series.instances) == 4
    assert {r.path.name for r in quarantined(found.refusals)} == {"002-1.dcm", "002-2.dcm"}
    assert {refusal.attribute for refusal in found.refusals} == {"PixelData"}
    np.testing.assert_array_equal(read_volume(series).volume.image_hu[2], ramp(2) - 1024.0)
    assert capfd.readouterr().err == ""


def test_where_no_copy_can_be_decoded_its_place_is_the_one_that_is_lost(tmp_path):
    paths = write_series(tmp_path, 4)
    for number, path in enumerate((paths[2], tmp_path / "copy.dcm")):
        damaged = ct_slice(2, SOPInstanceUID=f"{ROOT_UID}.88.{number + 1}")
        damaged.PixelData = damaged.PixelData[:100]
        save(damaged, path)
    found = find_series(tmp_path)
    (series,) = found.series
    reading = read_volume(series)
    assert len(reading.series.instances) == 3
    assert len(quarantined(found.refusals)) + len(reading.refusals) == 2
