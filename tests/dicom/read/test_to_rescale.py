"""Look-up tables, floating point pixels, and matrices of any size: exact HU in, and out."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pydicom
import pytest
from helpers.derived import write_derived
from helpers.dicom import OPERATION, ct_slice, only_series, quarantined, ramp, save, write_series
from pydicom.dataset import Dataset
from pydicom.uid import ImplicitVRLittleEndian

from pipeline.dicom.derived.check import check_series
from pipeline.dicom.read.ingest_options import IngestOptions
from pipeline.dicom.read.series import find_series
from pipeline.dicom.read.volume import read_volume

NAMED = replace(OPERATION, description=f"Noise reduction. Model test, weights {'0123abcd' * 8}.")
ROWS, COLUMNS = 16, 12
NO_RESCALE = {"RescaleSlope": None, "RescaleIntercept": None}
#: HU of the stored values 10, 11, ...: no rescale could say them.
TABLE = np.r_[-1000, np.arange(-900, 1100) ** 3 // 10**6, 3000].astype(np.int16)
FIRST = 10


def table(kind="HU", entries=TABLE, first=FIRST):
    item = Dataset()
    item.add_new("LUTDescriptor", "SS" if first < 0 else "US", [len(entries), first, 16])
    item.ModalityLUTType = kind
    item.add_new("LUTData", "OW", entries.astype("<i2").tobytes())
    return item


def stored(index=0):
    """Values below, within and beyond the table."""
    values = np.random.default_rng(index).integers(0, len(TABLE) + 30, (ROWS, COLUMNS))
    return values.astype(np.uint16)


def through_table(values):
    return TABLE[(values.astype(int) - FIRST).clip(0, len(TABLE) - 1)]


def write_tables(folder, count=3, syntax=None, **attributes):
    for index in range(count):
        given = {**NO_RESCALE, "ModalityLUTSequence": [table()], **attributes}
        dataset = ct_slice(index, stored(index), **given)
        save(dataset, folder / f"{index}.dcm", *([syntax] if syntax else []))


def exported(tmp_path, series):
    """The derived series of unchanged HU, checked; read again."""
    image_hu = read_volume(series).volume.image_hu
    write_derived(image_hu, series, NAMED, tmp_path / "out")
    assert check_series(tmp_path / "out", series).problems == []
    derived = pydicom.dcmread(tmp_path / "out" / "CT.0001.dcm")
    return derived, read_volume(only_series(tmp_path / "out")).volume


@pytest.mark.parametrize("syntax", [None, ImplicitVRLittleEndian])
def test_hu_through_a_table_are_exact_and_derived_with_a_rescale(tmp_path, syntax):
    write_tables(tmp_path / "in", syntax=syntax)
    series = only_series(tmp_path / "in")
    volume = read_volume(series).volume
    np.testing.assert_array_equal(volume.image_hu[0], through_table(stored(0)))
    assert volume.valid.all()
    assert [w for w in series.warnings if "look-up table" in w and "applied" in w]
    assert [w for w in series.warnings if "negative" in w]
    derived, again = exported(tmp_path, series)
    assert "ModalityLUTSequence" not in derived
    assert (derived.RescaleSlope, derived.RescaleIntercept, derived.RescaleType) == (1, 0, "HU")
    np.testing.assert_array_equal(again.image_hu, volume.image_hu)


def test_padding_is_by_the_value_before_the_table(tmp_path):
    padding = int(stored(0)[3, 4])
    write_tables(tmp_path / "in", PixelPaddingValue=padding)
    series = only_series(tmp_path / "in")
    volume = read_volume(series).volume
    np.testing.assert_array_equal(volume.valid[0], stored(0) != padding)
    assert (~volume.valid).sum() > 0
    _, again = exported(tmp_path, series)
    np.testing.assert_array_equal(again.valid, volume.valid)
    np.testing.assert_array_equal(again.image_hu, volume.image_hu)


def test_a_table_of_signed_pixels_begins_below_zero(tmp_path):
    values = (stored(0).astype(int) - 1000).astype(np.int16)
    item = table(first=FIRST - 1000)
    item.add_new("LUTDescriptor", "US", [len(TABLE), FIRST - 1000 + 2**16, 16])
    for index, one in enumerate((table(first=FIRST - 1000), item)):
        dataset = ct_slice(0, values, **NO_RESCALE, ModalityLUTSequence=[one])
        save(dataset, tmp_path / str(index) / "0.dcm")
        volume = read_volume(only_series(tmp_path / str(index))).volume
        np.testing.assert_array_equal(volume.image_hu[0], through_table(stored(0)))


def test_a_table_of_another_quantity_is_refused(tmp_path):
    write_tables(tmp_path, ModalityLUTSequence=[table("OD")])
    found = find_series(tmp_path, intake=IngestOptions(rescale_type="hu"))
    assert {r.value for r in quarantined(found.refusals)} == {"OD"}
    assert len(found.refusals) == 3


def test_a_table_and_another_rescale_contradict_each_other(tmp_path):
    write_tables(tmp_path, RescaleSlope="1", RescaleIntercept="-1024")
    found = find_series(tmp_path)
    assert {r.attribute for r in found.refusals} == {"RescaleIntercept"}
    assert found.series == []


def test_a_table_beside_a_rescale_that_does_nothing_is_applied(tmp_path):
    write_tables(tmp_path, RescaleSlope="1", RescaleIntercept="0")
    volume = read_volume(only_series(tmp_path)).volume
    np.testing.assert_array_equal(volume.image_hu[0], through_table(stored(0)))


def test_a_table_that_is_cut_short_is_refused_by_its_name(tmp_path):
    item = table()
    item.LUTData = item.LUTData[:-2]
    write_tables(tmp_path, ModalityLUTSequence=[item])
    found = find_series(tmp_path)
    assert {r.attribute for r in found.refusals} == {"ModalityLUTSequence"}


def test_a_voi_lut_changes_no_hu(tmp_path):
    item = Dataset()
    item.add_new("LUTDescriptor", "US", [4, 0, 16])
    item.add_new("LUTData", "OW", np.arange(4, dtype="<u2").tobytes())
    write_series(tmp_path / "in", 3, VOILUTSequence=[item])
    series = only_series(tmp_path / "in")
    image_hu = read_volume(series).volume.image_hu
    np.testing.assert_array_equal(image_hu[0], ramp(0).astype(np.float32) - 1024)
    derived, _ = exported(tmp_path, series)
    assert derived.VOILUTSequence[0].LUTData == item.LUTData


def write_floats(folder, values, keyword="FloatPixelData", **attributes):
    """CT images with floating point pixels, as converters write them."""
    kind = {"FloatPixelData": "<f4", "DoubleFloatPixelData": "<f8"}[keyword]
    for index in range(3):
        integers = ("BitsStored", "HighBit", "PixelRepresentation")
        given = dict.fromkeys((*integers, *NO_RESCALE)) | attributes
        dataset = ct_slice(index, np.zeros(values.shape, np.uint16), **given)
        del dataset.PixelData
        dataset.BitsAllocated = 8 * np.dtype(kind).itemsize
        setattr(dataset, keyword, (values + index).astype(kind).tobytes())
        save(dataset, folder / f"{index}.dcm")


@pytest.mark.parametrize("keyword", ["FloatPixelData", "DoubleFloatPixelData"])
def test_whole_floats_are_exact_and_derived_as_integers(tmp_path, keyword):
    values = ramp(0).astype(np.float64) - 1024
    write_floats(tmp_path / "in", values, keyword)
    series = only_series(tmp_path / "in")
    np.testing.assert_array_equal(read_volume(series).volume.image_hu[1], values + 1)
    assert [w for w in series.warnings if "floating point" in w and "1 HU" in w]
    derived, again = exported(tmp_path, series)
    assert keyword not in derived
    np.testing.assert_array_equal(again.image_hu[1], values + 1)


def test_floats_between_are_rounded_to_the_step_that_is_told(tmp_path):
    values = np.random.default_rng(0).uniform(-1000, 2000, (ROWS, COLUMNS))
    write_floats(tmp_path / "in", values, RescaleSlope="2", RescaleIntercept="-10")
    series = only_series(tmp_path / "in")
    image_hu = read_volume(series).volume.image_hu
    assert np.abs(image_hu[0] - (values * 2 - 10)).max() <= 0.0625 + 1e-3
    assert [w for w in series.warnings if "0.125 HU" in w]
    _, again = exported(tmp_path, series)
    np.testing.assert_array_equal(again.image_hu, image_hu)


def test_floats_that_are_padding_or_no_numbers_are_not_valid(tmp_path):
    values = ramp(0).astype(np.float64) - 1024
    values[0], values[1] = -5000.0, np.nan
    write_floats(tmp_path / "in", values, FloatPixelPaddingValue=-5000.0)
    # The values of the other slices are one and two more: padding by the range's other end.
    for path in (tmp_path / "in").iterdir():
        dataset = pydicom.dcmread(path)
        dataset.FloatPixelPaddingRangeLimit = -4990.0
        dataset.save_as(path)
    series = only_series(tmp_path / "in")
    volume = read_volume(series).volume
    assert not volume.valid[:, :2].any()
    assert volume.valid[:, 2:].all()
    np.testing.assert_array_equal(volume.image_hu[0, 2:], values[2:])
    _, again = exported(tmp_path, series)
    np.testing.assert_array_equal(again.valid, volume.valid)


def test_floats_beyond_any_ct_number_are_refused(tmp_path):
    values = ramp(0).astype(np.float64) - 1024
    values[3, 4] = 1e9
    write_floats(tmp_path, values)
    assert {r.attribute for r in find_series(tmp_path).refusals} == {"FloatPixelData"}


def test_integers_of_32_bits_are_refused_as_before(tmp_path):
    save(ct_slice(0, BitsAllocated=32, BitsStored=32, HighBit=31), tmp_path / "0.dcm")
    (refusal,) = quarantined(find_series(tmp_path).refusals)
    assert refusal.attribute == "BitsAllocated"


@pytest.mark.parametrize("shape", [(1024, 1024), (768, 512), (340, 512), (1, 7), (2048, 3)])
def test_a_matrix_of_any_size_is_exact(tmp_path, shape):
    values = np.random.default_rng(0).integers(0, 3000, (2, *shape)).astype(np.int16)
    for index in range(2):
        save(ct_slice(index, values[index]), tmp_path / "in" / f"{index}.dcm")
    series = only_series(tmp_path / "in")
    np.testing.assert_array_equal(read_volume(series).volume.image_hu, values - 1024.0)
    _, again = exported(tmp_path, series)
    np.testing.assert_array_equal(again.image_hu, values - 1024.0)
