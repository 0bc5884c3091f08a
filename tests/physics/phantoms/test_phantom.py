"""The synthetic patients: anatomy, HU, noise, and the DICOM series written of them."""

from __future__ import annotations

import subprocess
from pathlib import Path

import numpy as np
import pydicom
import pytest
from scipy import ndimage

from pipeline.core.errors import ConfigError
from pipeline.dicom.synthetic.phantom_series import write_phantom_series
from pipeline.physics.phantoms.canvas import Label
from pipeline.physics.phantoms.patient import LABEL_NAMES, Phantom, patient_phantom

SEEDS = (0, 1, 11)  # one in the portal phase, one arterial, one without contrast

#: Mean HU over a label's inner voxels, at any contrast phase.
EXPECTED_HU: dict[Label, tuple[float, float]] = {
    Label.AIR: (-1001, -999),
    Label.LUNG: (-880, -770),
    Label.FAT: (-115, -90),
    Label.MUSCLE: (45, 75),
    Label.LIVER: (50, 120),
    Label.SPLEEN: (40, 140),
    Label.MYOCARDIUM: (40, 120),
    Label.BLOOD: (35, 260),
    Label.TRABECULAR_BONE: (140, 320),
    Label.GUT_GAS: (-1000, -880),
}


def phantom_of(seed: int, **options: float) -> Phantom:
    """A small, noise-free patient."""
    options = {"slices": 12, "matrix": 128, "noise_hu": 0.0} | options
    return patient_phantom(np.random.default_rng(seed), **options)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def patients() -> dict[int, Phantom]:
    return {seed: phantom_of(seed) for seed in SEEDS}


def inner(labels: np.ndarray, label: Label) -> np.ndarray:
    """The voxels of a label that no neighbour in the slice dilutes."""
    return ndimage.binary_erosion(labels == label, np.ones((1, 3, 3)))


def test_the_same_seed_gives_the_same_patient_and_another_seed_another_anatomy(patients):
    again = phantom_of(SEEDS[0])
    np.testing.assert_array_equal(again.image_hu, patients[SEEDS[0]].image_hu)
    np.testing.assert_array_equal(again.labels, patients[SEEDS[0]].labels)
    first, second = (patients[seed].labels for seed in SEEDS[:2])
    for label in (Label.LIVER, Label.LUNG, Label.MYOCARDIUM, Label.KIDNEY_CORTEX):
        a, b = first == label, second == label
        dice = 2 * (a & b).sum() / (a.sum() + b.sum())
        assert dice < 0.95, f"{LABEL_NAMES[label]} hardly differs: Dice {dice:.3f}"


@pytest.mark.parametrize("label", EXPECTED_HU, ids=lambda label: label.name.lower())
def test_tissues_have_the_hu_of_tissue(patients, label):
    low, high = EXPECTED_HU[label]
    for seed, phantom in patients.items():
        mask = inner(phantom.labels, label)
        assert mask.sum() > 30, f"seed {seed}: hardly any {LABEL_NAMES[label]}"
        assert low <= phantom.image_hu[mask].mean() <= high


def test_bone_reaches_the_hu_of_cortical_bone(patients):
    for phantom in patients.values():
        bone = phantom.image_hu[phantom.labels == Label.CORTICAL_BONE]
        assert 800 < np.percentile(bone, 99) < 1400


def test_every_label_has_a_name_and_every_organ_occurs(patients):
    for phantom in patients.values():
        found = set(np.unique(phantom.labels).tolist())
        assert found <= set(LABEL_NAMES)
        assert set(LABEL_NAMES) - found <= {Label.GLAND}


def test_nodules_lie_in_the_lungs_of_every_patient(patients):
    for phantom in patients.values():
        nodules, count = ndimage.label(phantom.labels == Label.NODULE)
        assert count >= 2
        around = ndimage.binary_dilation(nodules > 0, np.ones((1, 5, 5))) & (nodules == 0)
        in_lung = np.isin(phantom.labels[around], (Label.LUNG, Label.LUNG_VESSEL, Label.AIRWAY))
        assert in_lung.mean() > 0.7


def test_lungs_shrink_and_the_liver_grows_towards_the_feet(patients):
    for phantom in patients.values():
        lung = (phantom.labels == Label.LUNG).sum(axis=(1, 2))
        liver = (phantom.labels == Label.LIVER).sum(axis=(1, 2))
        assert lung[:3].min() > 4 * lung[8:].max()
        assert np.all(np.diff(lung[5:]) <= 0)
        assert liver[:3].sum() == 0
        assert liver[7:10].min() > 500


def test_organs_lie_on_their_sides(patients):
    """Image columns run to the patient's left, rows to the back."""
    for phantom in patients.values():
        middle = (phantom.labels.shape[1] - 1) / 2
        centre = {
            label: np.array(ndimage.center_of_mass(phantom.labels == label))[1:] - middle
            for label in (Label.LIVER, Label.SPLEEN, Label.MYOCARDIUM, Label.SPINAL_CANAL)
        }
        assert centre[Label.LIVER][1] < 0 < centre[Label.MYOCARDIUM][1] < centre[Label.SPLEEN][1]
        assert centre[Label.MYOCARDIUM][0] < 0 < centre[Label.SPINAL_CANAL][0]
        couch_rows = np.nonzero((phantom.labels == Label.COUCH).any(axis=(0, 2)))[0]
        assert couch_rows.min() > middle + centre[Label.SPINAL_CANAL][0]


def test_noise_is_what_was_asked_for_and_less_at_the_skin():
    clean = phantom_of(2, slices=2)
    noise = phantom_of(2, slices=2, noise_hu=8).image_hu - clean.image_hu
    depth = np.stack([ndimage.distance_transform_edt(part > Label.COUCH) for part in clean.labels])
    centre = noise[depth > 0.8 * depth.max(axis=(1, 2), keepdims=True)]
    skin = noise[(depth > 0) & (depth < 3)]
    assert centre.std() == pytest.approx(8, rel=0.25)
    assert abs(centre.mean()) < 1
    assert skin.std() < 0.75 * centre.std()


def test_noise_power_rises_from_zero_as_filtered_backprojection_makes_it():
    options = {"slices": 1, "matrix": 256}
    noise = phantom_of(2, noise_hu=8, **options).image_hu - phantom_of(2, **options).image_hu
    power = np.abs(np.fft.fft2(noise[:, 80:176, 80:176], axes=(1, 2))) ** 2
    pixel_mm = 380 / 256
    frequency = np.hypot(*np.meshgrid(*[np.fft.fftfreq(96, pixel_mm)] * 2))
    low = power[:, (frequency > 0) & (frequency < 0.05)].mean()
    peak = power[:, (frequency > 0.2) & (frequency < 0.3)].mean()
    assert low < 0.4 * peak


def test_spacing_follows_from_the_field_of_view():
    phantom = phantom_of(2, slices=2, matrix=100, field_of_view_mm=400.0)
    assert phantom.spacing_mm == (127.5, 4.0, 4.0)
    assert phantom.slice_thickness_mm == 5.0
    assert phantom.image_hu.shape == phantom.labels.shape == (2, 100, 100)


@pytest.mark.parametrize("wrong", [{"slices": 0}, {"matrix": 0}, {"noise_hu": -1.0}])
def test_impossible_scanners_are_refused(wrong):
    with pytest.raises(ConfigError, match="must be positive"):
        phantom_of(0, **wrong)


@pytest.fixture(scope="module")
def series(tmp_path_factory) -> tuple[Phantom, list[Path]]:
    phantom = phantom_of(3, slices=4, noise_hu=8.0)
    folder = tmp_path_factory.mktemp("series")
    return phantom, write_phantom_series(phantom, folder, patient_number=1, seed=3)


def test_a_written_series_reads_back_in_hu_with_a_round_field(series):
    phantom, paths = series
    rows, columns = np.indices(phantom.image_hu.shape[1:]) - 63.5
    outside = np.hypot(rows, columns) > 64
    for image_hu, path in zip(phantom.image_hu, paths, strict=True):
        dataset = pydicom.dcmread(path)
        stored = dataset.pixel_array
        padding = stored == dataset.PixelPaddingValue
        np.testing.assert_array_equal(padding, outside)
        hu = stored * float(dataset.RescaleSlope) + float(dataset.RescaleIntercept)
        assert np.abs(hu - image_hu)[~padding].max() <= 0.5 + 1e-3


def test_a_written_series_is_one_equally_spaced_stack(series):
    phantom, paths = series
    datasets = [pydicom.dcmread(path, stop_before_pixels=True) for path in paths]
    assert [path.name for path in paths] == [f"CT.{n:04d}.dcm" for n in (1, 2, 3, 4)]
    assert [dataset.InstanceNumber for dataset in datasets] == [1, 2, 3, 4]
    steps = np.diff([dataset.ImagePositionPatient for dataset in datasets], axis=0)
    np.testing.assert_allclose(steps, [[0, 0, -phantom.spacing_mm[0]]] * 3)
    np.testing.assert_allclose(datasets[0].PixelSpacing, phantom.spacing_mm[1:])
    for keyword in ("StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID", "PatientID"):
        assert len({dataset[keyword].value for dataset in datasets}) == 1
    assert len({dataset.SOPInstanceUID for dataset in datasets}) == 4


def test_the_same_patient_is_written_with_the_same_bytes(series, tmp_path):
    phantom, paths = series
    again = write_phantom_series(phantom, tmp_path / "again", patient_number=1, seed=3)
    assert [path.read_bytes() for path in again] == [path.read_bytes() for path in paths]
    other = write_phantom_series(phantom, tmp_path / "other", patient_number=2, seed=3)
    first, second = (pydicom.dcmread(series_paths[0]) for series_paths in (paths, other))
    assert first.SeriesInstanceUID != second.SeriesInstanceUID
    assert first.PatientID != second.PatientID


def test_dciodvfy_finds_no_error(series, require_program):
    program = require_program("dciodvfy")
    for path in series[1]:
        checked = subprocess.run([program, str(path)], capture_output=True, text=True, check=False)
        assert "Error" not in checked.stdout + checked.stderr
        assert "CTImage" in checked.stdout + checked.stderr
