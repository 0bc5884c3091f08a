"""A dose-conditioned denoiser over series: at what was asked for, and why, in the header."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pydicom
import pytest
import torch
from helpers.dicom import only_series, raw_hu, write_series
from numpy.typing import NDArray
from torch import nn

from pipeline.config.dose import DoseRequest
from pipeline.config.sections import Normalize
from pipeline.core.errors import ConfigError
from pipeline.export.denoised import export_denoised
from pipeline.export.series import Export, Exported
from pipeline.models.adapters.any_dose import AnyDoseModel
from pipeline.models.adapters.card import LoadedModel, ModelCard

CARD = ModelCard("told", 1, "0123456789abcdef" * 4, "c", "d", 1, dose=DoseRequest())


class AllNoise(nn.Module):
    """Takes all that differs from 40 HU for noise."""

    def forward(self, seen: torch.Tensor) -> torch.Tensor:
        return seen[:, :1] - 0.04


def noisy_tissue(folder: Path, noise_hu: float) -> Path:
    """Slices of even tissue, 5 mm thick, with white noise."""
    generator = np.random.default_rng(3)
    stored = [
        np.round(1064 + generator.normal(0, noise_hu, (128, 128))).astype(np.int16)
        for _ in range(3)
    ]

    def edit(dataset: pydicom.Dataset, index: int) -> None:
        dataset.PixelData = stored[index].tobytes()

    write_series(
        folder, 3, edit=edit, Rows=128, Columns=128, SliceThickness=5, PixelRepresentation=1
    )
    return folder


def exported(source: Path, out: Path, dose: DoseRequest, **options: bool) -> Exported:
    model = AnyDoseModel(AllNoise(), normalize=Normalize()).eval()
    to = Export(out, **options)  # type: ignore[arg-type]
    return export_denoised(model, replace(CARD, dose=dose), only_series(source), to)


def images(folder: Path) -> NDArray[np.float64]:
    return np.stack([raw_hu(path) for path in sorted(folder.glob("*.dcm"))])


def test_a_ratio_is_applied_and_told(tmp_path: Path) -> None:
    source = noisy_tissue(tmp_path / "in", 30)
    result = exported(source, tmp_path / "out", DoseRequest("ratio", 4))
    assert result.report is not None
    assert result.report.details["dose"]["dose_ratio"] == 4  # type: ignore[index]
    before, after = images(source), images(tmp_path / "out")
    np.testing.assert_allclose(after, 40 + (before - 40) / 4, atol=0.51)
    header = pydicom.dcmread(next((tmp_path / "out").glob("*.dcm")))
    assert "As if scanned at 4 times the dose" in header.DerivationDescription
    assert "DOSE X4" in header.SeriesDescription


def test_a_full_dose_is_left_alone_to_the_last_value(tmp_path: Path) -> None:
    source = noisy_tissue(tmp_path / "in", 5)
    result = exported(source, tmp_path / "out", DoseRequest())
    assert result.report is not None
    assert "nothing to make up for" in str(result.report.details["dose"])
    np.testing.assert_array_equal(images(tmp_path / "out"), images(source))


def test_a_series_that_needs_nothing_is_skipped_where_that_is_asked(tmp_path: Path) -> None:
    quiet, noisy = noisy_tissue(tmp_path / "quiet", 5), noisy_tissue(tmp_path / "noisy", 60)
    skipped = exported(quiet, tmp_path / "out", DoseRequest(), skip_unneeded=True)
    assert skipped.report is None
    assert "nothing to make up for" in skipped.skipped
    assert not (tmp_path / "out").exists()
    written = exported(noisy, tmp_path / "out", DoseRequest(), skip_unneeded=True)
    assert written.report is not None
    assert not written.skipped


def test_other_ratios_are_other_images(tmp_path: Path) -> None:
    source = noisy_tissue(tmp_path / "in", 30)
    uids = set()
    for ratio in (2, 4):
        exported(source, tmp_path / f"out{ratio}", DoseRequest("ratio", ratio))
        uids |= {
            str(pydicom.dcmread(path, stop_before_pixels=True).SOPInstanceUID)
            for path in (tmp_path / f"out{ratio}").glob("*.dcm")
        }
    assert len(uids) == 6


def test_a_model_that_is_not_told_the_dose_says_so() -> None:
    loaded = LoadedModel(None, replace(CARD, dose=None), None)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="--strength"):
        loaded.at_dose(DoseRequest("ratio", 4))
