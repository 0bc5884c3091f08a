"""A series through a model slice by slice: as the whole volume would, and never whole in memory."""

from __future__ import annotations

import gc
import shutil
import threading
import time
import weakref
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
import torch
from helpers.derived import write_derived
from helpers.dicom import only_series, ramp, raw_hu, write_series
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from torch import nn

import pipeline.dicom.derived.encode
import pipeline.dicom.derived.publish
import pipeline.dicom.read.pixels
from pipeline.core.errors import LdctError
from pipeline.core.ordered_pool import map_in_order
from pipeline.dicom.read.pixels import read_slice
from pipeline.dicom.read.series import Series
from pipeline.dicom.read.stored_pixels import StoredPixels
from pipeline.dicom.read.volume import Slice, SliceReader, read_slices, read_volume
from pipeline.export.audit import SeriesAudit
from pipeline.export.denoised import MAX_DRIFT_CHARACTERS, export_denoised, with_drift
from pipeline.export.series import MAX_UNWRITTEN_SLICES, Export
from pipeline.inference.drift import NOT_KNOWN, Drift, drift
from pipeline.inference.traits import Traits, measured_slices, summary, traits
from pipeline.models.adapters.card import ModelCard

CARD = ModelCard("redcnn", 2, "0123456789abcdef" * 4, "c", "d", 1)


class Smoothing(nn.Module):
    def forward(self, image_hu: torch.Tensor) -> torch.Tensor:
        return nn.functional.avg_pool2d(image_hu, 3, 1, 1, count_include_pad=False)


class Between(nn.Module):
    """Weighs a slice's neighbours differently, so that their order shows."""

    neighbours = 2

    def forward(self, image_hu: torch.Tensor) -> torch.Tensor:
        weights = torch.tensor([0.1, 0.2, 0.4, 0.25, 0.05]).reshape(1, 5, 1, 1)
        return (image_hu * weights).sum(1, keepdim=True)


def whole(model: nn.Module, image_hu: NDArray[np.float32]) -> NDArray[np.float32]:
    """All slices in one batch, by indices into the whole volume."""
    reach = getattr(model, "neighbours", 0)
    near = np.arange(len(image_hu))[:, None] + np.arange(-reach, reach + 1)
    seen = image_hu[near.clip(0, len(image_hu) - 1)]
    return model(torch.from_numpy(seen))[:, 0].numpy()


#: What the header of a series says that was denoised by a model without a record of its training.
OPERATION = with_drift(CARD.operation(), NOT_KNOWN)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def series_of(folder: Path, count: int, *, blank: tuple[int, ...] = ()) -> Series:
    """Slices with padding; what is wrong with the blank ones shows only in their pixels."""

    def pad(dataset: Dataset, index: int) -> None:
        stored = ramp(index * 3)
        stored[0, : 2 + index % 3] = -2000
        dataset.PixelData = (np.zeros_like(stored) if index in blank else stored).tobytes()
        dataset.add_new("PixelPaddingValue", "SS", -2000)

    write_series(folder, count, edit=pad)
    return only_series(folder)


@pytest.mark.parametrize("model", [Smoothing(), Between()], ids=["slices", "neighbours"])
@pytest.mark.parametrize("count", [1, 2, 4, 11])
def test_the_stream_gives_what_the_whole_volume_gives(tmp_path, model, count):
    series = series_of(tmp_path / "in", count)
    report, refused, _ = export_denoised(model, CARD, series, Export(tmp_path / "out"))
    output_hu = whole(model, read_volume(series).volume.image_hu)
    clipped = write_derived(output_hu, series, OPERATION, tmp_path / "whole")
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")
    assert len(contents(tmp_path / "out")) == count
    assert report is not None
    assert report.instances == count
    assert report.details["clipped_pixels"] == clipped.pixels
    assert report.details["largest_clipped_excess_hu"] == clipped.max_excess_hu
    assert refused == []


@pytest.mark.parametrize("model", [Smoothing(), Between()], ids=["slices", "neighbours"])
def test_real_slices_too(tmp_path, test_data, model):
    series = only_series(test_data / "ct" / "head-ge-tilted")
    series = replace(series, instances=series.instances[:6])
    export_denoised(model, CARD, series, Export(tmp_path / "out"))
    output_hu = whole(model, read_volume(series).volume.image_hu)
    write_derived(output_hu, series, OPERATION, tmp_path / "whole", audit=SeriesAudit())
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")


@pytest.mark.parametrize("model", [Smoothing(), Between()], ids=["slices", "neighbours"])
@pytest.mark.parametrize("blank", [(0,), (5,), (5, 6, 10)])
def test_a_damaged_slice_is_refused_and_the_others_go_on(tmp_path, model, blank):
    """Its neighbours are then each other's, and the files are numbered without a gap."""
    series = series_of(tmp_path / "in", 11, blank=blank)
    report, refused, _ = export_denoised(model, CARD, series, Export(tmp_path / "out"))
    reading = read_volume(series)
    assert refused == reading.refusals
    assert [refusal.reason for refusal in refused] == [
        "every pixel has the same value: a blank frame"
    ] * len(blank)
    output_hu = whole(model, reading.volume.image_hu)
    write_derived(output_hu, reading.series, OPERATION, tmp_path / "whole", audit=SeriesAudit())
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")
    assert report is not None
    assert report.instances == 11 - len(blank)
    assert report.details["check"]["problems"] == 0


def test_a_series_without_a_good_slice_leaves_nothing(tmp_path):
    series = series_of(tmp_path / "in", 3, blank=(0, 1, 2))
    report, refused, _ = export_denoised(Smoothing(), CARD, series, Export(tmp_path / "out"))
    assert report is None
    assert len(refused) == 3
    assert names(tmp_path) == ["in"]


class FailsAt(Smoothing):
    """Gives no numbers for one slice, late in the series."""

    def __init__(self, slice_hu: NDArray[np.float32]) -> None:
        super().__init__()
        self.slice_hu = torch.from_numpy(slice_hu)

    def forward(self, image_hu: torch.Tensor) -> torch.Tensor:
        output = super().forward(image_hu).clone()
        output[(image_hu[:, 0] == self.slice_hu).all(dim=(1, 2))] = float("nan")
        return output


def test_a_failure_of_the_model_late_in_the_series_leaves_nothing(tmp_path):
    series = series_of(tmp_path / "in", 30)
    model = FailsAt(read_volume(series).volume.image_hu[25])
    with pytest.raises(LdctError, match="not numbers"):
        export_denoised(model, CARD, series, Export(tmp_path / "out", difference=True))
    assert names(tmp_path) == ["in"]


def test_a_failure_of_the_writer_leaves_nothing(tmp_path, monkeypatch):
    series = series_of(tmp_path / "in", 30)
    save, saved = pipeline.dicom.derived.encode._save_as_read, []

    def full(*arguments: Any) -> None:
        saved.append(arguments)
        if len(saved) == 12:
            raise OSError(28, "No space left on device")
        save(*arguments)

    monkeypatch.setattr(pipeline.dicom.derived.encode, "_save_as_read", full)
    with pytest.raises(OSError, match="No space"):
        export_denoised(Smoothing(), CARD, series, Export(tmp_path / "out"))
    assert names(tmp_path) == ["in"]
    assert len(saved) < 12 + MAX_UNWRITTEN_SLICES, "what waited is not begun"


def test_a_file_that_was_not_added_is_checked_as_well(tmp_path, monkeypatch):
    series = series_of(tmp_path / "in", 2)
    finish = pipeline.dicom.derived.publish.SeriesWriter.finish

    def with_a_stray(self: Any, name: str) -> None:
        (self._to.folder / "stray.dcm").write_bytes(b"no image")
        finish(self, name)

    monkeypatch.setattr(pipeline.dicom.derived.publish.SeriesWriter, "finish", with_a_stray)
    with pytest.raises(LdctError, match=r"rule readable: stray\.dcm"):
        export_denoised(Smoothing(), CARD, series, Export(tmp_path / "out"))
    assert names(tmp_path) == ["in"]


@pytest.mark.parametrize("model", [Smoothing(), Between()], ids=["slices", "neighbours"])
def test_memory_does_not_grow_with_the_series(tmp_path, monkeypatch, model):
    """Counted: slices that are decoded and not yet let go, of 60."""
    series = series_of(tmp_path / "in", 60)
    alive: set[int] = set()
    most = 0

    def counted(instance: Any) -> StoredPixels:
        nonlocal most
        pixels = read_slice(instance)
        alive.add(id(pixels))
        most = max(most, len(alive))
        weakref.finalize(pixels, alive.discard, id(pixels))
        return pixels

    monkeypatch.setattr(pipeline.dicom.read.pixels, "read_slice", counted)
    monkeypatch.setattr(shutil, "which", lambda name: None)  # no validators
    gc.collect()
    export_denoised(model, CARD, series, Export(tmp_path / "out", difference=True))
    assert len(contents(tmp_path / "out")) == 60
    # Decoded ahead, in a batch with its neighbours, waiting to be written.
    assert 8 <= most <= 26


class Waits(Smoothing):
    """Computes its fifth batch only once a slice has been written."""

    def __init__(self, written: threading.Event) -> None:
        super().__init__()
        self.written, self.batches = written, 0

    def forward(self, image_hu: torch.Tensor) -> torch.Tensor:
        self.batches += 1
        assert self.batches < 5 or self.written.wait(timeout=60), "nothing was written meanwhile"
        return super().forward(image_hu)


def test_slices_are_written_and_checked_while_others_are_computed(tmp_path, monkeypatch):
    series = series_of(tmp_path / "in", 24)
    checked = threading.Event()
    add = pipeline.dicom.derived.publish.SeriesCheck.add

    def recorded(self: Any, path: Path, processed: Slice) -> None:
        assert path.stat().st_size > 0
        add(self, path, processed)
        checked.set()

    monkeypatch.setattr(pipeline.dicom.derived.publish.SeriesCheck, "add", recorded)
    report, *_ = export_denoised(Waits(checked), CARD, series, Export(tmp_path / "out"))
    assert report is not None
    assert report.details["check"]["problems"] == 0


def test_slices_come_as_the_volume_has_them(tmp_path):
    series = series_of(tmp_path / "in", 11, blank=(4,))
    reader, reading = SliceReader(series), read_volume(series)
    found = np.stack([slice_.image_hu for slice_ in reader.slices()])
    np.testing.assert_array_equal(found, reading.volume.image_hu)
    np.testing.assert_array_equal(found[4], raw_hu(tmp_path / "in" / "005.dcm").clip(-1000))
    assert reader.series == reading.series
    assert reader.refusals == reading.refusals


def test_drift_is_reported_as_of_the_whole_volume(tmp_path, test_data):
    series = only_series(test_data / "ct" / "abdomen-ge-crlm1004")
    series = replace(series, instances=series.instances[10:22])
    volume = read_volume(series).volume
    chosen = measured_slices(len(series.instances))
    assert len(chosen) == 5
    found = traits(read_slices(series, chosen))
    assert found == traits(volume)
    assert found.numbers["noise"] > 1
    noisier = found.numbers | {"noise": found.numbers["noise"] * 3}
    seen = summary([Traits(found.words | {"kernel": "LUNG"}, noisier)])
    card = replace(CARD, seen=seen.to_dict())
    report, *_ = export_denoised(nn.Identity(), card, series, Export(tmp_path / "out"))
    assert report is not None
    told = drift(traits(volume), seen)
    assert report.details["drift"] == list(told.unlike)
    assert [line.split()[0] for line in told.unlike] == ["noise", "kernel"]
    header = pydicom.dcmread(next((tmp_path / "out").glob("*.dcm")), stop_before_pixels=True)
    assert header.DerivationDescription.startswith(f"{told.line} Noise reduction")
    again, *_ = export_denoised(nn.Identity(), CARD, series, Export(tmp_path / "unknown"))
    assert again is not None
    assert "not known" in again.details["drift_line"]
    assert "drift" not in again.details


def test_a_long_drift_in_any_script_leaves_room_for_the_operation():
    found = Drift(("kernel Übung " + "x" * 600,))
    description = with_drift(CARD.operation(), found).description
    assert description.isascii()
    assert description[:MAX_DRIFT_CHARACTERS].endswith("x...")
    assert description[MAX_DRIFT_CHARACTERS:] == f" {CARD.operation().description}"


def test_work_is_done_in_order_and_no_further_ahead_than_asked():
    begun: list[int] = []

    def work(item: int) -> int:
        begun.append(item)
        time.sleep(0.02 if item % 3 == 0 else 0.0)
        return item * item

    found = map_in_order(work, range(20), threads=3, max_ahead=4)
    assert begun == [], "nothing before it is asked for"
    for number, square in enumerate(found):
        assert square == number * number
        assert max(begun) <= number + 3
    assert sorted(begun) == list(range(20))


def test_what_is_not_begun_when_the_caller_stops_is_never_begun():
    begun: list[int] = []
    go_on = threading.Event()

    def work(item: int) -> int:
        begun.append(item)
        if item:
            go_on.wait(timeout=60)
        return item

    found: Iterator[int] = map_in_order(work, range(100), threads=1, max_ahead=5)
    assert next(found) == 0
    threading.Timer(0.1, go_on.set).start()
    found.close()  # type: ignore[attr-defined]
    assert len(begun) <= 2
