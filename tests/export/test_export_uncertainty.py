"""How far each voxel of a denoised series may be off, as an object beside the series."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pydicom
import pytest
import torch
from helpers.dicom import only_series, raw_hu, write_series
from numpy.typing import NDArray
from torch import nn

from pipeline.config.dose import DoseRequest
from pipeline.config.sections import Normalize
from pipeline.core.errors import ConfigError, LdctError
from pipeline.dicom.derived.check import check_tree
from pipeline.export.denoised import export_denoised
from pipeline.export.series import Export, Exported
from pipeline.io.discover import Source
from pipeline.models.adapters.any_dose import AnyDoseModel
from pipeline.models.adapters.card import ModelCard
from pipeline.models.adapters.pretrained import load_pretrained
from pipeline.quality.uncertainty import GROUPS, Calibration, GroupSpread, half_widths_hu

#: A spread that is what noise theory gives, and intervals of a normal variable.
PLAIN = GroupSpread(
    coefficients=(0.0,) * 11,
    lowest=(-9.0,) * 5,
    highest=(9.0,) * 5,
    half_widths=((1.0, 2.0),),
)
CALIBRATION = Calibration(
    weights_sha256="0123456789abcdef" * 4,
    dose_ratios=(4.0,),
    series=17,
    groups=dict.fromkeys(GROUPS, PLAIN),
)
CARD = ModelCard(
    "any", 1, CALIBRATION.weights_sha256, "c", "d", 1, DoseRequest(), uncertainty=CALIBRATION
)
CARD = replace(CARD, strength=1.0, dose=DoseRequest("ratio", 4))
SHAPE = (96, 96)


class AllNoise(nn.Module):
    """Takes all that differs from 40 HU for noise."""

    def forward(self, seen: torch.Tensor) -> torch.Tensor:
        return seen[:, :1] - 0.04


def noisy_tissue(folder: Path, **attributes: object) -> Path:
    """Three slices of even tissue whose noise rises from one to the next."""
    generator = np.random.default_rng(3)
    stored = [np.round(1064 + generator.normal(0, 10 * (n + 1), SHAPE)) for n in range(3)]

    def edit(dataset: pydicom.Dataset, index: int) -> None:
        dataset.PixelData = stored[index].astype(np.int16).tobytes()

    write_series(
        folder, 3, edit=edit, Rows=96, Columns=96, SliceThickness=5, PixelRepresentation=1,
        **attributes,
    )  # fmt: skip
    return folder


def exported(source: Source, out: Path, card: ModelCard = CARD, **options: Any) -> Exported:
    model = AnyDoseModel(AllNoise(), normalize=Normalize()).eval()
    to = Export(out, uncertainty=True, **options)
    return export_denoised(model, card, source, to)


def expected_hu(path: Path) -> NDArray[np.float32]:
    """Of one slice, from the stored values of the source alone."""
    source_hu = raw_hu(path).astype(np.float32)
    result_hu = source_hu - np.float32(0.75) * (source_hu - 40)
    return half_widths_hu(source_hu, result_hu, 4.0, CALIBRATION)[0]


@pytest.fixture
def written(tmp_path: Path) -> pydicom.Dataset:
    result = exported(only_series(noisy_tissue(tmp_path / "in")), tmp_path / "out" / "s")
    assert result.report is not None
    assert result.report.details["uncertainty"]["folder"] == "s-uncertainty"  # type: ignore[index]
    return pydicom.dcmread(tmp_path / "out" / "s-uncertainty" / "PM.dcm")


def test_the_map_holds_each_voxels_deviation_in_hu_in_place(
    tmp_path: Path, written: pydicom.Dataset
) -> None:
    values = np.frombuffer(written.FloatPixelData, "<f4").reshape(3, *SHAPE)
    paths = {pydicom.dcmread(path).SOPInstanceUID: path for path in (tmp_path / "in").glob("*.dcm")}
    for value, frame in zip(values, written.PerFrameFunctionalGroupsSequence, strict=True):
        (source,) = frame.DerivationImageSequence[0].SourceImageSequence
        path = paths.pop(source.ReferencedSOPInstanceUID)
        np.testing.assert_allclose(value, expected_hu(path), rtol=1e-4)
        place = frame.PlanePositionSequence[0].ImagePositionPatient
        assert place == pydicom.dcmread(path).ImagePositionPatient
    assert not paths, "each slice has its frame"
    mapping = written.SharedFunctionalGroupsSequence[0].RealWorldValueMappingSequence[0]
    assert mapping.MeasurementUnitsCodeSequence[0].CodeValue == "[hnsf'U]"
    assert (mapping.RealWorldValueSlope, mapping.RealWorldValueIntercept) == (1, 0)


def test_the_map_says_what_it_is_and_whose(tmp_path: Path, written: pydicom.Dataset) -> None:
    source = pydicom.dcmread(next((tmp_path / "in").glob("*.dcm")))
    for name in ("PatientID", "PatientName", "StudyInstanceUID", "FrameOfReferenceUID"):
        assert written[name].value == source[name].value
    assert written.SeriesInstanceUID != source.SeriesInstanceUID
    assert written.SeriesDescription.startswith("AI UNCERTAINTY any v1 DOSE X4")
    frame = written.PerFrameFunctionalGroupsSequence[0]
    said = frame.DerivationImageSequence[0].DerivationDescription
    assert "the half width of the 68 % interval; that of the 95 % one is 2.0 to 2.0 times" in said
    assert "Calibrated on 17 series" in said


def test_ldct_check_finds_the_map_sound_and_a_moved_one_not(
    tmp_path: Path, written: pydicom.Dataset
) -> None:
    results = check_tree(tmp_path / "out", tmp_path / "in")
    assert [(one.name, one.problems) for one in results] == [("s", []), ("s-uncertainty", [])]
    frame = written.PerFrameFunctionalGroupsSequence[1]
    frame.PlanePositionSequence[0].ImagePositionPatient[2] += 0.01
    written.save_as(tmp_path / "out" / "s-uncertainty" / "PM.dcm")
    _, moved = check_tree(tmp_path / "out", tmp_path / "in")
    assert [problem.rule for problem in moved.problems] == ["place"]


@pytest.mark.parametrize("known", [{}, {"BodyPartExamined": "CHEST"}, {"Laterality": "L"}])
def test_the_map_is_of_the_source_s_body_part(known: dict[str, str], tmp_path: Path) -> None:
    """dciodvfy asks for a laterality where no body part is known: the map has the source's."""
    folder = noisy_tissue(tmp_path / "in", **known)
    assert exported(only_series(folder), tmp_path / "out" / "s").report is not None
    made = pydicom.dcmread(tmp_path / "out" / "s-uncertainty" / "PM.dcm")
    found = {name: made[name].value for name in ("BodyPartExamined", "Laterality") if name in made}
    assert found == known


def test_the_same_source_gives_the_same_bytes(tmp_path: Path) -> None:
    source = only_series(noisy_tissue(tmp_path / "in"))
    made = []
    for name in ("a", "b"):
        exported(source, tmp_path / name / "s")
        made.append((tmp_path / name / "s-uncertainty" / "PM.dcm").read_bytes())
    assert made[0] == made[1]


def test_where_the_map_fails_its_check_nothing_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import pipeline.dicom.derived.highdicom_objects as common

    monkeypatch.setattr(common, "series_description", lambda *_: "Liver")
    with pytest.raises(LdctError, match="rule marking"):
        exported(only_series(noisy_tissue(tmp_path / "in")), tmp_path / "out" / "s")
    assert not list((tmp_path / "out").glob("*"))


def test_an_image_file_has_a_file_beside_its_result(tmp_path: Path) -> None:
    values = 40 + np.random.default_rng(0).normal(0, 30, (64, 64, 2)).astype(np.float32)
    path = tmp_path / "scan.nii.gz"
    nibabel.save(nibabel.Nifti1Image(values, np.diag([1, 1, 3, 1])), path)
    exported(path, tmp_path / "out", air="accept")
    (beside,) = (tmp_path / "out").glob("*uncertainty*")
    found = nibabel.load(beside)
    np.testing.assert_allclose(found.affine, np.diag([1, 1, 3, 1]), atol=1e-6)
    deviation_hu = found.get_fdata()
    assert deviation_hu.shape == values.shape
    # Of 30 HU of noise, the part that four times the dose does not determine, and the estimate's.
    assert np.median(deviation_hu) == pytest.approx(
        30 * np.sqrt(0.75 * 0.25 + 0.1 * 0.75**2), rel=0.05
    )


def test_a_model_that_was_not_calibrated_or_is_applied_in_part_is_refused(tmp_path: Path) -> None:
    source = only_series(noisy_tissue(tmp_path / "in"))
    with pytest.raises(ConfigError, match="was not calibrated"):
        exported(source, tmp_path / "out", replace(CARD, uncertainty=None))
    with pytest.raises(ConfigError, match=r"at full strength only, and strength is 0\.5"):
        exported(source, tmp_path / "out", replace(CARD, strength=0.5))


def test_the_shipped_model_is_calibrated_on_its_own_weights() -> None:
    card = load_pretrained("anydose").card
    assert card.uncertainty is not None
    assert card.uncertainty.weights_sha256 == card.weights_sha256
    assert card.uncertainty.dose_ratios == (2.0, 4.0, 10.0, 20.0)
