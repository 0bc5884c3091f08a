"""`import ldct`: arrays of one's own, uncertainty and structures, and what is written of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from helpers.segmenter import untrained_segmenter

import ldct
from pipeline.config.dose import DoseRequest
from pipeline.core.errors import ConfigError
from pipeline.dicom.derived.check import check_tree
from pipeline.dicom.synthetic.phantom_series import write_phantom_series
from pipeline.export.denoised import export_denoised
from pipeline.export.segmentation import export_segmented
from pipeline.export.series import Export
from pipeline.io.volume_files import read_stored
from pipeline.physics.phantoms.patient import patient_phantom

SWIFT, ANYDOSE = "swift@pretrained", "anydose@pretrained"


@pytest.fixture(scope="module")
def scan(tmp_path_factory: pytest.TempPathFactory) -> ldct.CTSeries:
    """Two slices of 96 x 96 pixels."""
    folder = tmp_path_factory.mktemp("scan")
    phantom = patient_phantom(np.random.default_rng(1), slices=2, matrix=96)
    write_phantom_series(phantom, folder, patient_number=1, seed=1)
    return ldct.read(folder)


@pytest.fixture
def array(scan: ldct.CTSeries) -> ldct.CTSeries:
    """The scan's HU; its slices lie further apart than any image file's may."""
    spacing_mm = (5.0, *scan.spacing_mm[1:])
    return ldct.from_array(scan.image_hu, spacing_mm=spacing_mm, valid=scan.valid)


def test_an_array_is_denoised_as_the_series_it_is_of(
    scan: ldct.CTSeries, array: ldct.CTSeries
) -> None:
    assert array.spacing_mm == pytest.approx((5.0, *scan.spacing_mm[1:]))
    of_array, of_series = ldct.denoise(array, SWIFT), ldct.denoise(scan, SWIFT)
    np.testing.assert_array_equal(of_array.image_hu, of_series.image_hu)
    assert of_array.details["audit"] == of_series.details["audit"]
    assert not np.array_equal(of_array.image_hu, array.image_hu)


def test_what_was_made_of_an_array_is_written_as_nifti_with_its_hu_and_spacing(
    array: ldct.CTSeries, tmp_path: Path
) -> None:
    clean = ldct.denoise(array, SWIFT)
    assert ldct.write_derived(clean, tmp_path / "out").instances == 2
    (path,) = (tmp_path / "out").iterdir()
    assert path.name == "ai-denoised-swift-v0.nii.gz"
    again = ldct.read(path)
    np.testing.assert_array_equal(again.image_hu, clean.image_hu)
    assert again.spacing_mm == pytest.approx(array.spacing_mm)
    with pytest.raises(ConfigError, match="an array is written as NIfTI"):
        ldct.write_derived(clean, tmp_path / "compressed", compress="j2k")


def test_an_array_is_a_copy(scan: ldct.CTSeries) -> None:
    mine = scan.image_hu.copy()
    made = ldct.from_array(mine, spacing_mm=(5, 1, 1))
    mine[:] = 0
    np.testing.assert_array_equal(made.image_hu, scan.image_hu)


SHAPE = (1, 64, 64)
AIR = np.full(SHAPE, -1000.0)
RAW = np.random.default_rng(0).normal(1064, 10, SHAPE)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"image_hu": AIR[0]}, r"\(64, 64\): \[slices, rows, columns\] is needed"),
        ({"spacing_mm": (1, 1)}, "three distances above 0, slices first"),
        ({"spacing_mm": (5, 0, 1)}, "three distances above 0"),
        ({"image_hu": AIR * np.nan}, "not finite"),
        ({"image_hu": RAW}, "not in HU: .*1024 above"),
        ({"image_hu": np.zeros(SHAPE)}, "not in HU: nothing below 0 HU"),
        ({"valid": np.ones((2, 64, 64), bool)}, "valid is"),
    ],
)
def test_an_array_that_is_no_ct_is_refused(arguments: dict[str, Any], said: str) -> None:
    given = {"image_hu": AIR, "spacing_mm": (5.0, 1.0, 1.0), **arguments}
    with pytest.raises(ConfigError, match=said):
        ldct.from_array(given.pop("image_hu"), **given)


def test_the_uncertainty_is_what_apply_writes(scan: ldct.CTSeries, tmp_path: Path) -> None:
    loaded = ldct.load_model(ANYDOSE)
    sure = ldct.denoise(scan, loaded, dose_ratio=4, uncertainty=True)
    assert sure.uncertainty_hu is not None
    assert sure.uncertainty_hu.shape == scan.image_hu.shape
    assert (sure.uncertainty_hu[scan.valid] > 0).all()
    report = ldct.write_derived(sure, tmp_path / "here")
    assert report.details["uncertainty"]["folder"] == "here-uncertainty"
    at_four = loaded.at_dose(DoseRequest("ratio", 4))
    to = Export(tmp_path / "apply", uncertainty=True)
    export_denoised(at_four.model, at_four.card, scan.source, to)
    here, apply = (
        pydicom.dcmread(tmp_path / f"{name}-uncertainty" / "PM.dcm") for name in ("here", "apply")
    )
    assert here.SOPInstanceUID == apply.SOPInstanceUID
    np.testing.assert_array_equal(here.FloatPixelData, apply.FloatPixelData)
    assert all(one.passed for one in check_tree(tmp_path / "here-uncertainty", None))
    assert ldct.denoise(sure, SWIFT).uncertainty_hu is None, "it was of the image before"


def test_the_uncertainty_of_an_array_is_an_image_beside_it(
    array: ldct.CTSeries, tmp_path: Path
) -> None:
    sure = ldct.denoise(array, ANYDOSE, dose_ratio=4, uncertainty=True)
    ldct.write_derived(sure, tmp_path / "out")
    (path,) = (tmp_path / "out").glob("*-uncertainty.nii.gz")
    np.testing.assert_array_equal(read_stored(path).values, sure.uncertainty_hu)


def test_a_model_without_calibration_has_no_uncertainty(scan: ldct.CTSeries) -> None:
    with pytest.raises(ConfigError, match="swift@pretrained was not calibrated"):
        ldct.denoise(scan, SWIFT, uncertainty=True)


def test_structures_are_written_as_apply_writes_them(scan: ldct.CTSeries, tmp_path: Path) -> None:
    loaded = untrained_segmenter()
    found = ldct.segment(scan, loaded)
    assert found.names == {1: "body"}
    assert found.labels.shape == scan.image_hu.shape
    share = float((found.labels == 1).mean())
    assert 0 < share < 1, "it finds something somewhere"
    whole_ml = np.prod(scan.spacing_mm) * scan.image_hu.size / 1000
    assert found.volumes_ml["body"] == pytest.approx(share * whole_ml)
    ldct.write_derived(found, tmp_path / "here")
    to = Export(tmp_path / "apply")
    export_segmented(loaded.model, loaded.card, scan.source, to, loaded.config.grid)
    here, apply = ((tmp_path / name / "SEG.dcm").read_bytes() for name in ("here", "apply"))
    assert here == apply
    ldct.write_derived(found, tmp_path / "contours", labels="rtstruct")
    assert pydicom.dcmread(tmp_path / "contours" / "RTSTRUCT.dcm").Modality == "RTSTRUCT"
    with pytest.raises(ConfigError, match="no form 'dcm' of labels"):
        ldct.write_derived(found, tmp_path / "other", labels="dcm")


def test_structures_of_a_denoised_series_say_what_was_done_before(scan: ldct.CTSeries) -> None:
    found = ldct.segment(ldct.denoise(scan, SWIFT), untrained_segmenter())
    said = found.operation.description
    assert 0 < said.index("Noise reduction") < said.index("Segmentation by neural network")


def test_structures_of_an_array_are_a_label_file(array: ldct.CTSeries, tmp_path: Path) -> None:
    found = ldct.segment(array, untrained_segmenter())
    ldct.write_derived(found, tmp_path / "out")
    (path,) = (tmp_path / "out").iterdir()
    np.testing.assert_array_equal(read_stored(path).values, found.labels)


def test_each_function_takes_models_of_its_task(scan: ldct.CTSeries) -> None:
    with pytest.raises(ConfigError, match="is no segmenter; its task: denoise"):
        ldct.segment(scan, SWIFT)
    with pytest.raises(ConfigError, match="is no denoiser of CT; its task: segment"):
        ldct.denoise(scan, untrained_segmenter())
