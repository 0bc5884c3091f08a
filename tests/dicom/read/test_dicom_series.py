"""Finding series: nothing lost, nothing stacked that does not belong together."""

from __future__ import annotations

import random
import re
import shutil
from pathlib import Path

import numpy as np
import pydicom
import pytest
from helpers.dicom import (
    ROOT_UID,
    STEP_MM,
    ct_slice,
    identifying,
    in_order,
    only_series,
    patch,
    quarantined,
    save,
    write_series,
)
from pydicom.fileset import FileSet
from pydicom.uid import (
    EnhancedSRStorage,
    GrayscaleSoftcopyPresentationStateStorage,
    MRImageStorage,
    SecondaryCaptureImageStorage,
    XRayRadiationDoseSRStorage,
)

from pipeline.core.errors import NothingUsableError
from pipeline.core.refusals import Disposition
from pipeline.dicom.read.series import Series, find_series

REQUIRED = (
    "StudyInstanceUID",
    "SeriesInstanceUID",
    "SOPInstanceUID",
    "Rows",
    "Columns",
    "PixelSpacing",
    "ImagePositionPatient",
    "ImageOrientationPatient",
    "RescaleSlope",
    "RescaleIntercept",
    "BitsAllocated",
    "BitsStored",
    "PixelRepresentation",
)


def names(series: Series) -> list[str]:
    return [str(instance.header.SOPInstanceUID) for instance in series.instances]


def headers_of(source: Path, folder: Path, edit) -> list[Path]:
    """Copies of a real series without its pixels."""
    folder.mkdir()
    paths = []
    for path in in_order(source):
        dataset = pydicom.dcmread(path, stop_before_pixels=True)
        edit(dataset)
        paths.append(folder / path.name)
        dataset.save_as(paths[-1])
    return paths


def warning(series: Series, word: str) -> str:
    found = [text for text in series.warnings if word in text]
    assert len(found) == 1, series.warnings
    return found[0]


def test_slices_come_in_order_of_position_whatever_their_files_and_numbers(tmp_path):
    generator = random.Random(3)
    positions = generator.sample(range(9), 9)
    for number, position in enumerate(positions):
        # The instance numbers and slice locations contradict the positions on purpose.
        dataset = ct_slice(position, InstanceNumber=9 - number, SliceLocation=str(-position))
        folder = tmp_path / ("." if number % 3 else "deep/er")
        save(dataset, folder / f"{generator.random():.9f}")
    series = only_series(tmp_path)
    assert names(series) == [f"{ROOT_UID}.3.{index + 1}" for index in range(9)]
    places = [instance.position_mm for instance in series.instances]
    np.testing.assert_allclose(places, np.arange(9) * STEP_MM)
    assert series.warnings == ()
    assert series.evenly_spaced


def test_a_coronal_series_is_ordered_along_its_own_normal(tmp_path):
    def coronal(dataset, index):
        dataset.ImageOrientationPatient = [1, 0, 0, 0, 0, -1]
        dataset.ImagePositionPatient = [0, 3.0 * index, 50 - index]

    write_series(tmp_path, 4, edit=coronal)
    series = only_series(tmp_path)
    y = [instance.origin_mm[1] for instance in series.instances]
    normal = np.cross([1, 0, 0], [0, 0, -1])
    np.testing.assert_allclose([i.position_mm for i in series.instances], np.sort(y * normal[1]))


def test_what_is_no_ct_image_is_excluded_with_its_reason(tmp_path):
    write_series(tmp_path / "ct")
    save(ct_slice(8, ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"]), tmp_path / "scout.dcm")
    save(ct_slice(9, SOPClassUID=MRImageStorage), tmp_path / "mr.dcm")
    (tmp_path / "README.md").write_text("not an image")
    (tmp_path / ".DS_Store").write_text("a desktop's, not the user's")
    found = find_series(tmp_path)
    assert [len(series.instances) for series in found.series] == [4]
    refusals = {refusal.path.name: refusal for refusal in found.refusals}
    assert set(refusals) == {"scout.dcm", "mr.dcm", "README.md", ".DS_Store"}
    assert {refusal.disposition for refusal in found.refusals} == {Disposition.EXCLUDED}
    assert refusals["scout.dcm"].attribute == "ImageType"
    assert "localizer" in refusals["scout.dcm"].reason
    assert "MR Image Storage" in refusals["mr.dcm"].reason
    assert refusals["mr.dcm"].value == MRImageStorage
    assert "not a DICOM file" in refusals["README.md"].reason
    assert "hidden" in refusals[".DS_Store"].reason


@pytest.mark.parametrize(
    ("attributes", "reason"),
    [
        ({"SOPClassUID": SecondaryCaptureImageStorage}, "Secondary Capture"),
        ({"SOPClassUID": EnhancedSRStorage}, "Enhanced SR"),
        ({"SOPClassUID": XRayRadiationDoseSRStorage}, "Radiation Dose SR"),
        ({"SOPClassUID": GrayscaleSoftcopyPresentationStateStorage}, "Presentation State"),
        ({"ImageType": ["DERIVED", "SECONDARY", "SCREEN SAVE"]}, "a screen shot"),
        ({"ImageType": ["ORIGINAL", "SECONDARY", "DOSE_INFO"]}, "a dose page"),
    ],
)
def test_reports_states_and_pages_are_excluded_by_name(tmp_path, attributes, reason):
    write_series(tmp_path / "ct")
    save(ct_slice(9, **attributes), tmp_path / "page.dcm")
    found = find_series(tmp_path)
    assert [len(series.instances) for series in found.series] == [4]
    (refusal,) = found.refusals
    assert refusal.disposition is Disposition.EXCLUDED
    assert reason in refusal.reason


@pytest.mark.parametrize("name", ["ÄB 12", "名前^太郎", "Иванов"])
def test_identifiers_in_other_scripts_are_read_as_they_are(tmp_path, name):
    write_series(tmp_path, 2, PatientID=name)
    assert name == only_series(tmp_path).header.PatientID


def test_the_dicomdir_of_a_disc_is_no_fault(tmp_path):
    files = FileSet()
    for index in range(3):
        paths = write_series(tmp_path / "source", 3, StudyTime="120000")
        files.add(paths[index])
    files.write(tmp_path / "disc")
    found = find_series(tmp_path / "disc")
    assert [len(series.instances) for series in found.series] == [3]
    assert {(r.path.name, r.disposition) for r in found.refusals} == {
        ("DICOMDIR", Disposition.EXCLUDED)
    }


def test_damaged_files_are_quarantined_and_the_rest_goes_on(tmp_path):
    paths = write_series(tmp_path, 4)
    whole = paths[0].read_bytes()
    (tmp_path / "empty.dcm").touch()
    (tmp_path / "text.dcm").write_text("I am no image")
    (tmp_path / "half a header").write_bytes(whole[:700])
    found = find_series(tmp_path)
    assert [len(series.instances) for series in found.series] == [4]
    assert {refusal.path.name for refusal in quarantined(found.refusals)} == {
        "empty.dcm",
        "text.dcm",
        "half a header",
    }
    assert all(refusal.reason for refusal in found.refusals)


@pytest.mark.filterwarnings("ignore::UserWarning")  # pydicom's, of values cut in two
def test_a_header_cut_anywhere_is_quarantined(tmp_path):
    whole = save(ct_slice(0), tmp_path / "whole.dcm").read_bytes()
    pixels = whole.index(b"OW\0\0")
    cut = tmp_path / "cut.dcm"
    accepted = []
    for length in range(0, pixels - 40, 5):
        cut.write_bytes(whole[:length])
        found = find_series(cut)
        if found.series or [refusal.disposition for refusal in found.refusals] != [
            Disposition.QUARANTINED
        ]:
            accepted.append(length)
    # The last attributes before the pixels are the rescale's: a cut behind them shows when the
    # pixels are read.
    assert accepted == []


@pytest.mark.parametrize("name", REQUIRED)
@pytest.mark.parametrize("how", ["absent", "empty"])
def test_a_slice_without_what_it_needs_is_quarantined_by_that_name(tmp_path, name, how):
    paths = write_series(tmp_path, 3)
    dataset = ct_slice(1)
    if how == "absent":
        delattr(dataset, name)
    else:
        setattr(dataset, name, None)
    save(dataset, paths[1])
    # The file meta information would state it too (PS3.10 7.1).
    del dataset.file_meta.MediaStorageSOPInstanceUID
    dataset.preamble = bytes(128)
    dataset.save_as(paths[1], enforce_file_format=False)
    found = find_series(tmp_path)
    assert [len(series.instances) for series in found.series] == [2]
    (refusal,) = found.refusals
    assert (refusal.path, refusal.disposition) == (paths[1], Disposition.QUARANTINED)
    assert refusal.attribute == name
    assert name in refusal.reason
    assert refusal.value == ""


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("PixelSpacing", b"abc\\def "),
        ("PixelSpacing", b"0.8 "),
        ("PixelSpacing", b"0.8\\-0.7"),
        ("PixelSpacing", b"0.8\\0 "),
        ("ImagePositionPatient", b"0\\0 "),
        ("ImagePositionPatient", b"x\\y\\z "),
        ("ImagePositionPatient", b"0\\0\\nan "),
        ("ImageOrientationPatient", b"1\\0\\0\\0\\1 "),
        ("ImageOrientationPatient", b"2\\0\\0\\0\\1\\0 "),
        ("ImageOrientationPatient", b"1\\0\\0\\1\\0\\0 "),
    ],
)
def test_geometry_that_makes_no_sense_is_quarantined_by_name(tmp_path, name, value):
    paths = write_series(tmp_path, 3)
    patch(paths[1], name, value)
    found = find_series(tmp_path)
    assert [len(series.instances) for series in found.series] == [2]
    assert [(r.path, r.attribute) for r in quarantined(found.refusals)] == [(paths[1], name)]


def test_cosines_of_any_angle_may_be_written_with_three_digits(tmp_path):
    """Rounding alone takes them up to 1.7e-3 away from orthogonal unit vectors."""
    rng = np.random.default_rng(0)
    axes = np.linalg.qr(rng.normal(size=(2000, 3, 3)))[0].transpose(0, 2, 1)[:, :2]
    rounded = axes.round(3)
    off = np.abs(rounded @ rounded.transpose(0, 2, 1) - np.eye(2)).max(axis=(1, 2))
    worst = rounded[off.argmax()].ravel()
    assert off.max() > 1.4e-3
    normal = np.cross(*axes[off.argmax()])
    write_series(
        tmp_path,
        3,
        edit=lambda dataset, n: setattr(
            dataset, "ImagePositionPatient", [f"{v:.3f}" for v in STEP_MM * n * normal]
        ),
        ImageOrientationPatient=[f"{value:.3f}" for value in worst],
    )
    assert len(only_series(tmp_path).instances) == 3


@pytest.mark.parametrize("name", ["PatientID", "StudyInstanceUID"])
def test_a_series_uid_of_several_patients_or_studies_is_told(tmp_path, name):
    write_series(tmp_path, 6, edit=lambda dataset, n: setattr(dataset, name, f"1.2.{n % 2 + 3}"))
    found = find_series(tmp_path)
    assert [len(series.instances) for series in found.series] == [3, 3]
    for series in found.series:
        assert any(w.startswith("SeriesInstanceUID is also that of") for w in series.warnings)


def test_axes_five_degrees_off_the_right_angle_are_refused(tmp_path):
    # PS3.3 C.7.6.2.1.1 asks for orthogonal cosines; over 500 mm this skews by 44 mm.
    skewed = [1, 0, 0, 0.087156, 0.996195, 0]
    write_series(tmp_path, 3, ImageOrientationPatient=skewed)
    found = find_series(tmp_path)
    assert {r.attribute for r in quarantined(found.refusals)} == {"ImageOrientationPatient"}
    assert found.series == []


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("ConvolutionKernel", "LUNG"),
        ("KVP", "80"),
        ("ImageOrientationPatient", [1, 0, 0, 0, 0.9483237, -0.3173047]),
        ("StudyInstanceUID", f"{ROOT_UID}.9"),
        ("SeriesInstanceUID", f"{ROOT_UID}.9"),
        ("PatientID", "ANOTHER"),
        ("PixelSpacing", ["0.80", "0.71"]),
    ],
)
def test_what_must_not_be_stacked_is_split(tmp_path, name, value):
    def edit(dataset, index):
        if index % 2:
            setattr(dataset, name, value)
        if name == "SeriesInstanceUID":
            dataset.InstanceNumber = 1 + index // 2  # each series counts for itself

    write_series(tmp_path, 6, edit=edit)
    found = find_series(tmp_path)
    assert found.refusals == []
    uids = sorted(names(series) for series in found.series)
    expected = [[f"{ROOT_UID}.3.{i + 1}" for i in range(first, 6, 2)] for first in (0, 1)]
    assert sorted(map(sorted, uids)) == expected


def test_positions_rounded_by_the_scanner_are_no_uneven_spacing(tmp_path):
    def rounded(dataset, index):
        dataset.ImagePositionPatient = [0, 0, round(index * 0.625, 2)]

    write_series(tmp_path, 12, edit=rounded)
    assert only_series(tmp_path).evenly_spaced


def test_a_slice_displaced_sideways_is_flagged(tmp_path):
    def displaced(dataset, index):
        dataset.ImagePositionPatient = [20.0 if index == 2 else 0.0, 0, index * STEP_MM]

    write_series(tmp_path, 6, edit=displaced)
    series = only_series(tmp_path)
    # No affine can place these slices; whoever stacks them must be told.
    assert series.warnings != ()
    assert not series.evenly_spaced


@pytest.mark.parametrize("tag", ["18.5", "0", None])
def test_tilt_and_spacing_are_measured_whatever_the_tag_says(tmp_path, test_data, tag):
    def edit(dataset):
        if tag is None:
            del dataset.GantryDetectorTilt
        else:
            dataset.GantryDetectorTilt = tag

    headers_of(test_data / "ct" / "head-ge-tilted", tmp_path / "head", edit)
    series = only_series(tmp_path / "head")
    tilt = float(re.search(r"([\d.]+) degrees", warning(series, "tilt"))[1])
    assert tilt == pytest.approx(18.5, abs=0.1)
    # 1.14 to 7.38 mm of table travel are shorter along the tilted normal, by cos 18.5 degrees.
    low, high = re.search(r"([\d.]+) to ([\d.]+) mm", warning(series, "uneven")).groups()
    assert float(low) == pytest.approx(1.14 * np.cos(np.radians(18.5)), abs=0.01)
    assert float(high) == pytest.approx(7.38 * np.cos(np.radians(18.5)), abs=0.01)
    assert not series.evenly_spaced


def test_a_straight_series_has_no_tilt_whatever_the_tag_says(tmp_path):
    write_series(tmp_path, 4, GantryDetectorTilt="12")
    assert only_series(tmp_path).warnings == ()


def test_a_single_slice_is_accepted_with_a_warning(tmp_path):
    path = write_series(tmp_path, 1)[0]
    for root in (tmp_path, path):
        series = only_series(root)
        assert len(series.instances) == 1
        warning(series, "single slice")


def test_derived_and_lossy_sources_are_reported(tmp_path):
    write_series(
        tmp_path, 3, ImageType=["DERIVED", "SECONDARY", "AXIAL"], LossyImageCompression="01"
    )
    series = only_series(tmp_path)
    warning(series, "derived")
    warning(series, "loss")


def test_a_folder_that_is_not_there_is_named(tmp_path):
    with pytest.raises(NothingUsableError, match="nowhere"):
        find_series(tmp_path / "nowhere")


def test_findings_on_made_up_trouble_show_no_identity(tmp_path):
    skewed = write_series(tmp_path / "a", 3)[1]
    patch(skewed, "ImageOrientationPatient", b"2\\0\\0\\0\\1\\0 ")
    write_series(tmp_path / "b", 2, SeriesInstanceUID=f"{ROOT_UID}.8", RescaleSlope=None)
    twice = write_series(tmp_path / "c", 2, SeriesInstanceUID=f"{ROOT_UID}.9")
    shutil.copy(twice[0], tmp_path / "c" / "twice.dcm")
    save(ct_slice(9, SOPClassUID=MRImageStorage), tmp_path / "mr.dcm")
    found = find_series(tmp_path)
    assert len(found.refusals) == 1 + 2 + 1 + 1
    said = " ".join(
        [f"{r.reason} {r.attribute} {r.value}" for r in found.refusals]
        + [text for series in found.series for text in series.warnings]
    )
    assert not [text for text in ("SECRET", "Geheim", "Gisela", ROOT_UID) if text in said]


def test_findings_on_real_series_show_no_identity(test_data):
    found = find_series(test_data)
    said = " ".join(
        [f"{r.reason} {r.attribute} {r.value}" for r in found.refusals]
        + [text for series in found.series for text in series.warnings]
    )
    assert len(said) > 500
    secrets = set()
    for folder in (test_data / "ct").iterdir():
        secrets |= identifying(sorted(folder.iterdir())[0])
    assert len(secrets) > 20
    assert [text for text in secrets if text in said] == []
