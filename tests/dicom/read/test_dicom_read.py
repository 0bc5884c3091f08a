"""From stored values to HU in their place: exact, or refused by name."""

from __future__ import annotations

from importlib.util import find_spec

import numpy as np
import openjpeg
import pydicom
import pytest
from helpers.dicom import (
    COLUMNS,
    KEY,
    ROOT_UID,
    ROWS,
    copy_slices,
    ct_slice,
    in_order,
    only_series,
    patch,
    ramp,
    raw_hu,
    raw_stored,
    save,
    write_series,
)
from pydicom.encaps import get_frame
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
)

from pipeline.core.refusals import SeriesRefusedError
from pipeline.core.volume import Volume
from pipeline.dicom.read.series import find_series
from pipeline.dicom.read.volume import patient_key, read_volume, series_key

AIR_HU = -1000.0


def volume_of(folder) -> Volume:
    reading = read_volume(only_series(folder))
    assert reading.refusals == []
    return reading.volume


def header_mm(dataset, row: int, column: int) -> np.ndarray:
    """Where the header puts a pixel's centre: PS3.3 C.7.6.2.1.1, equation C.7.6.2.1-1."""
    origin = np.array([float(v) for v in dataset.ImagePositionPatient])
    along_row, along_column = np.array([float(v) for v in dataset.ImageOrientationPatient]).reshape(
        2, 3
    )
    between_rows, between_columns = (float(v) for v in dataset.PixelSpacing)
    return origin + along_row * between_columns * column + along_column * between_rows * row


def corners(dataset) -> list[tuple[int, int]]:
    bottom, right = dataset.Rows - 1, dataset.Columns - 1
    return [(0, 0), (0, right), (bottom, 0), (bottom, right)]


def assert_in_place(volume: Volume, headers: list, *, by_affine: bool) -> None:
    """Every slice's corners, and so every voxel between, lie where the header says."""
    assert len(headers) == len(volume.image_hu)
    for index, header in enumerate(headers):
        for row, column in corners(header):
            placed = volume.affine_lps @ [column, row, index, 1]
            if not by_affine:
                placed = volume.affine_lps @ [column, row, 0, 0]
                placed[:3] += volume.slice_origins_mm[index]
            np.testing.assert_allclose(placed[:3], header_mm(header, row, column), atol=0.01)


@pytest.mark.parametrize("name", ["chest-ge-lidc0001", "abdomen-ge-crlm1004", "head-ge-tilted"])
def test_hu_of_real_series_are_exact(test_data, name):
    folder = test_data / "ct" / name
    volume = volume_of(folder)
    assert volume.image_hu.dtype == np.float32
    expected = np.stack([raw_hu(path) for path in in_order(folder)])
    np.testing.assert_array_equal(volume.image_hu[volume.valid], expected[volume.valid])
    assert (volume.image_hu[~volume.valid] == AIR_HU).all()
    # The body is what was measured: nothing above air may be taken for padding.
    assert (expected[~volume.valid] < -1024).all()


@pytest.mark.parametrize("reverse", [False, True])
def test_each_slice_has_its_own_rescale_whichever_file_is_first(tmp_path, reverse):
    # The last one makes whole numbers that float32 cannot hold: they are rounded once.
    rescales = [("1", "-1024"), ("0.5", "-1000"), ("2", "-3000"), ("0.123", "17.25")]
    rescales.append(("20011", "-7"))
    for index, (slope, intercept) in enumerate(rescales):
        dataset = ct_slice(index, RescaleSlope=slope, RescaleIntercept=intercept)
        save(dataset, tmp_path / f"{9 - index if reverse else index}.dcm")
    volume = volume_of(tmp_path)
    for index, (slope, intercept) in enumerate(rescales):
        exact = ramp(index).astype(np.float64) * float(slope) + float(intercept)
        np.testing.assert_array_equal(volume.image_hu[index], exact.astype(np.float32))


def test_signed_and_unsigned_slices_of_one_series_agree(tmp_path):
    hu = np.linspace(-1000, 2000, ROWS * COLUMNS).round().reshape(ROWS, COLUMNS)
    coded = [
        ct_slice(0, stored=hu.astype(np.int16), RescaleIntercept="0"),
        ct_slice(1, stored=(hu + 1024).astype(np.uint16)),
        # 64536 in signed data, to a reader that takes the sign from another slice.
        ct_slice(2, stored=(hu + 33000).astype(np.uint16), RescaleIntercept="-33000"),
    ]
    for order in ([0, 1, 2], [2, 1, 0]):
        folder = tmp_path / str(order[0])
        for number in order:
            save(coded[number], folder / f"{order.index(number)}.dcm")
        np.testing.assert_array_equal(volume_of(folder).image_hu, np.stack([hu] * 3))


def test_twelve_signed_bits_in_sixteen_keep_their_sign(tmp_path):
    values = np.linspace(-1000, 2000, ROWS * COLUMNS).round().reshape(ROWS, COLUMNS)
    bits = (values.astype(np.int64) & 0xFFF).astype(np.uint16)
    save(
        ct_slice(0, bits, PixelRepresentation=1, BitsStored=12, HighBit=11, RescaleIntercept="0"),
        tmp_path / "0.dcm",
    )
    np.testing.assert_array_equal(volume_of(tmp_path).image_hu[0], values)


def test_a_line_drawn_in_an_unused_bit_is_no_padding(tmp_path):
    """An overlay in the pixels (PS3.3 C.9.2, until 2004): over one value, it looked like a fill."""
    values = ramp()
    values[0] = 24  # air, along the line
    source = ct_slice(0, values.astype(np.uint16) | np.uint16(1 << 15) * (values == 24))
    source.BitsStored, source.HighBit = 12, 11
    source.add_new(0x60000100, "US", 16)
    source.add_new(0x60000102, "US", 15)
    save(source, tmp_path / "0.dcm")
    reading = read_volume(only_series(tmp_path))
    assert reading.volume.valid.all()
    np.testing.assert_array_equal(reading.volume.image_hu[0], values - 1024)
    assert any("beyond BitsStored" in warning for warning in reading.series.warnings)


def test_a_single_negative_value_without_its_sign_is_no_padding(tmp_path):
    """Twelve signed bits, and zeros above them: the one value of air looked like a fill."""
    values = np.where(ramp() > 500, ramp(), -1000)
    cells = (values.astype(np.int64) & 0xFFF).astype(np.uint16)
    coded = {"PixelRepresentation": 1, "BitsStored": 12, "HighBit": 11, "RescaleIntercept": "0"}
    save(ct_slice(0, cells, **coded), tmp_path / "0.dcm")
    volume = volume_of(tmp_path)
    assert volume.valid.all()
    np.testing.assert_array_equal(volume.image_hu[0], values)


@pytest.mark.parametrize(
    "syntax", [ImplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian]
)
def test_uncompressed_transfer_syntaxes_read_the_same(tmp_path, syntax):
    for index in range(3):
        save(ct_slice(index), tmp_path / f"{index}.dcm", syntax)
    expected = np.stack([ramp(index) - 1024 for index in range(3)])
    np.testing.assert_array_equal(volume_of(tmp_path).image_hu, expected)


def test_lossless_jpeg_2000_gives_the_values_that_went_in(tmp_path, test_data):
    originals = in_order(test_data / "ct" / "abdomen-ge-crlm1004")[20:22]

    def compress(dataset, index):
        dataset.compress(JPEG2000Lossless, generate_instance_uid=False)

    copy_slices(originals, tmp_path, compress)
    volume = volume_of(tmp_path)
    expected = np.stack([raw_hu(path) for path in originals])
    np.testing.assert_array_equal(volume.image_hu[volume.valid], expected[volume.valid])
    assert volume.valid.mean() > 0.78


def test_siemens_jpeg_2000_series_decodes_once_it_has_its_uids(tmp_path, test_data):
    originals = in_order(test_data / "ct" / "torso-siemens")

    def name(dataset, index):
        dataset.PatientID = "torso"
        dataset.StudyInstanceUID, dataset.SeriesInstanceUID = f"{ROOT_UID}.1", f"{ROOT_UID}.2"
        dataset.SOPClassUID = "1.2.840.10008.5.1.4.1.1.2"
        dataset.SOPInstanceUID = f"{ROOT_UID}.3.{index}"

    copy_slices(originals, tmp_path, name)
    volume = volume_of(tmp_path)
    expected = []
    for path in originals:
        dataset = pydicom.dcmread(path)
        stored = openjpeg.decode(get_frame(dataset.PixelData, 0, number_of_frames=1))
        expected.append(stored * float(dataset.RescaleSlope) + float(dataset.RescaleIntercept))
    np.testing.assert_array_equal(volume.image_hu, np.stack(expected))
    assert volume.valid.all()
    np.testing.assert_allclose(volume.spacing_mm[0], 2.0)


def test_every_lossless_transfer_syntax_reads_the_same_and_the_rest_is_named(test_data):
    folder = test_data / "edge" / "transfer-syntaxes"
    expected = raw_hu(next(folder.glob("*_LittleEndianExplicit*")))
    measured = expected >= -1024  # the file declares its padding as -32768
    exact, undecodable = 0, set()
    for path in sorted(folder.iterdir()):
        series = find_series(path).series[0]
        try:
            volume = read_volume(series).volume
        except SeriesRefusedError:
            undecodable.add(path.name.split("TransferSyntax_")[1].removesuffix(".dcm"))
            continue
        if any(word in path.name for word in ("Lossless", "Endian", "Deflated", "Process14")):
            np.testing.assert_array_equal(volume.valid[0], measured)
            np.testing.assert_array_equal(volume.image_hu[0][measured], expected[measured])
            exact += 1
    assert exact == 9
    # JPEG processes 6/8 and 10/12 are retired; of 2/4 with 12 bits and loss the only decoder is
    # under the GPL: who installs it by himself has it.
    lossy = set() if find_spec("libjpeg") else {"1.2.840.10008.1.2.4.51"}
    assert undecodable == {"1.2.840.10008.1.2.4.53", "1.2.840.10008.1.2.4.55", *lossy}


@pytest.mark.parametrize("declared", [-2000, 63536])
def test_declared_padding_is_masked_in_the_pixels_own_sign(tmp_path, declared):
    stored = ramp()
    stored[0, :3] = -2000
    dataset = ct_slice(0, stored)
    # GE writes 63536 as US into signed data; it means the bit pattern of -2000.
    dataset.add_new("PixelPaddingValue", "US" if declared > 0 else "SS", declared)
    save(dataset, tmp_path / "0.dcm")
    volume = volume_of(tmp_path)
    np.testing.assert_array_equal(volume.valid[0], stored != -2000)
    assert (volume.image_hu[0, 0, :3] == AIR_HU).all()
    np.testing.assert_array_equal(volume.image_hu[0, 1:], stored[1:] - 1024.0)


def test_padding_declared_with_a_sign_in_unsigned_data_is_masked_too(tmp_path):
    stored = ramp().astype(np.uint16)
    stored[0, :3] = 63536
    dataset = ct_slice(0, stored)
    dataset.add_new("PixelPaddingValue", "SS", -2000)
    save(dataset, tmp_path / "0.dcm")
    np.testing.assert_array_equal(volume_of(tmp_path).valid[0], stored != 63536)


def test_undeclared_padding_of_a_real_series_is_masked(test_data):
    folder = test_data / "ct" / "abdomen-ge-crlm1006"
    paths = in_order(folder)
    assert "PixelPaddingValue" not in pydicom.dcmread(paths[0], stop_before_pixels=True)
    volume = volume_of(folder)
    stored = np.stack([raw_stored(path) for path in paths])
    np.testing.assert_array_equal(volume.valid, stored != -2000)
    assert 0.1 < 1 - volume.valid.mean() < 0.25
    assert volume.image_hu.min() >= -1024


def test_padding_outside_the_circle_of_the_chest_is_masked_in_every_slice(test_data):
    volume = volume_of(test_data / "ct" / "chest-ge-lidc0001")
    y, x = np.ogrid[:512, :512]
    radius = np.hypot(x - 255.5, y - 255.5)
    assert not volume.valid[:, radius > 258].any()
    assert volume.valid[:, radius < 254].all()


def test_streaks_darker_than_air_in_the_body_are_no_padding(tmp_path):
    stored = ramp()
    stored[8, 5:7] = -500  # -1524 HU, as beside metal
    save(ct_slice(0, stored), tmp_path / "air around" / "0.dcm")
    stored[[0, 0, -1, -1], [0, -1, 0, -1]] = -2000
    save(ct_slice(0, stored), tmp_path / "padding around" / "0.dcm")
    for name, invalid in (("air around", 0), ("padding around", 4)):
        volume = volume_of(tmp_path / name)
        assert (~volume.valid).sum() == invalid
        assert volume.image_hu[0, 8, 5] == -1524


def test_dark_corners_that_differ_are_no_padding(tmp_path):
    stored = ramp()
    stored[[0, 0, -1, -1], [0, -1, 0, -1]] = [-30, -31, -32, -33]
    save(ct_slice(0, stored), tmp_path / "0.dcm")
    volume = volume_of(tmp_path)
    assert volume.valid.all()
    assert volume.image_hu[0, 0, 0] == -1054


def test_the_affine_places_every_voxel_of_the_chest(test_data):
    folder = test_data / "ct" / "chest-ge-lidc0001"
    headers = [pydicom.dcmread(path, stop_before_pixels=True) for path in in_order(folder)]
    volume = volume_of(folder)
    assert_in_place(volume, headers, by_affine=True)
    assert_in_place(volume, headers, by_affine=False)
    np.testing.assert_allclose(volume.spacing_mm, (2.5, 0.703125, 0.703125))


def test_the_origins_place_every_voxel_of_the_tilted_uneven_head(test_data):
    folder = test_data / "ct" / "head-ge-tilted"
    headers = [pydicom.dcmread(path, stop_before_pixels=True) for path in in_order(folder)]
    assert_in_place(volume_of(folder), headers, by_affine=False)


def test_the_affine_is_sheared_for_an_even_tilted_series(tmp_path):
    tilt = np.radians(18.5)

    def tilted(dataset, index):
        down = [0, round(np.cos(tilt), 7), round(-np.sin(tilt), 7)]
        dataset.ImageOrientationPatient = [1, 0, 0, *down]
        dataset.ImagePositionPatient = [-10, -20, 4.0 * index]  # the table moves along z

    paths = write_series(tmp_path, 5, edit=tilted)
    volume = volume_of(tmp_path)
    headers = [pydicom.dcmread(path) for path in paths]
    if volume.slice_origins_mm[0, 2] > 0:
        headers.reverse()
    assert_in_place(volume, headers, by_affine=True)
    np.testing.assert_allclose(volume.spacing_mm[0], 4 * np.cos(tilt), atol=1e-4)


@pytest.mark.parametrize(
    ("orientation", "step"),
    [
        ([1, 0, 0, 0, 0, -1], [0, 3, 0]),
        ([1, 0, 0, 0, 0, -1], [0, -3, 0]),
        ([0, 1, 0, 0, 0, -1], [3, 0, 0]),
        ([-1, 0, 0, 0, -1, 0], [0, 0, -3]),
        ([0.8, 0.6, 0, -0.6, 0.8, 0], [0, 0, 3]),
    ],
    ids=["coronal", "coronal backwards", "sagittal", "prone", "oblique"],
)
def test_the_affine_holds_for_any_orientation_and_oblong_pixels(tmp_path, orientation, step):
    def place(dataset, index):
        dataset.ImageOrientationPatient = orientation
        dataset.ImagePositionPatient = [
            5.0 + index * step[0],
            -6 + index * step[1],
            index * step[2],
        ]
        dataset.PixelSpacing = [0.9, 0.4]

    write_series(tmp_path, 4, edit=place)
    series = only_series(tmp_path)
    volume = volume_of(tmp_path)
    headers = [pydicom.dcmread(instance.path) for instance in series.instances]
    assert_in_place(volume, headers, by_affine=True)
    np.testing.assert_allclose(volume.spacing_mm, (3, 0.9, 0.4))
    # The picture travels with the place: each slice's own ramp is at its own origin.
    for index, header in enumerate(headers):
        np.testing.assert_array_equal(
            volume.image_hu[index], ramp(header.InstanceNumber - 1) - 1024.0
        )


def test_an_even_series_lies_within_a_hundredth_of_a_millimetre_of_its_affine(tmp_path):
    # Steps of 2.500 and then 2.535 mm: too alike to call uneven one by one, but they add up.
    def drifting(dataset, index):
        dataset.ImagePositionPatient = [0, 0, 2.5 * index + 0.035 * max(0, index - 20)]

    paths = write_series(tmp_path, 40, edit=drifting)
    series = only_series(tmp_path)
    if series.evenly_spaced:
        headers = [pydicom.dcmread(path, stop_before_pixels=True) for path in paths]
        assert_in_place(volume_of(tmp_path), headers, by_affine=True)


def test_a_single_slice_is_placed_with_its_thickness(tmp_path):
    (path,) = write_series(tmp_path, 1)
    volume = volume_of(tmp_path)
    assert_in_place(volume, [pydicom.dcmread(path)], by_affine=True)
    np.testing.assert_allclose(volume.spacing_mm, (2.5, 0.8, 0.7))


def test_a_slice_cut_short_is_refused_and_the_series_checked_again(tmp_path):
    paths = write_series(tmp_path, 6)
    paths[2].write_bytes(paths[2].read_bytes()[:-100])
    found = find_series(tmp_path)
    assert found.series[0].evenly_spaced
    reading = read_volume(found.series[0])
    assert [(r.path, r.attribute) for r in reading.refusals] == [(paths[2], "PixelData")]
    kept = [0, 1, 3, 4, 5]
    expected = np.stack([ramp(index) - 1024.0 for index in kept])
    np.testing.assert_array_equal(reading.volume.image_hu, expected)
    np.testing.assert_allclose(reading.volume.slice_origins_mm[:, 2], [2.5 * i for i in kept])
    assert [i.path for i in reading.series.instances] == [paths[i] for i in kept]
    assert not reading.series.evenly_spaced
    assert any("uneven" in text for text in reading.series.warnings)
    assert any("uneven" in text for text in reading.volume.provenance["warnings"])


@pytest.mark.parametrize(
    ("name", "value"), [("RescaleSlope", b"0 "), ("RescaleSlope", b"x "), ("Rows", b"\xff\0")]
)
def test_a_slice_without_sound_values_is_refused_and_named(tmp_path, name, value):
    paths = write_series(tmp_path, 3)
    patch(paths[0], name, value)
    found = find_series(tmp_path)
    readings = [read_volume(s) for s in found.series if len(s.instances) > 1]
    kept = [instance.path for reading in readings for instance in reading.series.instances]
    assert kept == paths[1:]


def test_a_series_without_one_sound_slice_is_refused_with_the_cause_of_each(tmp_path):
    paths = write_series(tmp_path, 2)
    for path in paths:
        path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(SeriesRefusedError, match="the file ends before its pixels do") as error:
        read_volume(find_series(tmp_path).series[0])
    assert [(r.path, r.attribute) for r in error.value.refusals] == [
        (path, "PixelData") for path in paths
    ]


def test_provenance_shows_the_scan_and_not_the_patient(tmp_path):
    write_series(tmp_path, 2, Manufacturer="Maker", ProtocolName="Chest of Geheim")
    provenance = volume_of(tmp_path).provenance
    assert provenance["Manufacturer"] == "Maker"
    assert provenance["KVP"] == 120
    text = repr(provenance)
    assert not [s for s in ("SECRET", "Geheim", "1952", "1999", ROOT_UID) if s in text]


def test_keys_follow_patient_and_series_not_files(tmp_path):
    write_series(tmp_path / "a", 3)
    write_series(tmp_path / "b", 2)
    write_series(tmp_path / "c", 3, SeriesInstanceUID=f"{ROOT_UID}.9")
    write_series(tmp_path / "d", 3, IssuerOfPatientID="another hospital")
    a, b, c, d = (only_series(tmp_path / name) for name in "abcd")
    assert patient_key(a, KEY) == patient_key(b, KEY) == patient_key(c, KEY)
    assert patient_key(d, KEY) != patient_key(a, KEY)
    assert series_key(a, KEY) == series_key(b, KEY)
    assert series_key(c, KEY) != series_key(a, KEY)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("StudyInstanceUID", f"{ROOT_UID}.9"),
        ("PatientID", "ANOTHER"),
        ("ConvolutionKernel", "LUNG"),
        ("KVP", "80"),
    ],
)
def test_series_that_are_kept_apart_have_keys_that_differ(tmp_path, name, value):
    def edit(dataset, index):
        if index % 2:
            setattr(dataset, name, value)

    write_series(tmp_path, 4, edit=edit)
    keys = {series_key(series, KEY) for series in find_series(tmp_path).series}
    assert len(keys) == 2
