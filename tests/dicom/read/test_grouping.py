"""What may be stacked is compared by tolerance: no border exists where a tiny difference splits."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from helpers.dicom import (
    KEY,
    ROOT_UID,
    STEP_MM,
    Edit,
    ct_slice,
    only_series,
    ramp,
    save,
    write_series,
)
from pydicom.dataset import Dataset

from pipeline.dicom.read import grouping
from pipeline.dicom.read import series as series_module
from pipeline.dicom.read.alike import clusters, same_texts, same_values
from pipeline.dicom.read.series import Series, find_series
from pipeline.dicom.read.volume import read_volume, series_key

#: Of a plain series, and of two kernels in one, as versions before tolerances made them.
PLAIN_KEY = "s-e885bced4a79"
KERNEL_KEYS = {"LUNG": "s-0174ae807c22", "STANDARD": "s-fd6a28ef5f70"}


def rotated(degrees: float) -> list[str]:
    """ImageOrientationPatient of a slice turned about the patient's long axis."""
    cosine, sine = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    return [f"{value:.9f}" for value in (cosine, sine, 0, -sine, cosine, 0)]


def alternating(name: str, *values: object) -> Edit:
    """Gives slices the values in turn."""

    def edit(dataset: Dataset, index: int) -> None:
        setattr(dataset, name, values[index % len(values)])

    return edit


def parts(folder: Path) -> dict[str, Series]:
    """The volumes of a folder in which nothing is refused, by name."""
    found = find_series(folder)
    assert found.refusals == []
    return {series.part: series for series in found.series}


def test_the_key_of_a_series_is_that_of_earlier_versions(tmp_path):
    write_series(tmp_path / "plain", 4)
    assert series_key(only_series(tmp_path / "plain"), KEY) == PLAIN_KEY
    write_series(tmp_path / "two", 6, edit=alternating("ConvolutionKernel", "LUNG", "STANDARD"))
    found = parts(tmp_path / "two")
    assert {name: series_key(series, KEY) for name, series in found.items()} == {
        f"ConvolutionKernel {name}": key for name, key in KERNEL_KEYS.items()
    }


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("ImageOrientationPatient", (rotated(1.812061), rotated(1.811695))),  # .9995 -+ 1e-7
        ("ImageOrientationPatient", (rotated(17.0), rotated(17.0 + 5e-8))),
        ("KVP", ("120", "120.0", "120.00", "1.2e2")),
        ("PixelSpacing", (["0.703149", "0.703149"], ["0.703151", "0.703151"])),
        ("ConvolutionKernel", ("STANDARD", "Standard ", "standard")),
        ("ImageType", (["ORIGINAL", "PRIMARY", "AXIAL"], ["Original", "PRIMARY ", "AXIAL", "X"])),
        ("SliceThickness", ("2.5", "2.50", "2.500")),
    ],
)
def test_one_value_written_in_several_ways_is_one_volume(tmp_path, name, values):
    write_series(tmp_path, 8, edit=alternating(name, *values))
    series = only_series(tmp_path)
    assert len(series.instances) == 8
    assert series.evenly_spaced
    assert series.part == ""
    np.testing.assert_allclose(read_volume(series).volume.affine_lps[2, 2], STEP_MM)


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("ImageOrientationPatient", (rotated(0), rotated(1))),
        ("KVP", ("120", "140")),
        ("PixelSpacing", (["0.7031", "0.7031"], ["0.7041", "0.7041"])),
        ("ConvolutionKernel", ("Br40", "Br44")),
    ],
)
def test_other_values_are_other_volumes(tmp_path, name, values):
    write_series(tmp_path, 8, edit=alternating(name, *values))
    found = parts(tmp_path)
    assert [len(series.instances) for series in found.values()] == [4, 4]
    assert "" not in found


@pytest.mark.parametrize("unsaid", [None, ""])
@pytest.mark.parametrize("name", ["KVP", "ConvolutionKernel"])
def test_what_some_slices_leave_unsaid_does_not_cut_a_series_in_two(tmp_path, name, unsaid):
    values = {"KVP": "120", "ConvolutionKernel": "Br40"}
    write_series(tmp_path, 8, edit=alternating(name, values[name], unsaid))
    series = only_series(tmp_path)
    assert (len(series.instances), series.evenly_spaced, series.part) == (8, True, "")
    assert series.warnings == (f"{name} is missing in some slices: taken to be the others'",)
    np.testing.assert_allclose(read_volume(series).volume.affine_lps[2, 2], STEP_MM)


def test_what_is_unsaid_at_the_same_places_is_another_reconstruction(tmp_path):
    for number, kernel in enumerate(("Br40", None)):
        for index in range(4):
            uid = f"{ROOT_UID}.{number}.{index}"
            stored = ramp(index) + number
            dataset = ct_slice(index, stored, ConvolutionKernel=kernel, SOPInstanceUID=uid)
            save(dataset, tmp_path / f"{number}-{index}.dcm")
    found = parts(tmp_path)
    assert set(found) == {"ConvolutionKernel Br40", "ConvolutionKernel none"}
    assert [len(series.instances) for series in found.values()] == [4, 4]


@pytest.mark.parametrize("where", ["grouping._groups", "series.parts_of", "series.checked"])
def test_what_nobody_foresaw_in_one_series_ends_no_others(tmp_path, monkeypatch, where):
    write_series(tmp_path / "good", 4)
    uids = {"SeriesInstanceUID": f"{ROOT_UID}.9", "PatientID": "ODD"}
    for index in range(4):
        dataset = ct_slice(index, SOPInstanceUID=f"{ROOT_UID}.9.{index}", **uids)
        save(dataset, tmp_path / "odd" / f"{index}.dcm")
    module, name = where.split(".")
    module = {"grouping": grouping, "series": series_module}[module]
    real = getattr(module, name)

    def failing(members, *args, **kwargs):
        instances = [getattr(member, "instance", member) for member in members]
        if instances[0].header.PatientID == "ODD":
            raise TypeError("Geheim")
        return real(members, *args, **kwargs)

    monkeypatch.setattr(module, name, failing)
    found = find_series(tmp_path)
    assert [len(series.instances) for series in found.series] == [4]
    assert {refusal.reason for refusal in found.refusals} == {"could not be processed (TypeError)"}
    names = sorted(str(refusal.path.relative_to(tmp_path)) for refusal in found.refusals)
    assert names == [f"odd/{index}.dcm" for index in range(4)]


@pytest.mark.parametrize("seed", range(12))
def test_shuffled_slices_with_tiny_differences_are_one_volume_with_its_spacing(tmp_path, seed):
    """Any angle, spacing and step, whose values differ in their last digits from slice to slice."""
    rng = np.random.default_rng(seed)
    degrees, spacing_mm = rng.uniform(0, 30), rng.uniform(0.3, 1.2)
    step_mm, first_mm = rng.uniform(0.5, 5), rng.uniform(-900, 900)
    numbers = rng.permutation(9)

    def edit(dataset: Dataset, index: int) -> None:
        noise = rng.uniform(-1, 1, 4)
        dataset.ImageOrientationPatient = rotated(degrees + 2e-6 * noise[0])
        dataset.PixelSpacing = [f"{spacing_mm + 2e-6 * noise[1]:.8f}"] * 2
        dataset.KVP = rng.choice(["120", "120.0", "120.00"])
        place_mm = first_mm + step_mm * numbers[index] + 1e-4 * noise[2]
        dataset.ImagePositionPatient = ["-10.5", "-20.25", f"{place_mm:.6f}"]
        dataset.InstanceNumber = int(numbers[index]) + 1

    write_series(tmp_path, 9, edit=edit)
    series = only_series(tmp_path)
    assert [int(i.header.InstanceNumber) for i in series.instances] == list(range(1, 10))
    assert series.evenly_spaced
    assert series.warnings == ()
    affine = read_volume(series).volume.affine_lps
    np.testing.assert_allclose(affine[2, 2], step_mm, atol=1e-4)
    np.testing.assert_allclose(np.linalg.norm(affine[:3, 0]), spacing_mm, atol=1e-5)


def test_slices_far_from_the_origin_keep_their_order_and_steps_along_one_normal(tmp_path):
    def edit(dataset: Dataset, index: int) -> None:
        # Rounded to five digits in half the slices: along normals of their own, which differ by
        # 4e-6 * 2000 mm, more than the steps' tolerance.
        tilt = np.radians(12.3456 + (5e-4 if index % 2 else 0))
        dataset.ImageOrientationPatient = [1, 0, 0, 0, f"{np.cos(tilt):.9f}", f"{np.sin(tilt):.9f}"]
        dataset.ImagePositionPatient = ["0", "2000", f"{index * 0.5:.3f}"]

    write_series(tmp_path, 8, edit=edit)
    series = only_series(tmp_path)
    steps_mm = np.diff([instance.position_mm for instance in series.instances])
    np.testing.assert_allclose(steps_mm, steps_mm[0], rtol=1e-6)


def test_directions_that_drift_over_the_series_are_refused(tmp_path):
    def edit(dataset: Dataset, index: int) -> None:
        dataset.ImageOrientationPatient = rotated(0.05 * index)

    write_series(tmp_path, 10, edit=edit)
    found = find_series(tmp_path)
    assert found.series == []
    assert {refusal.attribute for refusal in found.refusals} == {"ImageOrientationPatient"}
    assert "not parallel" in found.refusals[0].reason


def test_two_frames_of_reference_are_two_volumes_whose_names_show_no_uid(tmp_path):
    uids = [f"{ROOT_UID}.41", f"{ROOT_UID}.42"]
    write_series(tmp_path, 8, edit=alternating("FrameOfReferenceUID", *uids))
    found = parts(tmp_path)
    assert set(found) == {f"FrameOfReferenceUID: value {number} of 2" for number in (1, 2)}
    assert [len(series.instances) for series in found.values()] == [4, 4]
    assert len({series_key(series, KEY) for series in found.values()}) == 2
    assert ROOT_UID not in "".join(repr(series.warnings) for series in found.values())
    for number, uid in enumerate(uids, start=1):
        series = found[f"FrameOfReferenceUID: value {number} of 2"]
        assert {i.header.FrameOfReferenceUID for i in series.instances} == {uid}


def test_a_frame_of_reference_that_some_slices_lack_is_the_others(tmp_path):
    write_series(tmp_path, 6, edit=alternating("FrameOfReferenceUID", f"{ROOT_UID}.4", None))
    series = only_series(tmp_path)
    assert len(series.instances) == 6
    assert "FrameOfReferenceUID is missing in some slices" in " ".join(series.warnings)


def test_a_frame_of_reference_for_each_slice_tells_nothing_apart(tmp_path):
    uids = [f"{ROOT_UID}.4.{number}" for number in range(1, 7)]
    write_series(tmp_path, 6, edit=alternating("FrameOfReferenceUID", *uids))
    series = only_series(tmp_path)
    assert len(series.instances) == 6
    assert "FrameOfReferenceUID: 6 different ones in 6 slices" in " ".join(series.warnings)


def energy_in_sequence(dataset: Dataset, kev: int) -> None:
    """As PS3.3 C.8.2.2 has it."""
    item, characteristics = Dataset(), Dataset()
    characteristics.MonoenergeticEnergyEquivalent = float(kev)
    item.MultienergyCTCharacteristicsSequence = [characteristics]
    dataset.MultienergyCTProcessingSequence = [item]


@pytest.mark.parametrize(
    "edit",
    [
        energy_in_sequence,
        lambda dataset, kev: setattr(dataset, "MonoenergeticEnergyEquivalent", float(kev)),
        lambda dataset, kev: setattr(dataset, "SeriesDescription", f"MonoE_{kev}keV[HU]"),
        lambda dataset, kev: setattr(dataset, "ImageComments", f"VMI {kev} keV"),
        lambda dataset, kev: setattr(
            dataset, "ImageType", ["DERIVED", "PRIMARY", "AXIAL", f"MONO {kev}KEV"]
        ),
    ],
)
@pytest.mark.parametrize("same_places", [True, False])
def test_photon_energies_are_volumes_with_the_kev_in_their_names(tmp_path, edit, same_places):
    for number, kev in enumerate((40, 70, 140)):
        for index in range(4):
            place = index if same_places else index + 4 * number
            dataset = ct_slice(place, stored=ramp(index) + number)
            dataset.SOPInstanceUID = f"{ROOT_UID}.{kev}.{index + 1}"
            edit(dataset, kev)
            save(dataset, tmp_path / f"{kev}-{index}.dcm")
    found = parts(tmp_path)
    assert set(found) == {"40 keV", "70 keV", "140 keV"}
    for number, kev in enumerate((40, 70, 140)):
        volume = read_volume(found[f"{kev} keV"]).volume
        np.testing.assert_array_equal(volume.image_hu[0], ramp(0) + number - 1024.0)


def test_clusters_have_no_borders():
    values = np.array([0.35, 0.1, 0.15, 0.2, 0.9])
    assert clusters(values, 0.16).tolist() == [0, 0, 0, 0, 1]
    assert clusters(values, 0.06).tolist() == [1, 0, 0, 0, 2]
    assert clusters(np.array([]), 1.0).tolist() == []


def test_numbers_are_the_same_by_value_and_texts_by_their_words():
    assert len(set(same_values(["120", " 1.2e2", 120, "120.0005"]))) == 1
    assert len(set(same_values(["120", "", None, "121", "nan"]))) == 4
    assert same_texts(["Br40d\\3 ", ["BR40D", "3"]]) == ["br40d\\3", "br40d\\3"]
