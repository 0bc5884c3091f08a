"""Multi-frame CT reads as its single frames, voxel for voxel and place for place."""

from __future__ import annotations

import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from helpers.dicom import (
    COLUMNS,
    ROOT_UID,
    ROWS,
    STEP_MM,
    ct_slice,
    encoded,
    in_order,
    only_series,
    patch,
    ramp,
    save,
    tag_of,
)
from helpers.enhanced import GROUPS, UID, enhanced_ct, frame_source, item
from highdicom.legacy import LegacyConvertedEnhancedCTImage
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate, encapsulate_extended, get_frame
from pydicom.uid import (
    CTImageStorage,
    EnhancedCTImageStorage,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    LegacyConvertedEnhancedCTImageStorage,
    RLELossless,
)

from pipeline.core.refusals import Unreadable
from pipeline.dicom.read import enhanced
from pipeline.dicom.read.enhanced import (
    frame_headers,
    is_multi_frame_ct,
    load_frame,
    single_frame,
    source_reference,
)
from pipeline.dicom.read.files import read_dataset
from pipeline.dicom.read.series import find_series
from pipeline.dicom.read.volume import read_volume

WRITTEN_ONCE = ("PatientID", "PatientName", "StudyInstanceUID", "SeriesInstanceUID", "Modality")
Edit = Callable[[Dataset], Any]


def groups_of(whole: Dataset, group: str) -> Dataset:
    """The first frame's item of a group, wherever it lies."""
    shared = whole.SharedFunctionalGroupsSequence[0]
    holder = shared if group in shared else whole.PerFrameFunctionalGroupsSequence[0]
    return holder[group].value[0]


def frames_of(path: Path) -> list[Dataset]:
    """All frames, loaded one after the other; their headers agree with those read without."""
    headers = frame_headers(pydicom.dcmread(path, stop_before_pixels=True))
    images = [load_frame(path, frame) for frame in range(len(headers))]
    for header, image in zip(headers, images, strict=True):
        assert [element for element in image if element.keyword != "PixelData"] == list(header)
    return images


def assert_same(image: Dataset, single: Dataset, *, apart_from: tuple[str, ...] = ()) -> None:
    """Every public attribute of the single-frame image, and its pixels, are in the frame."""
    np.testing.assert_array_equal(image.pixel_array, single.pixel_array)
    for element in single:
        if element.tag.is_private or element.keyword in (
            "PixelData",
            "SOPInstanceUID",
            *apart_from,
        ):
            continue
        assert element.keyword in image, element.keyword
        assert image[element.keyword].value == element.value, element.keyword


@pytest.mark.filterwarnings("ignore:The string")  # a name of one part
@pytest.mark.parametrize("name", ["chest-ge-lidc0001", "abdomen-ge-crlm1004", "head-ge-tilted"])
def test_a_legacy_converted_file_reads_as_the_series_it_was_made_from(tmp_path, test_data, name):
    singles = [pydicom.dcmread(path) for path in in_order(test_data / "ct" / name)]
    for single in singles:
        single.FrameOfReferenceUID = f"{ROOT_UID}.4"  # the chest's differ, which it refuses
    converted = LegacyConvertedEnhancedCTImage(
        singles, series_instance_uid=UID, series_number=9, sop_instance_uid=UID, instance_number=1
    )
    converted.save_as(tmp_path / "legacy.dcm")
    images = frames_of(tmp_path / "legacy.dcm")
    assert len(images) == len(singles)
    images.sort(key=lambda image: float(image.ImagePositionPatient[2]))
    for image, single in zip(images, singles, strict=True):
        image.PixelPaddingValue %= 65536  # the converter mends its sign
        single.PixelPaddingValue %= 65536
        # What it leaves out, codes, or gives a series of its own.
        lost = ("AcquisitionDate", "AcquisitionTime", "BodyPartExamined", "SeriesDescription")
        own = ("SeriesInstanceUID", "SeriesNumber", "ImageType")
        assert_same(image, single, apart_from=lost + own)
        assert image.ImageType == single.ImageType[:3]


@pytest.mark.parametrize(
    "syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian, ExplicitVRBigEndian]
)
def test_an_enhanced_file_reads_as_single_frames(tmp_path, syntax):
    singles = [frame_source(index) for index in range(4)]
    images = frames_of(save(enhanced_ct(singles), tmp_path / "e.dcm", syntax))
    for index, image in enumerate(images):
        if syntax != ExplicitVRBigEndian:
            save(singles[index], tmp_path / "s.dcm", syntax)
            assert_same(image, pydicom.dcmread(tmp_path / "s.dcm"))
        np.testing.assert_array_equal(image.pixel_array, ramp(index))
        assert image.SOPClassUID == CTImageStorage
        assert "NumberOfFrames" not in image
        assert not [e.keyword for e in image if "FunctionalGroups" in e.keyword]
        save_as = tmp_path / f"{index}.dcm"
        image.save_as(save_as, enforce_file_format=True)
        np.testing.assert_array_equal(pydicom.dcmread(save_as).pixel_array, ramp(index))


def test_the_bytes_of_the_file_are_kept_and_its_overlays_left_out(tmp_path):
    whole = enhanced_ct([frame_source(0)], AccessionNumber="12345678")
    whole.add_new(0x60000015, "IS", "1")  # Number of Frames in Overlay
    path = save(whole, tmp_path / "e.dcm")
    patch(path, "AccessionNumber", b" 7\0\0\0\0")
    load_frame(path, 0).save_as(tmp_path / "s.dcm", enforce_file_format=True)
    before, after = encoded(path), encoded(tmp_path / "s.dcm")
    assert after[tag_of("AccessionNumber")] == ("SH", b" 7\0\0\0\0")
    for name in ("PatientName", "PatientID", "StudyInstanceUID", "StudyDate", "BitsStored"):
        assert after[tag_of(name)] == before[tag_of(name)]
    assert not [tag for tag in after if tag >> 16 == 0x6000]


def test_text_keeps_its_character_set(tmp_path):
    for character_set in ("ISO_IR 192", "ISO_IR 100", "ISO_IR 144"):
        name = "Петрова^Анна" if character_set == "ISO_IR 144" else "Müller^Gräfin"
        whole = enhanced_ct([frame_source(0)], SpecificCharacterSet=character_set, PatientName=name)
        (image,) = frames_of(save(whole, tmp_path / "e.dcm"))
        assert image.PatientName == name
        image.save_as(tmp_path / "s.dcm", enforce_file_format=True)
        assert pydicom.dcmread(tmp_path / "s.dcm").PatientName == name


@pytest.mark.parametrize("group", GROUPS)
def test_a_group_reads_the_same_shared_and_per_frame(tmp_path, group):
    # What a frame says of itself differs from its neighbours', so that none can be mistaken.
    other = {
        "PixelSpacing": ["0.6", "0.5"],
        "RescaleSlope": "0.5",
        "RescaleIntercept": "-900",
        "ImageOrientationPatient": ["0", "1", "0", "0", "0", "-1"],
        "WindowCenter": "-600",
        "ConvolutionKernel": "LUNG",
        "KVP": "80",
        "SpiralPitchFactor": 1.375,
        "StackID": "2",
    }
    own = {name: value for name, value in other.items() if name in GROUPS[group]}
    singles = [frame_source(0), frame_source(1, **own), frame_source(2)]
    path = save(enhanced_ct(singles, per_frame=(group,)), tmp_path / "e.dcm")
    for image, single in zip(frames_of(path), singles, strict=True):
        assert_same(image, single)
    if group not in ("PlanePositionSequence", "FrameContentSequence"):
        path = save(enhanced_ct([frame_source(i, **own) for i in range(2)]), tmp_path / "s.dcm")
        for index, image in enumerate(frames_of(path)):
            assert_same(image, frame_source(index, **own))


@pytest.mark.parametrize("syntax", [RLELossless, JPEG2000Lossless])
@pytest.mark.parametrize("table", ["basic", "none", "extended", "fragmented"])
def test_compressed_frames_are_the_same_and_stay_compressed(tmp_path, syntax, table):
    stored = [np.tile(ramp(index), (3, 4)) for index in range(5)]
    sources = [frame_source(index, stored=stored[index]) for index in range(5)]
    whole = enhanced_ct(sources, Rows=3 * ROWS, Columns=4 * COLUMNS)
    save(whole, tmp_path / "native.dcm")
    whole = pydicom.dcmread(tmp_path / "native.dcm")
    whole.compress(syntax, generate_instance_uid=False)
    codes = [get_frame(whole.PixelData, index, number_of_frames=5) for index in range(5)]
    if table == "extended":
        found = encapsulate_extended(codes)
        whole.PixelData, whole.ExtendedOffsetTable, whole.ExtendedOffsetTableLengths = found
    else:
        fragments = 2 if table == "fragmented" else 1
        whole.PixelData = encapsulate(codes, fragments, has_bot=table != "none")
    whole.save_as(tmp_path / "e.dcm")
    for index, image in enumerate(frames_of(tmp_path / "e.dcm")):
        assert image.file_meta.TransferSyntaxUID == syntax
        assert get_frame(image.PixelData, 0).rstrip(b"\0") == codes[index].rstrip(b"\0")
        assert "ExtendedOffsetTable" not in image
        np.testing.assert_array_equal(image.pixel_array, stored[index])


def test_an_odd_number_of_bytes_a_frame_is_cut_right():
    sources = [ct_slice(i, ramp(i).astype(np.uint8), BitsAllocated=8) for i in range(3)]
    for index, source in enumerate(sources):
        source.PixelData = bytes([index]) * 15
        source.update(item(frame_source(index), tuple(n for g in GROUPS.values() for n in g)))
    whole = enhanced_ct(sources, Rows=3, Columns=5, BitsAllocated=8)
    whole.file_meta = frame_source(0).file_meta
    for index in range(3):
        assert single_frame(whole, index).PixelData == bytes([index]) * 15 + b"\0"


def test_every_frame_is_an_object_of_its_own_that_knows_where_it_is_from(tmp_path):
    path = save(enhanced_ct([frame_source(index) for index in range(3)]), tmp_path / "e.dcm")
    images, again = frames_of(path), frames_of(path)
    assert [image.SOPInstanceUID for image in images] == [i.SOPInstanceUID for i in again]
    uids = {image.SOPInstanceUID for image in images}
    assert len(uids | {UID}) == 4
    assert all(uid.startswith("2.25.") and len(uid) <= 64 for uid in uids)
    assert [image.InstanceNumber for image in images] == [1, 2, 3]
    for frame, image in enumerate(images):
        reference = source_reference(image, frame)
        assert reference.ReferencedSOPClassUID == EnhancedCTImageStorage
        assert reference.ReferencedSOPInstanceUID == UID
        assert reference.ReferencedFrameNumber == frame + 1


def test_what_is_done_to_one_frame_is_done_to_no_other(tmp_path):
    sources = [frame_source(index) for index in range(2)]
    whole = enhanced_ct(sources)
    plan = item(sources[0], ("StudyID",))
    whole.SharedFunctionalGroupsSequence[0].ReferencedImageSequence = [plan]
    path = save(whole, tmp_path / "e.dcm")
    spoiled = load_frame(path, 0)
    spoiled.PatientName = spoiled.ConvolutionKernel = "SPOILED"
    spoiled.ReferencedImageSequence[0].StudyID = "SPOILED"
    assert "SPOILED" not in str(load_frame(path, 0)) + str(load_frame(path, 1))
    first, second = frame_headers(pydicom.dcmread(path))
    first.PatientName = first.ConvolutionKernel = "SPOILED"
    assert "SPOILED" not in str(second)


@pytest.mark.parametrize("packed", [True, False])
def test_a_series_of_frames_is_found_read_and_placed_like_one_of_files(tmp_path, packed):
    singles = [frame_source(index) for index in (2, 0, 3, 1)]
    for index, single in enumerate(singles):
        save(single, tmp_path / "files" / f"{index}.dcm")
    path = save(enhanced_ct(singles), tmp_path / "frames" / "e.dcm")
    if packed:
        whole = pydicom.dcmread(path)
        whole.compress(RLELossless, generate_instance_uid=False)
        whole.save_as(path)
    files, frames = (
        read_volume(only_series(tmp_path / kind)).volume for kind in ("files", "frames")
    )
    np.testing.assert_array_equal(frames.image_hu, files.image_hu)
    np.testing.assert_array_equal(frames.valid, files.valid)
    np.testing.assert_array_equal(frames.affine_lps, files.affine_lps)
    np.testing.assert_array_equal(frames.slice_origins_mm, files.slice_origins_mm)


def test_a_single_frame_file_is_its_own_source_even_if_it_was_converted_once():
    single = ct_slice(2)
    single.ConversionSourceAttributesSequence = [Dataset()]
    reference = source_reference(single, None)
    assert reference.ReferencedSOPClassUID == CTImageStorage
    assert reference.ReferencedSOPInstanceUID == single.SOPInstanceUID
    assert "ReferencedFrameNumber" not in reference


def test_stacks_and_times_can_be_distinguished(tmp_path):
    singles = [
        frame_source(
            index,
            ImagePositionPatient=["0", "0", f"{index % 3 * STEP_MM}"],
            StackID=str(1 + index // 6),
            InStackPositionNumber=index % 3 + 1,
            TemporalPositionIndex=1 + index // 3 % 2,
        )
        for index in range(12)
    ]
    headers = frame_headers(save_and_read(enhanced_ct(singles), tmp_path))
    places = [
        (h.StackID, h.TemporalPositionIndex, h.InStackPositionNumber, h.ImagePositionPatient[2])
        for h in headers
    ]
    assert places == [
        (stack, time, place, STEP_MM * (place - 1))
        for stack in ("1", "2")
        for time in (1, 2)
        for place in (1, 2, 3)
    ]
    # Two stacks both have a first slice: only the frame's own number is unique.
    assert [h.InstanceNumber for h in headers] == list(range(1, 13))


def save_and_read(whole: Dataset, folder: Path) -> Dataset:
    return pydicom.dcmread(save(whole, folder / "e.dcm"), stop_before_pixels=True)


def test_parts_of_a_concatenation_read_as_files_of_one_series(tmp_path):
    found = []
    for part, frames in enumerate([range(3), range(3, 5)]):
        whole = enhanced_ct(
            [frame_source(index) for index in frames],
            SOPInstanceUID=f"{UID}.{part}",
            ConcatenationUID=f"{UID}.9",
            InConcatenationNumber=part + 1,
            ConcatenationFrameOffsetNumber=frames[0],
        )
        path = save(whole, tmp_path / f"{part}.dcm")
        found += [load_frame(path, frame) for frame in range(len(frames))]
    for index, image in enumerate(found):
        assert_same(image, frame_source(index))
        assert image.InstanceNumber == index + 1
        assert "ConcatenationUID" not in image
        reference = source_reference(image, 0)
        assert reference.ReferencedSOPInstanceUID == f"{UID}.{index // 3}"
        assert reference.ReferencedFrameNumber == index % 3 + 1
    assert len({image.SOPInstanceUID for image in found}) == 5


def test_exposure_comes_in_the_units_of_a_single_frame(tmp_path):
    whole = enhanced_ct([frame_source(0)])
    exposure = Dataset()
    exposure.XRayTubeCurrentInmA, exposure.ExposureTimeInms = 249.6, 500.0
    exposure.ExposureInmAs, exposure.CTDIvol = 124.8, 8.25
    content = groups_of(whole, "FrameContentSequence")
    content.FrameAcquisitionNumber, content.FrameAcquisitionDateTime = 3, "20200102030405"
    whole.SharedFunctionalGroupsSequence[0].CTExposureSequence = [exposure]
    (image,) = frames_of(save(whole, tmp_path / "e.dcm"))
    assert (image.XRayTubeCurrent, image.ExposureTime, image.Exposure) == (250, 500, 125)
    assert {image[name].VR for name in ("XRayTubeCurrent", "ExposureTime", "Exposure")} == {"IS"}
    assert (image.ExposureInmAs, image.CTDIvol) == (124.8, 8.25)
    assert (image.AcquisitionNumber, image.AcquisitionDateTime) == (3, "20200102030405")


@pytest.mark.parametrize(
    ("frame_type", "image_type"),
    [
        (["ORIGINAL", "PRIMARY", "AXIAL", "NONE"], ["ORIGINAL", "PRIMARY", "AXIAL"]),
        (["ORIGINAL", "PRIMARY", "VOLUME", "NONE"], ["ORIGINAL", "PRIMARY", "AXIAL", "VOLUME"]),
        (["ORIGINAL", "PRIMARY", "LOCALIZER", "NONE"], ["ORIGINAL", "PRIMARY", "LOCALIZER"]),
        (
            ["DERIVED", "PRIMARY", "VOLUME", "MAXIMUM"],
            ["DERIVED", "PRIMARY", "AXIAL", "VOLUME", "MAXIMUM"],
        ),
    ],
)
def test_the_frame_type_becomes_an_image_type(tmp_path, frame_type, image_type):
    whole = enhanced_ct([frame_source(0)], ImageType=["MIXED", "PRIMARY", "AXIAL", "NONE"])
    group = Dataset()
    group.FrameType = frame_type
    whole.PerFrameFunctionalGroupsSequence[0].CTImageFrameTypeSequence = [group]
    assert frame_headers(save_and_read(whole, tmp_path))[0].ImageType == image_type


def test_of_two_tubes_only_what_they_share_is_stated(tmp_path):
    whole = enhanced_ct([frame_source(0)])
    tubes = [Dataset(), Dataset()]
    for tube, voltage in zip(tubes, ("80", "140"), strict=True):
        tube.KVP, tube.FilterType = voltage, "BODY"
    whole.SharedFunctionalGroupsSequence[0].CTXRayDetailsSequence = tubes
    (header,) = frame_headers(save_and_read(whole, tmp_path))
    assert header.KVP is None
    assert header.FilterType == "BODY"


def test_a_group_cannot_rename_the_patient_nor_recode_the_pixels(tmp_path):
    whole = enhanced_ct([frame_source(0)])
    strange = Dataset()
    strange.PatientID, strange.PixelRepresentation, strange.Rows = "ANOTHER", 0, 3
    strange.add_new(0x00190010, "LO", "SOMEONE PRIVATE")
    strange.add_new(0x00191001, "DS", "1.5")
    strange.SliceLocation, strange.ImagePositionPatient = "7.5", ["0", "0", "99"]
    whole.PerFrameFunctionalGroupsSequence[0].UnassignedPerFrameConvertedAttributesSequence = [
        strange
    ]
    (image,) = frames_of(save(whole, tmp_path / "e.dcm"))
    assert_same(image, frame_source(0))
    assert image.SliceLocation == 7.5
    assert not [element for element in image if element.tag.is_private]


def shared_without(group: str) -> Edit:
    return lambda whole: delattr(whole.SharedFunctionalGroupsSequence[0], group)


def emptied(group: str) -> Edit:
    return lambda whole: setattr(whole.SharedFunctionalGroupsSequence[0], group, [])


@pytest.mark.parametrize(
    ("damage", "attribute", "reason"),
    [
        (lambda whole: setattr(whole, "NumberOfFrames", 4), "NumberOfFrames", "3 items"),
        (lambda whole: setattr(whole, "NumberOfFrames", 10**9), "NumberOfFrames", "3 items"),
        (lambda whole: setattr(whole, "NumberOfFrames", -3), "NumberOfFrames", "3 items"),
        (lambda whole: delattr(whole, "NumberOfFrames"), "NumberOfFrames", "3 items"),
        (
            lambda whole: delattr(whole, "PerFrameFunctionalGroupsSequence"),
            "NumberOfFrames",
            "0 items",
        ),
        (
            lambda whole: delattr(whole, "SharedFunctionalGroupsSequence"),
            "PixelMeasuresSequence",
            "has no PixelSpacing",
        ),
        (
            shared_without("PlaneOrientationSequence"),
            "PlaneOrientationSequence",
            "has no ImageOrientationPatient",
        ),
        (
            emptied("PixelValueTransformationSequence"),
            "PixelValueTransformationSequence",
            "has no RescaleSlope",
        ),
        (
            lambda whole: delattr(
                whole.PerFrameFunctionalGroupsSequence[1], "PlanePositionSequence"
            ),
            "PlanePositionSequence",
            "has no ImagePositionPatient",
        ),
    ],
)
def test_a_damaged_header_is_refused_by_name(tmp_path, damage, attribute, reason):
    whole = enhanced_ct([frame_source(index) for index in range(3)])
    damage(whole)
    path = save(whole, tmp_path / "e.dcm")
    header = pydicom.dcmread(path, stop_before_pixels=True)
    tracemalloc.start()
    with pytest.raises(Unreadable, match=reason) as refused:
        frame_headers(header)
    assert tracemalloc.get_traced_memory()[1] < 5e6
    tracemalloc.stop()
    assert refused.value.attribute == attribute
    with pytest.raises(Unreadable, match=reason):
        load_frame(path, 1)


def test_a_file_that_only_its_meta_information_names_keeps_that_name(tmp_path):
    whole = enhanced_ct([frame_source(index) for index in range(3)])
    del whole.SOPInstanceUID
    path = save(whole, tmp_path / "e.dcm")
    stated = pydicom.dcmread(path).file_meta.MediaStorageSOPInstanceUID
    for header in (load_frame(path, 1), find_series(path).series[0].instances[1].header):
        (reference,) = header.ConversionSourceAttributesSequence
        assert reference.ReferencedSOPInstanceUID == stated
    del whole.file_meta.MediaStorageSOPInstanceUID
    whole.preamble = bytes(128)
    whole.save_as(path, enforce_file_format=False)
    (refusal,) = find_series(path).refusals
    assert refusal.attribute == "SOPInstanceUID"


@pytest.mark.parametrize("value", [b"x ", b"3\\3 ", b"1e9 "])
def test_a_number_of_frames_that_is_none_is_refused(tmp_path, value):
    path = save(enhanced_ct([frame_source(index) for index in range(3)]), tmp_path / "e.dcm")
    patch(path, "NumberOfFrames", value)
    for read in (lambda: frame_headers(pydicom.dcmread(path)), lambda: load_frame(path, 0)):
        with pytest.raises(Unreadable, match=r"damaged multi-frame header|3 items in PerFrame"):
            read()


def test_frames_before_the_cut_are_read_and_those_behind_it_refused(tmp_path):
    path = save(enhanced_ct([frame_source(index) for index in range(4)]), tmp_path / "e.dcm")
    path.write_bytes(path.read_bytes()[: -2 * ROWS * COLUMNS - 10])
    for frame in range(2):
        np.testing.assert_array_equal(load_frame(path, frame).pixel_array, ramp(frame))
    for frame in (2, 3):
        with pytest.raises(Unreadable, match=f"frame {frame + 1} is cut short") as refused:
            load_frame(path, frame)
        assert refused.value.attribute == "PixelData"
    with pytest.raises(Unreadable, match="no frame 5"):
        load_frame(path, 4)


@pytest.fixture
def reads(monkeypatch) -> list[Path]:
    """The files read, in their order."""
    found: list[Path] = []

    def counting(path: Path, **options: Any) -> Dataset:
        found.append(path)
        return read_dataset(path, **options)

    monkeypatch.setattr(enhanced, "read_dataset", counting)
    return found


@pytest.mark.filterwarnings("ignore:End of file reached")
def test_compressed_frames_cut_short_are_refused_at_one_read(tmp_path, reads):
    whole = pydicom.dcmread(
        save(enhanced_ct([frame_source(index) for index in range(4)]), tmp_path / "n.dcm")
    )
    whole.compress(RLELossless, generate_instance_uid=False)
    whole.save_as(tmp_path / "e.dcm")
    (tmp_path / "e.dcm").write_bytes((tmp_path / "e.dcm").read_bytes()[:-100])
    for frame in range(4):
        with pytest.raises(Unreadable, match="ends within its pixels") as refused:
            load_frame(tmp_path / "e.dcm", frame)
        assert refused.value.attribute == "PixelData"
    assert len(reads) == 1


def test_a_file_is_read_once_for_all_its_frames_and_anew_when_it_changes(tmp_path, reads):
    paths = [
        save(enhanced_ct([frame_source(start + i) for i in range(3)]), tmp_path / f"{start}.dcm")
        for start in (0, 5)
    ]
    for path, start in zip(paths, (0, 5), strict=True):
        for frame in range(3):
            np.testing.assert_array_equal(load_frame(path, frame).pixel_array, ramp(start + frame))
    assert reads == paths
    save(enhanced_ct([frame_source(9)] * 3), paths[1])
    np.testing.assert_array_equal(load_frame(paths[1], 0).pixel_array, ramp(9))


def test_a_file_in_an_archive_is_read_in_place(tmp_path, reads):
    save(enhanced_ct([frame_source(index) for index in range(3)]), tmp_path / "e.dcm")
    with zipfile.ZipFile(tmp_path / "study.zip", "w") as archive:
        archive.write(tmp_path / "e.dcm", "series/e.dcm")
    member = tmp_path / "study.zip" / "series" / "e.dcm"
    for frame in range(3):
        np.testing.assert_array_equal(load_frame(member, frame).pixel_array, ramp(frame))
    assert reads == [member]


def test_only_ct_with_frames_is_multi_frame_ct():
    assert is_multi_frame_ct(EnhancedCTImageStorage)
    assert is_multi_frame_ct(LegacyConvertedEnhancedCTImageStorage)
    assert not is_multi_frame_ct(CTImageStorage)
    assert not is_multi_frame_ct("1.2.840.10008.5.1.4.1.1.4.1")  # Enhanced MR


def test_a_photometric_interpretation_in_lower_case_is_decoded(tmp_path):
    whole = enhanced_ct([frame_source(index) for index in range(3)])
    whole.PhotometricInterpretation = "monochrome2"
    save(whole, tmp_path / "e.dcm")
    reading = read_volume(only_series(tmp_path))
    np.testing.assert_array_equal(reading.volume.image_hu[2], ramp(2) - 1024)
