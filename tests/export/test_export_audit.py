"""What a denoiser changed by more than noise stands in the report and in the slice's header."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel
import numpy as np
import pydicom
import pytest
import torch
from helpers.dicom import only_series, write_series
from torch import nn

from flows.cli.tables.base import applied_table
from pipeline.export.denoised import export_denoised
from pipeline.export.series import Export
from pipeline.models.adapters.card import ModelCard
from pipeline.pacs.steps.worker import read_notes

CARD = ModelCard("smooth", 1, "0123456789abcdef" * 4, "c", "d", 1)
SIZE, LESION, SLICE = 192, (100, 80), 2


class Erases(nn.Module):
    """Removes all that differs from 40 HU in the patient, a lesion too."""

    def forward(self, image_hu: torch.Tensor) -> torch.Tensor:
        return torch.where(image_hu > -500, torch.full_like(image_hu, 40.0), image_hu)


def patient(folder: Path) -> Path:
    """Three slices of noisy tissue in air; a lesion of 7 mm and 60 HU in the second."""
    generator = np.random.default_rng(3)
    rows, columns = np.mgrid[:SIZE, :SIZE]
    inside = np.hypot(rows - SIZE / 2, columns - SIZE / 2) < 85
    images = []
    for number in range(1, 4):
        tissue = 40 + generator.normal(0, 12, (SIZE, SIZE))
        if number == SLICE:
            tissue += 60 * (np.hypot(rows - LESION[0], columns - LESION[1]) * 0.8 < 3.5)
        images.append(np.where(inside, tissue, -1000).round().astype(np.int16))

    def edit(dataset: pydicom.Dataset, index: int) -> None:
        dataset.PixelData = images[index].tobytes()
        dataset.PixelSpacing = [0.8, 0.8]
        dataset.RescaleIntercept = "0"

    write_series(folder, 3, edit=edit, Rows=SIZE, Columns=SIZE, PixelRepresentation=1)
    return folder


@pytest.mark.parametrize("enhanced", [False, True], ids=["images", "multi-frame"])
def test_an_erased_lesion_is_told_in_report_and_header(tmp_path: Path, enhanced: bool) -> None:
    source = only_series(patient(tmp_path / "in"))
    to = Export(tmp_path / "out", enhanced=enhanced)
    report, *_ = export_denoised(Erases(), CARD, source, to)
    assert report is not None
    audit = report.details["audit"]
    assert isinstance(audit, dict)
    assert (audit["slices"], audit["measured"]) == (3, 3)
    (flagged,) = audit["flagged"]
    strongest = flagged["strongest"]
    assert (flagged["slice"], flagged["places"], strongest["kind"]) == (SLICE, 1, "disc")
    assert strongest["size_mm"] in (5, 7)
    assert strongest["height_hu"] == pytest.approx(-60, rel=0.4)
    assert strongest["row"] - 1 == pytest.approx(LESION[0], abs=3)
    assert strongest["column"] - 1 == pytest.approx(LESION[1], abs=3)
    assert (
        f"1 of 3 slices changed by more than noise, in 1 place; strongest in slice {SLICE}"
        in (audit["summary"])
    )
    texts = descriptions(tmp_path / "out", enhanced=enhanced)
    assert ["changed by more than noise in 1 place" in text for text in texts] == [
        False,
        True,
        False,
    ]
    assert all("smooth" in text for text in texts)


def descriptions(folder: Path, *, enhanced: bool) -> list[str]:
    """The derivation description of each slice."""
    if not enhanced:
        found = [pydicom.dcmread(path) for path in sorted(folder.glob("*.dcm"))]
        return [str(header.DerivationDescription) for header in found]
    header = pydicom.dcmread(next(folder.glob("*.dcm")))
    frames = header.PerFrameFunctionalGroupsSequence
    return [str(frame.DerivationImageSequence[0].DerivationDescription) for frame in frames]


def test_the_difference_names_it_too(tmp_path: Path) -> None:
    source = only_series(patient(tmp_path / "in"))
    export_denoised(Erases(), CARD, source, Export(tmp_path / "out", difference=True))
    texts = descriptions(tmp_path / "out-difference", enhanced=False)
    assert ["Audit: " in text for text in texts] == [False, True, False]


def test_an_image_file_is_audited(tmp_path: Path) -> None:
    source = only_series(patient(tmp_path / "in"))
    images = [pydicom.dcmread(each.path).pixel_array for each in source.instances]
    path = tmp_path / "ct.nii.gz"
    image = nibabel.Nifti1Image(np.stack(images).T.astype(np.int16), np.diag([-0.8, -0.8, 2, 1]))
    nibabel.save(image, path)
    report, *_ = export_denoised(Erases(), CARD, path, Export(tmp_path / "out"))
    assert report is not None
    assert [row["slice"] for row in report.details["audit"]["flagged"]] == [SLICE]  # type: ignore[index]


def test_who_reads_the_table_or_the_ledger_sees_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    summary = "audit: 1 of 3 slices changed by more than noise"
    row = {
        "folder": "s-smooth",
        "series": "s",
        "instances": 3,
        "warnings": [],
        "audit": {"summary": summary, "flagged": [{"slice": 2}]},
    }
    report = {"model": "smooth/1", "strength": 1.0, "exported": [row], "quarantined": []}
    applied_table({**report, "failed": [], "excluded": []}, tmp_path)
    assert f"s: {summary}\n" in capsys.readouterr().out
    (tmp_path / "report.json").write_text(json.dumps(report))
    assert read_notes(tmp_path).other == [summary]
