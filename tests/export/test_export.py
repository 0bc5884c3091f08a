"""What is handed over: checked, whole or not at all, the same at every run; and its difference."""

from __future__ import annotations

import os
import re
import shutil
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
import torch
from helpers.dicom import (
    ROOT_UID,
    ct_slice,
    in_order,
    only_series,
    ramp,
    raw_stored,
    save,
    write_series,
)
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from torch import nn

import pipeline.core.atomic_files
import pipeline.dicom.derived.difference
import pipeline.dicom.derived.write
from pipeline.core.errors import ConfigError, LdctError
from pipeline.dicom.derived import check, dicom3tools, encode
from pipeline.dicom.derived.check import check_series, check_tree
from pipeline.dicom.derived.difference import PADDING, difference_of, write_slice_difference
from pipeline.dicom.derived.write import SUBTRACTED, SeriesTarget
from pipeline.dicom.read.pixels import read_slice
from pipeline.dicom.read.series import Series
from pipeline.dicom.read.volume import Slice, read_volume
from pipeline.export.denoised import export_denoised
from pipeline.export.series import Export, publish
from pipeline.export.simulated import export_simulated
from pipeline.models.adapters.card import ModelCard
from pipeline.physics.lowdose import LowDoseCT

CARD = ModelCard("redcnn", 2, "0123456789abcdef" * 4, "c", "d", 1)


class Smoothing(nn.Module):
    """Stands for a network: it changes nearly every pixel, to values between stored ones."""

    def forward(self, image_hu: torch.Tensor) -> torch.Tensor:
        return nn.functional.avg_pool2d(image_hu, 3, 1, 1, count_include_pad=False)


@pytest.fixture
def small(tmp_path: Path) -> Series:
    def pad(dataset: Dataset, index: int) -> None:
        stored = ramp(index)
        stored[0, :4] = -2000
        dataset.PixelData = stored.tobytes()
        dataset.add_new("PixelPaddingValue", "SS", -2000)
        dataset.WindowCenter, dataset.WindowWidth = "40", "400"

    write_series(tmp_path / "source", 3, edit=pad)
    return only_series(tmp_path / "source")


def some_slices(source: Path, folder: Path, count: int = 3) -> Series:
    paths = in_order(source)
    folder.mkdir()
    for path in paths[len(paths) // 2 :][:count]:
        shutil.copy(path, folder / path.name)
    return only_series(folder)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def hu_of(folder: Path) -> NDArray[np.float32]:
    return read_volume(only_series(folder)).volume.image_hu


REAL = ["chest-ge-lidc0001", "abdomen-ge-crlm1004", "head-ge-tilted"]


@pytest.mark.parametrize("syntax", ["none", "j2k", "jpegls", "rle"])
@pytest.mark.parametrize("name", REAL)
def test_a_series_and_its_difference_are_handed_over_without_a_new_finding(
    tmp_path, test_data, require_program, name, syntax
):
    for program in (dicom3tools.IOD_PROGRAM, dicom3tools.ENTITY_PROGRAM):
        require_program(program)
    series = some_slices(test_data / "ct" / name, tmp_path / "in")
    report, refused, _ = export_denoised(
        Smoothing(), CARD, series, Export(tmp_path / "out", syntax=syntax, difference=True)
    )
    assert report is not None
    assert refused == []
    assert report.folder == "out"
    assert report.details["difference"]["folder"] == "out-difference"
    for part in (report.to_dict(), report.details["difference"]):
        assert part["instances"] == 3
        found_in_source = part["check"].pop("from_source")
        assert all(text.startswith(("dciodvfy: ", "dcentvfy: ")) for text in found_in_source)
        assert part["check"] == {
            "problems": 0,
            "validated": True,
            "programs": ["dciodvfy", "dcentvfy"],
            "files": 3,
            "of": 3,
        }
    assert names(tmp_path) == ["in", "out", "out-difference"]


def test_another_model_has_other_uids_and_the_same_one_the_same_bytes(small, tmp_path):
    other = ModelCard("redcnn", 3, "fedcba9876543210" * 4, "c", "d", 1)
    for folder, card in (("one", CARD), ("two", CARD), ("three", other)):
        export_denoised(Smoothing(), card, small, Export(tmp_path / folder, difference=True))
    assert contents(tmp_path / "one") == contents(tmp_path / "two")
    assert contents(tmp_path / "one-difference") == contents(tmp_path / "two-difference")
    uids = [
        {pydicom.dcmread(path).SOPInstanceUID for path in (tmp_path / folder).iterdir()}
        for folder in ("one", "one-difference", "three", "three-difference")
    ]
    assert len(set.union(*uids)) == 12


def test_the_equipment_names_software_model_version_and_weights(small, tmp_path):
    export_denoised(Smoothing(), CARD, small, Export(tmp_path / "out"))
    equipment = pydicom.dcmread(tmp_path / "out" / "CT.0001.dcm").ContributingEquipmentSequence[-1]
    assert equipment.Manufacturer == "ldct"
    assert equipment.ManufacturerModelName == "redcnn"
    assert list(equipment.SoftwareVersions)[1] == "2 sha256:0123456789abcdef"
    assert CARD.weights_sha256 in equipment.ContributionDescription


def breaking(monkeypatch: pytest.MonkeyPatch, edit: Callable[[Dataset], object]) -> None:
    """Let every derived header be written with a fault."""
    make = pipeline.dicom.derived.write.derive_header

    def faulty(*arguments: object, **options: object) -> Dataset:
        header = make(*arguments, **options)
        edit(header)
        return header

    monkeypatch.setattr(pipeline.dicom.derived.write, "derive_header", faulty)


@pytest.mark.parametrize(
    ("keyword", "value", "message"),
    [
        ("ImageType", ["ORIGINAL", "PRIMARY", "AXIAL"], "rule image-type: CT.0001.dcm ImageType"),
        ("SourceImageSequence", [], "rule one-to-one: CT.0001.dcm SourceImageSequence"),
        ("StudyInstanceUID", f"{ROOT_UID}.9", "rule study: CT.0001.dcm StudyInstanceUID"),
        ("PatientID", "someone else", "rule patient: CT.0001.dcm PatientID"),
        ("PixelSpacing", ["1", "1"], "rule geometry: CT.0001.dcm PixelSpacing"),
        ("SeriesDescription", "AI of SECRET-4711", "rule identity: CT.0001.dcm SeriesDescription"),
        ("BodyPartExamined", "thorax", "rule dciodvfy: BodyPartExamined"),
    ],
)
def test_a_series_that_breaks_a_rule_is_not_handed_over(
    small, tmp_path, monkeypatch, require_program, keyword, value, message
):
    require_program("dciodvfy")
    breaking(monkeypatch, lambda header: setattr(header, keyword, value))
    with pytest.raises(
        LdctError, match=f"out fails its check and is not written: {re.escape(message)}"
    ) as error:
        export_denoised(Smoothing(), CARD, small, Export(tmp_path / "out", difference=True))
    assert "SECRET" not in str(error.value)
    assert ROOT_UID not in str(error.value)
    assert names(tmp_path) == ["source"]


def test_a_simulated_series_is_checked_too(tmp_path, monkeypatch):
    save(ct_slice(0, np.tile(ramp(), (4, 4))), tmp_path / "source" / "0.dcm")
    series = only_series(tmp_path / "source")
    physics = LowDoseCT(dose_fraction=0.25, views=60)
    report, *_ = export_simulated(physics, series, Export(tmp_path / "good"), seed=1)
    assert report is not None
    assert report.details["check"]["problems"] == 0
    breaking(monkeypatch, lambda header: delattr(header, "DerivationDescription"))
    with pytest.raises(LdctError, match="rule derivation"):
        export_simulated(physics, series, Export(tmp_path / "out"), seed=1)
    assert names(tmp_path) == ["good", "source"]


def test_a_difference_that_fails_leaves_the_whole_series_before_it(small, tmp_path, monkeypatch):
    monkeypatch.setattr(pipeline.dicom.derived.difference, "PADDING", 0)
    with pytest.raises(
        LdctError, match="out-difference fails its check and is not written: rule padding"
    ):
        export_denoised(Smoothing(), CARD, small, Export(tmp_path / "out", difference=True))
    assert names(tmp_path) == ["out", "source"]
    assert check_series(tmp_path / "out", small).problems == []


def test_an_unknown_syntax_is_refused_before_any_work(small, tmp_path):
    with pytest.raises(ConfigError, match="choose one of"):
        export_denoised(Smoothing(), CARD, small, Export(tmp_path / "out", syntax="gif"))
    assert names(tmp_path) == ["source"]


#: "difference": the derived series has taken its place, its difference has not.
MOMENTS = ["second slice", "check", "before the move", "after the move", "difference"]


@pytest.mark.parametrize("moment", MOMENTS)
def test_a_kill_at_any_moment_leaves_whole_series_only(small, tmp_path, moment):
    """Killed for real, in a process of its own: nothing is left to tidy up."""
    image_hu = read_volume(small).volume.image_hu + 3
    whole, out = tmp_path / "whole", tmp_path / "out"
    handed_over(small, image_hu, whole)
    child = os.fork()
    if child == 0:
        kill_at(moment)
        handed_over(small, image_hu, out)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status), "the run came to its end"
    there = {name for name in names(tmp_path) if not name.startswith(".")}
    late = moment in ("after the move", "difference")
    assert there == {"source", "whole", "whole-difference"} | ({"out"} if late else set())
    if late:
        assert contents(out) == contents(whole)
    handed_over(small, image_hu, out)
    assert contents(out) == contents(whole)
    assert contents(tmp_path / "out-difference") == contents(tmp_path / "whole-difference")


def handed_over(series: Series, image_hu: NDArray[np.float32], folder: Path) -> None:
    """As export_denoised does, without a model: torch's threads do not survive a fork."""
    pairs = zip(series.instances, image_hu, strict=True)
    made = (Slice(instance, read_slice(instance), slice_hu) for instance, slice_hu in pairs)
    publish(made, series, CARD.operation(), Export(folder, difference=True))


def kill_at(moment: str) -> None:
    saves, moves = {"second slice": 2}.get(moment, 0), 0
    count = 0

    def die(*_: object, **__: object) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    save, move = encode._save_as_read, os.replace

    def counted(*arguments: Any) -> None:
        nonlocal count
        count += 1
        if count == saves:
            die()
        save(*arguments)

    def moved(*arguments: object) -> None:
        nonlocal moves
        moves += 1
        if moment == "before the move" or moves == 2:
            die()
        move(*arguments)
        if moment == "after the move":
            die()

    if saves:
        encode._save_as_read = counted
    elif moment == "check":
        check.validate = die  # also where dicom3tools are not installed
    else:
        os.replace = moved


def test_the_difference_is_denoised_minus_source_in_hu(small, tmp_path):
    export_denoised(Smoothing(), CARD, small, Export(tmp_path / "out", difference=True))
    source = read_volume(small).volume
    denoised = hu_of(tmp_path / "out")
    read = read_volume(only_series(tmp_path / "out-difference")).volume
    np.testing.assert_array_equal(read.valid, source.valid)
    assert not source.valid.all()
    expected = (denoised - source.image_hu)[source.valid]
    np.testing.assert_array_equal(read.image_hu[source.valid], expected)
    assert np.abs(expected).max() > 10


def test_the_differences_of_real_slices_are_exact(tmp_path, test_data):
    series = some_slices(test_data / "ct" / "chest-ge-lidc0001", tmp_path / "in")
    export_denoised(
        Smoothing(), CARD, series, Export(tmp_path / "out", difference=True, syntax="jpegls")
    )
    source = read_volume(series).volume
    valid = source.valid
    expected = hu_of(tmp_path / "out")[valid] - source.image_hu[valid]
    np.testing.assert_array_equal(hu_of(tmp_path / "out-difference")[valid], expected)


@pytest.mark.parametrize(
    ("dtype", "bits", "low", "high"),
    [
        (np.uint16, 16, 0, 65535),
        (np.int16, 16, -32768, 32767),
        (np.uint16, 12, 0, 4095),
        (np.int16, 12, -2048, 2047),
    ],
)
def test_every_difference_of_stored_values_can_be_held(tmp_path, dtype, bits, low, high):
    """All of them are HU of the extended CT scale: what lies beyond is no measurement."""
    stored = ramp().astype(dtype)
    stored[0] = low
    stored[1] = high
    source = ct_slice(
        0, stored, BitsStored=bits, HighBit=bits - 1, RescaleSlope="0.25", RescaleIntercept="-1000"
    )
    save(source, tmp_path / "in" / "0.dcm")
    series = only_series(tmp_path / "in")
    wanted = stored.astype(np.float64)
    wanted[0], wanted[1] = high, low
    image_hu = (wanted * 0.25 - 1000).astype(np.float32)[None]
    (tmp_path / "out").mkdir()
    (one,) = series.instances
    to = SeriesTarget(tmp_path / "out", CARD.operation())
    write_slice_difference(Slice(one, read_slice(one), image_hu[0]), to, 1)
    header = pydicom.dcmread(tmp_path / "out" / "CT.0001.dcm")
    step_hu = float(header.RescaleSlope)
    found = raw_stored(tmp_path / "out" / "CT.0001.dcm") * step_hu
    assert np.abs(found - (wanted - stored) * 0.25).max() <= step_hu / 2
    assert (step_hu > 0.25) == (bits == 16), "coarser only where there is no other way"
    assert (header.BitsStored, header.PixelRepresentation, header.RescaleIntercept) == (16, 1, 0)


def test_a_difference_says_so_and_from_what(small, tmp_path):
    export_denoised(Smoothing(), CARD, small, Export(tmp_path / "out", difference=True))
    for name, instance in zip(names(tmp_path / "out"), small.instances, strict=True):
        derived = pydicom.dcmread(tmp_path / "out" / name)
        difference = pydicom.dcmread(tmp_path / "out-difference" / name)
        assert difference.SeriesDescription == "AI DIFFERENCE redcnn v2"
        (code,) = difference.DerivationCodeSequence
        assert (code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning) == SUBTRACTED
        assert [item.ReferencedSOPInstanceUID for item in difference.SourceImageSequence] == [
            instance.header.SOPInstanceUID,
            derived.SOPInstanceUID,
        ]
        assert difference.SeriesNumber == derived.SeriesNumber + 1
        assert difference.SeriesInstanceUID != derived.SeriesInstanceUID
        assert (difference.WindowCenter, difference.WindowWidth) == (0, 100)
        assert difference.WindowCenterWidthExplanation == "DIFFERENCE"
        assert (derived.WindowCenter, derived.WindowWidth) == (40, 400)
        assert difference.PixelPaddingValue == PADDING
        assert "PixelPaddingRangeLimit" not in difference


def test_a_model_that_changes_nothing_has_a_difference_of_nothing(tmp_path):
    write_series(tmp_path / "source", 2)
    series = only_series(tmp_path / "source")
    report, *_ = export_denoised(
        nn.Identity(), CARD, series, Export(tmp_path / "out", difference=True)
    )
    assert report is not None
    assert report.details["difference"]["check"]["problems"] == 0
    assert not raw_stored(tmp_path / "out-difference" / "CT.0001.dcm").any()


def test_what_is_handed_over_passes_the_check_of_a_folder(small, tmp_path):
    export_denoised(Smoothing(), CARD, small, Export(tmp_path / "all" / "out", difference=True))
    found = check_tree(tmp_path / "all", tmp_path / "source")
    assert [checked.name for checked in found] == ["out", "out-difference"]
    assert [checked.problems for checked in found] == [[], []]
    for path in (tmp_path / "all" / "out-difference").iterdir():
        dataset = pydicom.dcmread(path)
        del dataset.SourceImageSequence[1]
        dataset.save_as(path)
    _, difference = check_tree(tmp_path / "all")
    assert {problem.rule for problem in difference.problems} == {"one-to-one"}


def test_the_differences_operation_differs_from_the_models():
    operation, difference = CARD.operation(), difference_of(CARD.operation())
    assert difference.identity == operation.identity
    assert difference.product != operation.product
    assert difference.description.endswith(operation.description)


def test_a_derived_series_says_its_strength_and_is_another_one(small, tmp_path):
    half = replace(CARD, strength=0.5)
    for folder, card in (("whole", CARD), ("half", half)):
        export_denoised(Smoothing(), card, small, Export(tmp_path / folder))
    whole, mixed = (pydicom.dcmread(tmp_path / f / "CT.0001.dcm") for f in ("whole", "half"))
    assert mixed.SeriesDescription.startswith("AI DENOISED redcnn v2 STRENGTH 0.5")
    assert "Strength 0.5: output = input + 0.5 * (denoised - input)" in mixed.DerivationDescription
    assert "trength" not in whole.SeriesDescription + whole.DerivationDescription
    assert mixed.SOPInstanceUID != whole.SOPInstanceUID
    assert mixed.SeriesInstanceUID != whole.SeriesInstanceUID
    assert half.slug == "redcnn-v2-strength0.5"
    assert CARD.slug == "redcnn-v2"
