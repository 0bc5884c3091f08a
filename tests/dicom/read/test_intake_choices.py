"""What a slice's numbers may be, what a refusal tells of them, and RescaleType by choice."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pydicom
import pytest
from helpers.derived import write_derived
from helpers.dicom import OPERATION, ct_slice, only_series, quarantined, ramp, save, write_series
from pydicom.dataelem import RawDataElement
from pydicom.tag import Tag

from pipeline.config.load import parse_intake
from pipeline.dicom.derived.check import check_series, check_tree
from pipeline.dicom.read.ingest_options import IngestOptions
from pipeline.dicom.read.series import find_series
from pipeline.dicom.read.volume import read_volume

#: As an export's operation, which names its model's weights.
NAMED = replace(OPERATION, description=f"Noise reduction. Model test, weights {'0123abcd' * 8}.")
AS_HU = IngestOptions(rescale_type="hu")
EXPECTED_HU = ramp(0).astype(np.float32) - 1024


def with_raw(keyword, vr, content):
    """A CT image with these bytes as the value of an attribute."""
    dataset = ct_slice(0)
    tag = Tag(keyword)
    dataset[tag] = RawDataElement(tag, vr, len(content), content, 0, False, True)
    return dataset


@pytest.mark.parametrize(
    "spelled", ["HU", "hu", "Hu", "Hounsfield", "Houndsfield Unit", "HOUNSFIELD UNITS"]
)
def test_hounsfield_in_any_spelling_is_hu(tmp_path, spelled):
    write_series(tmp_path, 3, RescaleType=spelled)
    series = only_series(tmp_path)
    np.testing.assert_array_equal(read_volume(series).volume.image_hu[0], EXPECTED_HU)
    remarks = [warning for warning in series.warnings if "RescaleType" in warning]
    assert remarks == ([] if spelled == "HU" else [f"RescaleType {spelled}: read as HU"])


def test_a_spelling_of_hu_is_carried_to_the_derived_series_which_passes(tmp_path):
    write_series(tmp_path / "in", 3, RescaleType="Houndsfield Unit")
    series = only_series(tmp_path / "in")
    write_derived(read_volume(series).volume.image_hu, series, NAMED, tmp_path / "out")
    derived = pydicom.dcmread(tmp_path / "out" / "CT.0001.dcm")
    assert derived.RescaleType == "Houndsfield Unit"
    assert check_series(tmp_path / "out", series).problems == []


def test_an_unspecified_rescale_is_refused_with_the_choice_that_lifts_it(tmp_path):
    write_series(tmp_path, 3, RescaleType="US")
    found = find_series(tmp_path)
    assert found.series == []
    for refusal in quarantined(found.refusals):
        assert (refusal.attribute, refusal.value) == ("RescaleType", "US")
        assert "--intake rescale_type=hu" in refusal.reason


def test_an_unspecified_rescale_is_hu_by_choice_and_the_derived_series_says_so(tmp_path):
    write_series(tmp_path / "in", 3, RescaleType="US")
    (series,) = find_series(tmp_path / "in", intake=parse_intake(["rescale_type=hu"])).series
    assert "RescaleType US: taken as HU by choice (rescale_type=hu)" in series.warnings
    image_hu = read_volume(series).volume.image_hu
    np.testing.assert_array_equal(image_hu[0], EXPECTED_HU)
    write_derived(image_hu, series, NAMED, tmp_path / "out")
    derived = pydicom.dcmread(tmp_path / "out" / "CT.0001.dcm")
    assert derived.RescaleType == "HU"
    assert "RescaleType US of the source was taken as HU" in derived.DerivationDescription
    assert check_series(tmp_path / "out", series).problems == []
    # Its values are HU for whoever reads it next, without a choice.
    np.testing.assert_array_equal(
        read_volume(only_series(tmp_path / "out")).volume.image_hu, image_hu
    )


def test_a_derived_series_that_does_not_say_that_it_took_values_as_hu_fails(tmp_path):
    write_series(tmp_path / "in", 3, RescaleType="US")
    (series,) = find_series(tmp_path / "in", intake=AS_HU).series
    write_derived(read_volume(series).volume.image_hu, series, NAMED, tmp_path / "out")
    path = tmp_path / "out" / "CT.0001.dcm"
    derived = pydicom.dcmread(path)
    derived.DerivationDescription = NAMED.description
    derived.save_as(path)
    problems = check_series(tmp_path / "out", series).problems
    assert [(p.rule, p.attribute) for p in problems] == [("values", "RescaleType")]


def test_check_reads_its_source_by_the_same_choices(tmp_path):
    write_series(tmp_path / "in", 3, RescaleType="US")
    (series,) = find_series(tmp_path / "in", intake=AS_HU).series
    write_derived(read_volume(series).volume.image_hu, series, NAMED, tmp_path / "out")
    (result,) = check_tree(tmp_path / "out", tmp_path / "in", intake=AS_HU)
    assert result.passed
    (without,) = check_tree(tmp_path / "out", tmp_path / "in")
    assert [p.rule for p in without.problems] == ["one-to-one"]
    assert "--intake" in without.problems[0].value


@pytest.mark.parametrize("stated", ["OD", "MGML", "Z_EFF", "ED", "EDW", "PCT"])
def test_another_quantity_is_not_hu_whatever_the_choice(tmp_path, stated):
    write_series(tmp_path, 3, RescaleType=stated)
    found = find_series(tmp_path, intake=AS_HU)
    assert found.series == []
    assert {(r.attribute, r.value) for r in found.refusals} == {("RescaleType", stated)}


@pytest.mark.parametrize(
    ("keyword", "vr", "content", "reason", "value"),
    [
        (
            "PixelSpacing",
            "DS",
            b"0,703125\\0,703125 ",
            "must hold 2 numbers, with a point for the decimals",
            "0,703125\\0,703125",
        ),
        ("RescaleIntercept", "DS", b"1.#QNAN ", "must hold 1 number", "1.#QNAN"),
        ("RescaleIntercept", "DS", b"-1024HU ", "must hold 1 number", "-1024HU"),
        ("RescaleSlope", "DS", b"1\\1 ", "must hold 1 number", "1\\1"),
        (
            "PixelPaddingValue",
            "SS",
            b"\x30\xf8\x00\xfc",
            "expected one whole number",
            "-2000\\-1024",
        ),
        ("PixelPaddingRangeLimit", "US", b"\1\0\2\0", "expected one whole number", "1\\2"),
        ("HighBit", "US", b"\x0f\0\x0f\0", "expected one whole number", "15\\15"),
    ],
)
def test_a_value_that_cannot_be_read_is_told_with_its_attribute(
    tmp_path, keyword, vr, content, reason, value
):
    save(with_raw(keyword, vr, content), tmp_path / "0.dcm")
    (refusal,) = find_series(tmp_path).refusals
    assert refusal.attribute == keyword
    assert reason in refusal.reason
    assert refusal.value.strip() == value


def test_an_empty_high_bit_is_the_top_one(tmp_path):
    write_series(tmp_path, 3, HighBit="")
    np.testing.assert_array_equal(
        read_volume(only_series(tmp_path)).volume.image_hu[0], EXPECTED_HU
    )
