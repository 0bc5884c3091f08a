"""--enhanced: a derived series as one Enhanced CT image, the same in HU and place."""

from __future__ import annotations

from pathlib import Path

import highdicom
import numpy as np
import pydicom
import pytest
import torch
from helpers.dicom import (
    ROOT_UID,
    encoded,
    in_order,
    only_series,
    patch,
    ramp,
    save,
    tag_of,
    write_series,
)
from helpers.enhanced import enhanced_ct, frame_source
from pydicom.dataset import Dataset
from pydicom.uid import EnhancedCTImageStorage
from torch import nn

from pipeline.core.errors import ConfigError, LdctError
from pipeline.dicom.derived import dicom3tools, multi_frame
from pipeline.dicom.derived.check import check_tree
from pipeline.dicom.derived.encode import SYNTAXES, save_image
from pipeline.dicom.read.pixels import read_slice
from pipeline.dicom.read.series import Series
from pipeline.dicom.read.volume import read_volume
from pipeline.export.denoised import export_denoised
from pipeline.export.series import Export, Exported
from pipeline.export.simulated import export_simulated
from pipeline.models.adapters.card import ModelCard
from pipeline.physics.lowdose import LowDoseCT

CARD = ModelCard("redcnn", 2, "0123456789abcdef" * 4, "c", "d", 1)


class Smoothing(nn.Module):
    def forward(self, image_hu: torch.Tensor) -> torch.Tensor:
        return nn.functional.avg_pool2d(image_hu, 3, 1, 1, count_include_pad=False)


def pad(dataset: Dataset, index: int) -> None:
    stored = np.tile(ramp(index), (4, 4))  # JPEG 2000 needs 32 rows and columns
    stored[0, :4] = -2000
    dataset.PixelData = stored.tobytes()
    dataset.Rows, dataset.Columns = stored.shape
    dataset.add_new("PixelPaddingValue", "SS", -2000)
    dataset.WindowCenter, dataset.WindowWidth = str(40 + index), "400"
    dataset.ContentDate, dataset.ContentTime = "20200101", "120000"


@pytest.fixture
def small(tmp_path: Path) -> Series:
    write_series(tmp_path / "source", 3, edit=pad)
    return only_series(tmp_path / "source")


def export(series: Series, folder: Path, **options: object) -> Exported:
    return export_denoised(Smoothing(), CARD, series, Export(folder, **options))


def both(series: Series, tmp_path: Path, syntax: str = "none") -> tuple[Path, Path]:
    """The folders of the classic series and of the enhanced one."""
    for name, enhanced in (("classic", False), ("enhanced", True)):
        export(series, tmp_path / name, syntax=syntax, enhanced=enhanced)
    return tmp_path / "classic", tmp_path / "enhanced"


def assert_same_volume(classic: Path, enhanced: Path) -> None:
    one, other = only_series(classic), only_series(enhanced)
    for first, second in zip(one.instances, other.instances, strict=True):
        ours, theirs = read_slice(second), read_slice(first)
        assert np.array_equal(ours.stored, theirs.stored)
        assert np.array_equal(ours.valid, theirs.valid)
    expected, found = read_volume(one).volume, read_volume(other).volume
    assert np.array_equal(found.image_hu, expected.image_hu)
    assert np.array_equal(found.affine_lps, expected.affine_lps)


@pytest.mark.parametrize("syntax", list(SYNTAXES))
def test_hu_place_and_padding_are_those_of_the_single_images(small, tmp_path, syntax):
    classic, enhanced = both(small, tmp_path, syntax)
    assert [path.name for path in enhanced.iterdir()] == ["CT.dcm"]
    image = pydicom.dcmread(enhanced / "CT.dcm")
    assert image.SOPClassUID == EnhancedCTImageStorage
    assert image.NumberOfFrames == 3
    assert image.file_meta.TransferSyntaxUID == SYNTAXES[syntax]
    assert_same_volume(classic, enhanced)


@pytest.mark.parametrize("name", ["chest-ge-lidc0001", "head-ge-tilted"])
def test_real_slices_are_the_same_and_validators_find_nothing_new(
    tmp_path, test_data, require_program, name
):
    for program in (dicom3tools.IOD_PROGRAM, dicom3tools.ENTITY_PROGRAM):
        require_program(program)
    paths = in_order(test_data / "ct" / name)[10:13]
    (tmp_path / "in").mkdir()
    for path in paths:
        (tmp_path / "in" / path.name).write_bytes(path.read_bytes())
    series = only_series(tmp_path / "in")
    classic, enhanced = both(series, tmp_path)
    assert_same_volume(classic, enhanced)
    (checked,) = check_tree(enhanced, tmp_path / "in")
    assert checked.passed, checked.problems
    assert checked.validation.programs == ("dciodvfy", "dcentvfy")
    assert checked.validation.files == 1


def test_another_reader_finds_the_same_volume(small, tmp_path):
    classic, enhanced = both(small, tmp_path)
    theirs = highdicom.imread(enhanced / "CT.dcm").get_volume()
    found = {place_of(theirs, number): image for number, image in enumerate(theirs.array)}
    series = only_series(classic)
    assert len(found) == len(series.instances)
    for instance in series.instances:
        place = tuple(map(float, instance.header.ImagePositionPatient))
        expected = read_slice(instance).stored - 1024.0
        assert np.array_equal(found[place], expected)


def place_of(volume: highdicom.Volume, number: int) -> tuple[float, ...]:
    (position,) = volume.get_plane_position(number)
    return tuple(round(float(mm), 6) for mm in position.ImagePositionPatient)


def test_each_frame_says_that_it_is_derived_how_and_from_what(small, tmp_path):
    classic, enhanced = both(small, tmp_path)
    image = pydicom.dcmread(enhanced / "CT.dcm")
    single = pydicom.dcmread(classic / "CT.0001.dcm")
    assert list(image.ImageType) == ["DERIVED", "PRIMARY", "VOLUME", "NONE"]
    assert image.SeriesDescription == single.SeriesDescription
    assert image.ContributingEquipmentSequence == single.ContributingEquipmentSequence
    sources = []
    for frame in image.PerFrameFunctionalGroupsSequence:
        (derivation,) = frame.DerivationImageSequence
        assert derivation.DerivationDescription == single.DerivationDescription
        assert derivation.DerivationCodeSequence == single.DerivationCodeSequence
        (source,) = derivation.SourceImageSequence
        assert source.PurposeOfReferenceCodeSequence[0].CodeValue == "121322"
        sources.append(source.ReferencedSOPInstanceUID)
    assert sources == [i.header.SOPInstanceUID for i in small.instances]
    (study,) = image.SourceImageEvidenceSequence
    named = study.ReferencedSeriesSequence[0].ReferencedSOPSequence
    assert [item.ReferencedSOPInstanceUID for item in named] == sources


def test_uids_are_stable_and_not_those_of_the_single_images(small, tmp_path):
    classic, enhanced = both(small, tmp_path)
    export(small, tmp_path / "again", enhanced=True)
    again = (tmp_path / "again" / "CT.dcm").read_bytes()
    assert again == (enhanced / "CT.dcm").read_bytes()
    image = pydicom.dcmread(enhanced / "CT.dcm")
    singles = [pydicom.dcmread(path) for path in classic.iterdir()]
    assert image.SeriesInstanceUID not in {one.SeriesInstanceUID for one in singles}
    assert image.SOPInstanceUID not in {one.SOPInstanceUID for one in singles}
    assert image.SeriesInstanceUID != image.SOPInstanceUID


def test_what_varies_lies_with_its_frame_and_the_rest_once(small, tmp_path):
    export(small, tmp_path / "out", enhanced=True)
    image = pydicom.dcmread(tmp_path / "out" / "CT.dcm")
    frames = image.PerFrameFunctionalGroupsSequence
    centres = [frame.FrameVOILUTSequence[0].WindowCenter for frame in frames]
    assert centres == [i.load(pixels=False).WindowCenter for i in small.instances]
    (shared,) = image.SharedFunctionalGroupsSequence
    assert shared.PixelMeasuresSequence[0].SliceThickness == small.header.SliceThickness
    assert "PlanePositionSequence" not in shared
    assert image.KVP == small.header.KVP
    assert image.ConvolutionKernel == small.header.ConvolutionKernel


def test_frames_are_made_of_frames(tmp_path):
    whole = enhanced_ct([frame_source(index) for index in range(3)])
    whole.ContentDate, whole.ContentTime = "20200101", "120000"
    save(whole, tmp_path / "in" / "enhanced.dcm")
    series = only_series(tmp_path / "in")
    classic, enhanced = both(series, tmp_path)
    assert_same_volume(classic, enhanced)
    (checked,) = check_tree(enhanced, tmp_path / "in")
    assert checked.passed, checked.problems


def test_one_slice_is_one_frame(tmp_path):
    write_series(tmp_path / "source", 1, edit=pad)
    series = only_series(tmp_path / "source")
    export(series, tmp_path / "out", syntax="rle", enhanced=True)
    assert pydicom.dcmread(tmp_path / "out" / "CT.dcm").NumberOfFrames == 1


def damage(image: Dataset, fault: str) -> None:
    frame = image.PerFrameFunctionalGroupsSequence[1]
    if fault == "padding":
        stored = np.frombuffer(image.PixelData, "<i2").copy()
        stored[0] = 5
        image.PixelData = stored.tobytes()
    elif fault == "geometry":
        frame.PlanePositionSequence[0].ImagePositionPatient = ["1", "2", "3"]
    elif fault == "source":
        del frame.DerivationImageSequence[0].SourceImageSequence[0].PurposeOfReferenceCodeSequence
    elif fault == "image-type":
        image.ImageType = ["ORIGINAL", "PRIMARY", "VOLUME", "NONE"]
    elif fault == "frame-of-reference":
        image.FrameOfReferenceUID = "2.25.1"
    elif fault == "file-meta":
        image.file_meta.MediaStorageSOPInstanceUID = "1.2.3"


@pytest.mark.parametrize(
    ("fault", "rule"),
    [
        ("padding", "padding"),
        ("geometry", "geometry"),
        ("frame-of-reference", "geometry"),
        ("source", "source"),
        ("image-type", "image-type"),
        ("file-meta", "file-meta"),
    ],
)
def test_the_check_of_a_folder_finds_what_is_wrong_with_a_frame(small, tmp_path, fault, rule):
    export(small, tmp_path / "out", enhanced=True)
    (checked,) = check_tree(tmp_path / "out", tmp_path / "source")
    assert checked.passed, checked.problems
    path = tmp_path / "out" / "CT.dcm"
    image = pydicom.dcmread(path)
    damage(image, fault)
    image.save_as(path)
    (checked,) = check_tree(tmp_path / "out", tmp_path / "source")
    assert rule in {problem.rule for problem in checked.problems}


def test_what_the_source_lacks_is_told_where_it_is_filled(tmp_path):
    def bare(dataset: Dataset, index: int) -> None:
        pad(dataset, index)
        for name in ("WindowCenter", "WindowWidth", "RescaleType", "ManufacturerModelName"):
            if name in dataset:
                del dataset[name]

    write_series(tmp_path / "source", 3, edit=bare)
    report, *_ = export(only_series(tmp_path / "source"), tmp_path / "out", enhanced=True)
    assert report is not None
    told = " ".join(report.details["warnings"])
    assert "ManufacturerModelName" in told
    assert "40/400 HU" in told


def test_what_one_object_cannot_hold_is_refused_by_name(tmp_path):
    def aged(dataset: Dataset, index: int) -> None:
        pad(dataset, index)
        dataset.PatientAge = f"03{index}Y"

    write_series(tmp_path / "source", 3, edit=aged)
    with pytest.raises(LdctError, match=r"PatientAge differs.*leave out --enhanced"):
        export(only_series(tmp_path / "source"), tmp_path / "out", enhanced=True)
    assert not (tmp_path / "out").exists()


def test_slices_with_a_frame_of_reference_each_have_the_first_and_it_is_told(tmp_path):
    def apart(dataset: Dataset, index: int) -> None:
        pad(dataset, index)
        dataset.FrameOfReferenceUID = f"{ROOT_UID}.9.{index + 1}"

    write_series(tmp_path / "source", 3, edit=apart)
    series = only_series(tmp_path / "source")
    report, *_ = export(series, tmp_path / "out", enhanced=True)
    assert report is not None
    assert "3 values of FrameOfReferenceUID" in " ".join(report.details["warnings"])
    image = pydicom.dcmread(tmp_path / "out" / "CT.dcm")
    assert image.FrameOfReferenceUID == series.header.FrameOfReferenceUID


def test_other_bits_than_12_of_16_become_16_of_16(tmp_path):
    def narrow(dataset: Dataset, index: int) -> None:
        pad(dataset, index)
        dataset.BitsStored, dataset.HighBit = 14, 13

    write_series(tmp_path / "source", 3, edit=narrow)
    classic, enhanced = both(only_series(tmp_path / "source"), tmp_path)
    image = pydicom.dcmread(enhanced / "CT.dcm")
    assert (image.BitsAllocated, image.BitsStored, image.HighBit) == (16, 16, 15)
    assert_same_volume(classic, enhanced)


def test_a_value_that_another_slice_brought_is_no_new_finding(tmp_path, require_program):
    require_program(dicom3tools.IOD_PROGRAM)
    paths = write_series(tmp_path / "source", 3, edit=pad)
    position = encoded(paths[1])[tag_of("ImagePositionPatient")][1].strip() + b"0" * 14
    assert b"." in position.split(b"\\")[2]  # a decimal string of more than 16 characters
    patch(paths[1], "ImagePositionPatient", position + b" " * (len(position) % 2))
    classic, enhanced = both(only_series(tmp_path / "source"), tmp_path)
    assert_same_volume(classic, enhanced)


def test_a_file_that_reads_back_otherwise_is_not_left(small, tmp_path, monkeypatch):
    def save_other(image: Dataset, stored: np.ndarray, path: Path, *, syntax: str) -> None:
        save_image(image, stored + (stored == stored[1, 20, 20]), path, syntax=syntax)

    monkeypatch.setattr(multi_frame, "save_image", save_other)
    with pytest.raises(LdctError, match="read back with other values"):
        export(small, tmp_path / "out", enhanced=True)
    assert not (tmp_path / "out").exists()


def test_a_simulated_series_too(small, tmp_path):
    physics = LowDoseCT(dose_fraction=0.25, photons_per_ray=1e5)
    for name, enhanced in (("classic", False), ("enhanced", True)):
        export_simulated(physics, small, Export(tmp_path / name, enhanced=enhanced), seed=1)
    assert_same_volume(tmp_path / "classic", tmp_path / "enhanced")


def test_a_difference_is_refused_beside_it(tmp_path):
    with pytest.raises(ConfigError, match="--enhanced with --difference"):
        Export(tmp_path, difference=True, enhanced=True)
