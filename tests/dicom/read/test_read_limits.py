"""Each limit and each check of reading, on both of its sides."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
from helpers.dicom import ct_slice, only_series, quarantined, ramp, save, write_series
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate, get_frame
from pydicom.uid import ExplicitVRLittleEndian, JPEG2000Lossless

import pipeline.dicom.read.files
from pipeline.core.refusals import Refusal, SeriesRefusedError, Unreadable
from pipeline.dicom.read.codestream import require_matching_size
from pipeline.dicom.read.fast_header import HEAD_BYTES, scan
from pipeline.dicom.read.header_tags import HEADER_TAGS
from pipeline.dicom.read.series import find_series
from pipeline.dicom.read.volume import read_volume


def at_positions(folder: Path, positions_mm: list[list[float]], numbers: list[int]) -> None:
    """A series with its slices at these positions, with these instance numbers."""

    def edit(dataset: Dataset, index: int) -> None:
        dataset.ImagePositionPatient = [f"{value:.6g}" for value in positions_mm[index]]
        dataset.InstanceNumber = numbers[index]

    write_series(folder, len(numbers), edit=edit)


def along_z(folder: Path, z_mm: list[float], numbers: list[int] | None = None) -> None:
    positions = [[0.0, 0.0, z] for z in z_mm]
    at_positions(folder, positions, numbers or list(range(1, len(z_mm) + 1)))


def warnings_of(folder: Path) -> str:
    return "; ".join(only_series(folder).warnings)


def refusal_of(folder: Path) -> Refusal:
    """The refusal of the only file, by its header or by its pixels."""
    found = find_series(folder)
    if found.series:
        with pytest.raises(SeriesRefusedError) as error:
            read_volume(found.series[0])
        return error.value.refusals[0]
    (refusal,) = quarantined(found.refusals)
    return refusal


@pytest.mark.parametrize(("off_mm", "even"), [(0.005, True), (0.05, False)])
def test_a_slice_off_an_even_grid_makes_a_series_uneven(tmp_path, off_mm, even):
    along_z(tmp_path, [0, 2.5, 5 + off_mm, 7.5, 10])
    assert only_series(tmp_path).evenly_spaced is even
    assert ("uneven spacing" in warnings_of(tmp_path)) is not even


@pytest.mark.parametrize(("apart_mm", "slices"), [(0.005, 4), (0.05, 5), (0.2, 5)])
def test_slices_at_one_place_are_copies_and_others_are_not(tmp_path, apart_mm, slices):
    write_series(tmp_path, 4)
    copy = ct_slice(2, SOPInstanceUID="1.2.3", InstanceNumber=5)
    copy.ImagePositionPatient = ["-10.5", "-20.25", f"{5 + apart_mm:.3f}"]
    save(copy, tmp_path / "copy.dcm")
    (series,) = find_series(tmp_path).series
    assert len(series.instances) == slices


@pytest.mark.parametrize(("gap", "refused"), [(2.0, True), (2.01, True), (2.1, False)])
def test_a_gap_is_a_missing_slice_only_if_it_is_a_whole_number_of_steps(tmp_path, gap, refused):
    along_z(tmp_path, [0, 2.5, 5, 5 + gap * 2.5, 7.5 + gap * 2.5], [1, 2, 3, 5, 6])
    found = find_series(tmp_path)
    assert (found.series == []) is refused
    if not refused:
        assert not found.series[0].evenly_spaced


@pytest.mark.parametrize(("degrees", "reported"), [(0.05, False), (0.5, True), (1.5, True)])
def test_a_tilt_is_reported_from_a_tenth_of_a_degree_on(tmp_path, degrees, reported):
    shift = 2.5 * np.tan(np.radians(degrees))
    at_positions(tmp_path, [[0, shift * n, 2.5 * n] for n in range(9)], list(range(1, 10)))
    assert (f"gantry tilt of {degrees:.1f} degrees" in warnings_of(tmp_path)) is reported


@pytest.mark.parametrize(("skew", "refused"), [(0.0005, False), (0.01, True)])
def test_axes_are_orthogonal_to_a_thousandth(tmp_path, skew, refused):
    write_series(tmp_path, 3, ImageOrientationPatient=[1, 0, 0, skew, np.sqrt(1 - skew**2), 0])
    found = find_series(tmp_path)
    assert (found.series == []) is refused
    if refused:
        assert {r.attribute for r in found.refusals} == {"ImageOrientationPatient"}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("ImageOrientationPatient", [1, 0, 0, 0, 0.99995, 0.01]),
        ("ImageType", ["ORIGINAL", "PRIMARY", "VOLUME"]),
    ],
)
def test_slices_that_differ_a_little_are_other_volumes(tmp_path, name, value):
    def edit(dataset, index):
        if index % 2:
            setattr(dataset, name, value)

    write_series(tmp_path, 6, edit=edit)
    assert [len(series.instances) for series in find_series(tmp_path).series] == [3, 3]


def test_padding_may_be_a_range_of_values(tmp_path):
    stored = ramp()
    stored[0, :4] = [-2000, -1990, -1980, -1979]
    dataset = ct_slice(0, stored)
    dataset.add_new("PixelPaddingValue", "SS", -2000)
    dataset.add_new("PixelPaddingRangeLimit", "SS", -1980)
    save(dataset, tmp_path / "0.dcm")
    valid = read_volume(only_series(tmp_path)).volume.valid[0]
    assert valid[0, :4].tolist() == [False, False, False, True]
    assert valid[1:].all()


def test_values_in_the_upper_bits_are_moved_down(tmp_path):
    stored = ramp().astype(np.uint16)
    save(ct_slice(0, stored << 4, BitsStored=12, HighBit=15), tmp_path / "0.dcm")
    image_hu = read_volume(only_series(tmp_path)).volume.image_hu[0]
    np.testing.assert_array_equal(image_hu, stored - 1024.0)


@pytest.mark.parametrize(("bits", "high_bit"), [(12, 10), (12, 16), (16, 14)])
def test_a_high_bit_that_cannot_be_is_refused(tmp_path, bits, high_bit):
    stored = ramp().astype(np.uint16)
    save(ct_slice(0, stored, BitsStored=bits, HighBit=high_bit), tmp_path / "0.dcm")
    assert refusal_of(tmp_path).attribute == "HighBit"


def test_a_blank_frame_is_refused(tmp_path):
    save(ct_slice(0, np.full_like(ramp(), 1024)), tmp_path / "0.dcm")
    assert "blank frame" in refusal_of(tmp_path).reason


def test_pixels_of_another_length_than_the_header_says_are_refused(tmp_path):
    dataset = ct_slice(0)
    dataset.PixelData = dataset.PixelData[:-40]
    save(dataset, tmp_path / "0.dcm")
    refusal = refusal_of(tmp_path)
    assert refusal.attribute == "PixelData"
    assert "pixels cannot be decoded" in refusal.reason


def test_the_slice_axis_of_a_single_slice_is_its_normal(tmp_path):
    write_series(tmp_path, 1)
    affine = read_volume(only_series(tmp_path)).volume.affine_lps
    np.testing.assert_allclose(affine[:3, 2], [0, 0, 2.5])


@pytest.mark.parametrize(
    ("attributes", "name"),
    [
        ({"BitsAllocated": 12, "BitsStored": 12, "HighBit": 11}, "BitsAllocated"),
        ({"Modality": "MR"}, "Modality"),
        ({"SamplesPerPixel": 3}, "SamplesPerPixel"),
        ({"Rows": 8193}, "Rows"),
        ({"Columns": 8193}, "Columns"),
        ({"BitsStored": 17}, "BitsStored"),
        ({"PixelRepresentation": 2}, "PixelRepresentation"),
        ({"RescaleType": "US"}, "RescaleType"),
        ({"ModalityLUTSequence": [Dataset()]}, "ModalityLUTSequence"),
    ],
)
def test_what_is_no_ct_in_hu_is_refused_by_the_attribute(tmp_path, attributes, name):
    save(ct_slice(0, **attributes), tmp_path / "0.dcm")
    (refusal,) = quarantined(find_series(tmp_path).refusals)
    assert refusal.attribute == name


def test_a_copy_with_other_padding_is_no_copy(tmp_path):
    """Air that was measured and padding are the same in HU, and not the same thing."""
    measured = ramp()
    measured[0, :3] = 24  # -1000 HU
    padded = measured.copy()
    padded[0, :3] = -2000
    save(ct_slice(0, measured), tmp_path / "0.dcm")
    other = ct_slice(0, padded, SOPInstanceUID="1.2.3")
    other.add_new("PixelPaddingValue", "SS", -2000)
    save(other, tmp_path / "1.dcm")
    found = find_series(tmp_path)
    assert found.series == []
    assert {r.attribute for r in found.refusals} == {"ImagePositionPatient"}


def test_a_file_beyond_the_size_of_any_slice_is_not_read(tmp_path, monkeypatch):
    path = save(ct_slice(0), tmp_path / "0.dcm")
    size = path.stat().st_size
    monkeypatch.setattr(pipeline.dicom.read.files, "MAX_FILE_BYTES", size)
    assert pipeline.dicom.read.files.read_dataset(path).PatientID
    monkeypatch.setattr(pipeline.dicom.read.files, "MAX_FILE_BYTES", size - 1)
    with pytest.raises(Unreadable, match=f"a file of {size} bytes"):
        pipeline.dicom.read.files.read_dataset(path)


def compressed() -> Dataset:
    """A slice of 64 x 48 as lossless JPEG 2000."""
    dataset = ct_slice(0, np.arange(64 * 48, dtype=np.int16).reshape(64, 48))
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.compress(JPEG2000Lossless, encoding_plugin="pylibjpeg", generate_instance_uid=False)
    return dataset


@pytest.mark.parametrize(("name", "value"), [("Rows", 32), ("Columns", 64)])
def test_a_stream_of_another_size_than_its_header_is_refused(name, value):
    dataset = compressed()
    require_matching_size(dataset)
    setattr(dataset, name, value)
    with pytest.raises(Unreadable, match="the compressed stream has 64 x 48, the header"):
        require_matching_size(dataset)


def test_the_size_of_a_stream_is_less_its_offset():
    """ISO/IEC 15444-1 A.5.1: Xsiz and Ysiz are counted from the origin of the reference grid."""
    dataset = compressed()
    frame = bytearray(get_frame(dataset.PixelData, 0, number_of_frames=1))
    at = frame.index(b"\xff\x51") + 6
    columns, rows, x_offset, y_offset = struct.unpack_from(">LLLL", frame, at)
    struct.pack_into(">LLLL", frame, at, columns + 8, rows + 4, x_offset + 8, y_offset + 4)
    dataset.PixelData = encapsulate([bytes(frame)])
    require_matching_size(dataset)


def test_a_header_out_of_order_is_left_to_pydicom(tmp_path):
    path = save(ct_slice(0), tmp_path / "0.dcm")
    content = path.read_bytes()
    assert scan(content[:HEAD_BYTES], HEADER_TAGS) is not None
    rows, columns = (content.index(struct.pack("<HH", 0x28, tag) + b"US") for tag in (0x10, 0x11))
    assert columns == rows + 10
    swapped = content[:rows] + content[columns : columns + 10] + content[rows:columns]
    path.write_bytes(swapped + content[columns + 10 :])
    assert scan(path.read_bytes()[:HEAD_BYTES], HEADER_TAGS) is None
    header = only_series(tmp_path).header
    assert (header.Rows, header.Columns) == ramp().shape
