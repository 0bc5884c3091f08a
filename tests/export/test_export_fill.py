"""What was made up of a CT comes back labelled so, and everything else as it was."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import nibabel
import numpy as np
import pydicom
import pytest
from helpers.dicom import in_order, only_series, raw_stored
from helpers.fill import waves
from helpers.fill_series import COLUMN, DISC, PADDING, ROW, series_of, stored, with_metal

from pipeline.core.errors import ConfigError, LdctError, NothingUsableError
from pipeline.core.refusals import Disposition
from pipeline.dicom.derived.check import check_series
from pipeline.dicom.read.ingest_options import IngestOptions
from pipeline.dicom.read.series import find_series
from pipeline.dicom.read.volume import read_volume
from pipeline.export.filled import MISSING, FillRequest, export_filled
from pipeline.export.series import Export, ExportReport
from pipeline.generative.fill import Fill
from pipeline.models.adapters.card import ModelCard

CARD = ModelCard("waves", 1, "ab" * 32, "", "", 0)
FILL = Fill(moves=120, follow=60, pool=32)


def filled_series(folder: Path, out: Path, request: FillRequest) -> ExportReport:
    report, refusals, _ = export_filled(waves(), CARD, only_series(folder), Export(out), request)
    assert report is not None
    assert refusals == []
    return report


def test_metal_becomes_a_derived_series_that_says_so_and_a_segmentation(tmp_path: Path) -> None:
    source = series_of(with_metal(), tmp_path / "source")
    request = FillRequest("metal", margin_mm=1.0, fill=FILL)
    report = filled_series(source, tmp_path / "out", request)
    assert [row["slice"] for row in report.details["slices"]] == [2, 3]
    assert (
        report.details["check"]["problems"] == report.details["region_in"]["check"]["problems"] == 0
    )
    region = pydicom.dcmread(tmp_path / "out-region" / "SEG.dcm")
    marked = region.pixel_array.astype(bool)
    assert report.details["pixels"] == marked.sum() > 2 * DISC.sum()
    assert region.SeriesDescription.startswith("AI MADE UP metal")
    assert region.SegmentSequence[0].SegmentLabel == "made up, not measured"
    for number, (old, new) in enumerate(
        zip(in_order(source), in_order(tmp_path / "out"), strict=True)
    ):
        here = marked[number - 1] if number in (1, 2) else np.zeros_like(DISC)
        np.testing.assert_array_equal(raw_stored(new)[~here], raw_stored(old)[~here])
        assert raw_stored(new).max() < 2500 + 1024
        header = pydicom.dcmread(new)
        assert header.SeriesDescription.startswith("AI MADE UP metal waves v1")
        assert "not measured" in header.DerivationDescription
        assert "NOT FOR DIAGNOSIS" in header.DerivationDescription
        assert list(header.ImageType[:2]) == ["DERIVED", "SECONDARY"]
    assert check_series(tmp_path / "out", only_series(source)).passed


def test_again_is_harmless_and_another_search_overwrites_nothing(tmp_path: Path) -> None:
    source = series_of(with_metal(), tmp_path / "source")
    request = FillRequest("metal", fill=FILL)
    filled_series(source, tmp_path / "out", request)
    before = [path.read_bytes() for path in in_order(tmp_path / "out")]
    filled_series(source, tmp_path / "out", request)
    with pytest.raises(LdctError, match="holds something else"):
        filled_series(source, tmp_path / "out", replace(request, fill=replace(FILL, seed=1)))
    assert [path.read_bytes() for path in in_order(tmp_path / "out")] == before


def truncated(tmp_path: Path, padding: int | None) -> Path:
    images = np.maximum(stored(3), 1024 - 200)  # all of it body
    outside = np.hypot(ROW - 23.5, COLUMN - 40) > 30
    images[:, outside] = PADDING
    images[:, [0, 0, -1, -1], [0, -1, 0, -1]] = PADDING
    source = series_of(images, tmp_path / "source")
    for path in in_order(source):
        header = pydicom.dcmread(path)
        if padding is not None:
            header.add_new("PixelPaddingValue", "SS", padding)
        header.save_as(path)
    return source


@pytest.mark.parametrize("padding", [PADDING, None])
def test_the_body_goes_on_beyond_the_field_of_view(tmp_path: Path, padding: int | None) -> None:
    source = truncated(tmp_path, padding)
    report = filled_series(source, tmp_path / "out", FillRequest("truncation", fill=FILL))
    before, after = (read_volume(only_series(f)).volume for f in (source, tmp_path / "out"))
    made = after.valid & ~before.valid
    assert made.sum() == report.details["pixels"] > 500
    # What the body did not touch, and the corners, are padding still.
    assert not after.valid[:, [0, 0, -1, -1], [0, -1, 0, -1]].any()
    np.testing.assert_array_equal(after.image_hu[before.valid], before.image_hu[before.valid])
    assert after.image_hu[made].min() > -1024


def test_padding_may_change_in_what_says_that_it_is_made_up_alone(tmp_path: Path) -> None:
    source = truncated(tmp_path, PADDING)
    filled_series(source, tmp_path / "out", FillRequest("truncation", fill=FILL))
    for path in in_order(tmp_path / "out"):
        header = pydicom.dcmread(path)
        header.SeriesDescription = header.SeriesDescription.replace("AI MADE UP", "AI DENOISED")
        header.save_as(path)
    problems = check_series(tmp_path / "out", only_series(source)).problems
    assert {problem.rule for problem in problems} == {"padding"}


def test_missing_slices_are_asked_for_and_never_dicom(tmp_path: Path) -> None:
    images = stored(7)
    source = series_of(images, tmp_path / "source", without=(2, 3))
    refused = find_series(source)
    assert refused.series == []  # as ever
    assert {refusal.disposition for refusal in refused.refusals} == {Disposition.QUARANTINED}
    series = find_series(source, intake=IngestOptions(gaps="slices")).series[0]
    out = tmp_path / "out"
    done, *_ = export_filled(waves(), CARD, series, Export(out), FillRequest(MISSING, fill=FILL))
    assert done is not None
    assert done.details["made_up"] == [
        {"slice": 3, "position_mm": 5.0},
        {"slice": 4, "position_mm": 7.5},
    ]
    assert sorted(path.name for path in out.iterdir()) == [
        "synthetic-slices-region.nii.gz",
        "synthetic-slices.nii.gz",
    ]
    image = nibabel.load(out / "synthetic-slices.nii.gz")
    assert bytes(image.header["descrip"]).startswith(b"SYNTHETIC IN PART")
    assert b"slices 3, 4 of 7" in image.header.extensions[0].get_content()
    hu = image.get_fdata().T
    known = [0, 1, 4, 5, 6]
    np.testing.assert_array_equal(hu[known], images[known].astype(float) - 1024)
    linear = images[1] + (images[4] - images[1]) * np.array([1 / 3, 2 / 3])[:, None, None] - 1024
    np.testing.assert_allclose(hu[2:4], linear, atol=30)  # a linear generator adds nothing
    marked = nibabel.load(out / "synthetic-slices-region.nii.gz").get_fdata().T
    np.testing.assert_array_equal(
        marked.any(axis=(1, 2)), [False, False, True, True, False, False, False]
    )


def test_a_label_file_says_where(tmp_path: Path) -> None:
    source = series_of(stored(3), tmp_path / "source")
    volume = read_volume(only_series(source)).volume
    labels = np.zeros(volume.image_hu.shape, np.uint8)
    labels[1, DISC] = 1
    affine = np.diag([-1.0, -1.0, 1.0, 1.0]) @ volume.affine_lps
    nibabel.save(nibabel.Nifti1Image(labels.T, affine), tmp_path / "mask.nii.gz")
    report = filled_series(
        source, tmp_path / "out", FillRequest(str(tmp_path / "mask.nii.gz"), fill=FILL)
    )
    assert report.details["region"] == "mask"
    assert report.details["pixels"] == DISC.sum()


def test_what_cannot_be_filled_is_refused(tmp_path: Path) -> None:
    source = series_of(stored(3), tmp_path / "source")
    for region, why in (("metal", "no pixel of 2500 HU"), ("truncation", "no body runs into")):
        with pytest.raises(NothingUsableError, match=why):
            filled_series(source, tmp_path / "out", FillRequest(region, fill=FILL))
    with pytest.raises(ConfigError, match="write metal, truncation, missing"):
        FillRequest("bone")
    with pytest.raises(LdctError, match="slice 1: all of it"):
        filled_series(source, tmp_path / "out", FillRequest("metal", threshold_hu=-2000, fill=FILL))
    assert not (tmp_path / "out").exists()
