"""Pixels that are no measurement though no attribute says so: lossy padding, crops, drawn lines."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pydicom
import pytest
import torch
from helpers.body import body_hu, outside_circle
from helpers.dicom import KEY, ct_slice, in_order, only_series, raw_stored, save
from pydicom.uid import JPEG2000, JPEGLSNearLossless
from torch import nn

from pipeline.core.errors import NothingUsableError
from pipeline.dicom.derived.check import check_tree
from pipeline.dicom.read.pixels import read_pixels
from pipeline.dicom.read.series import find_series
from pipeline.dicom.read.unmeasured_pixels import DRAWN, LOSSY_PADDING
from pipeline.dicom.read.volume import read_volume
from pipeline.export.denoised import export_denoised
from pipeline.export.series import Export
from pipeline.ingest.ingest import ingest
from pipeline.models.adapters.card import ModelCard
from pipeline.store.store import Store

CARD = ModelCard("redcnn", 2, "0123456789abcdef" * 4, "c", "d", 1)
SIDE = 64
LOSSY = {"j2k": (JPEG2000, {"j2k_cr": [10]}), "jpegls": (JPEGLSNearLossless, {"jls_error": 8})}


class Smoothing(nn.Module):
    def forward(self, image_hu: torch.Tensor) -> torch.Tensor:
        return nn.functional.avg_pool2d(image_hu, 3, 1, 1, count_include_pad=False)


def stored_body(index: int) -> np.ndarray:
    """HU as stored values of 16 signed bits with intercept 0."""
    return body_hu(slices=index + 1, side=SIDE)[index].astype(np.int16)


def write(folder: Path, planes, **attributes) -> None:
    for index, stored in enumerate(planes):
        dataset = ct_slice(index, stored.astype(np.int16), RescaleIntercept="0", **attributes)
        save(dataset, folder / f"{index}.dcm")


@pytest.mark.parametrize("codec", LOSSY)
@pytest.mark.parametrize("fill_hu", [-2000, -1500])
def test_lossy_padding_is_known_by_place_and_restored_bit_for_bit(tmp_path, codec, fill_hu):
    outside = outside_circle(SIDE)
    write(tmp_path / "in", [np.where(outside, fill_hu, stored_body(n)) for n in range(3)])
    for path in (tmp_path / "in").iterdir():
        dataset = pydicom.dcmread(path)
        syntax, options = LOSSY[codec]
        dataset.compress(syntax, generate_instance_uid=False, **options)
        dataset.LossyImageCompression = "01"
        dataset.save_as(path)
    series = only_series(tmp_path / "in")
    volume = read_volume(series).volume
    assert (volume.valid == ~outside).mean() > 0.999
    assert volume.image_hu.min() > (fill_hu - 1024) / 2 - 1
    assert LOSSY_PADDING in read_volume(series).series.warnings

    export_denoised(Smoothing(), CARD, series, Export(tmp_path / "out"))
    for source, derived in zip(in_order(tmp_path / "in"), in_order(tmp_path / "out"), strict=True):
        padded = read_pixels(pydicom.dcmread(source)).padded
        before, after = pydicom.dcmread(source).pixel_array, raw_stored(derived)
        np.testing.assert_array_equal(after[padded], before[padded])
        assert (after[~padded] != before[~padded]).mean() > 0.5
    assert [one.problems for one in check_tree(tmp_path / "out", tmp_path / "in")] == [[]]


def test_lossless_streaks_and_noise_stay_measured(tmp_path):
    plane = stored_body(0)
    plane[:6, 30:36] = -1100  # at the border, but no source of this one lost anything
    write(tmp_path, [plane])
    assert read_volume(only_series(tmp_path)).volume.valid.all()


def test_a_fill_is_known_in_a_slice_that_was_cropped(tmp_path):
    """No attribute says it, and only one corner has it."""
    plane = stored_body(0)
    plane[:20, :20] = -2048
    write(tmp_path, [plane])
    volume = read_volume(only_series(tmp_path)).volume
    np.testing.assert_array_equal(volume.valid[0], plane != -2048)
    assert volume.image_hu[0, 0, 0] == -1000


def drawn_over(folder: Path) -> np.ndarray:
    """Four slices, in the third a white line with black edges; returns where."""
    planes = [stored_body(n) for n in range(4)]
    lines = np.zeros((SIDE, SIDE), bool)
    lines[30:33, 5:60] = True
    planes[2][lines] = -32768
    planes[2][31, 5:60] = 32767
    write(folder, planes)
    return lines


def test_drawn_lines_are_kept_and_touch_nothing(tmp_path):
    lines = drawn_over(tmp_path / "in")
    series = only_series(tmp_path / "in")
    exported = export_denoised(Smoothing(), CARD, series, Export(tmp_path / "out"))
    assert DRAWN in exported.report.to_dict()["warnings"]
    before = raw_stored(in_order(tmp_path / "in")[2]).astype(int)
    after = raw_stored(in_order(tmp_path / "out")[2]).astype(int)
    np.testing.assert_array_equal(after[lines], before[lines])
    tissue = np.zeros(lines.shape, bool)
    tissue[26:37, 31:33] = True
    assert np.abs(after - before)[tissue & ~lines].max() < 100


def test_a_slice_that_was_drawn_over_is_not_stored_for_training(tmp_path):
    drawn_over(tmp_path / "in")
    report = ingest(tmp_path / "in", Store(tmp_path / "store"), key=KEY)
    assert [row.slices for row in report.series] == [3]
    (refusal,) = report.refusals
    assert (refusal.path.name, refusal.attribute) == ("2.dcm", "PixelData")
    assert "left out of the training" in refusal.reason


def test_a_series_that_is_all_drawn_over_is_refused_for_training(tmp_path):
    plane = stored_body(0)
    plane[30:33] = 32767
    write(tmp_path / "in", [plane])
    with pytest.raises(NothingUsableError, match="drawn"):
        ingest(tmp_path / "in", Store(tmp_path / "store"), key=KEY)
    assert len(find_series(tmp_path / "in").series) == 1
