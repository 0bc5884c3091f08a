"""How a denoiser is computed: the fastest way that gives what fp32 gives, and always the same."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pydicom
import pytest
import torch
from helpers.dicom import only_series, write_series
from torch import nn

from pipeline.config.sections import Normalize
from pipeline.core import measured_choices
from pipeline.core.errors import ConfigError
from pipeline.export.denoised import export_denoised
from pipeline.export.series import Export
from pipeline.models.adapters.any_dose import AnyDoseModel, at_dose_ratio
from pipeline.models.adapters.base import HUModel, Identity, ModelAdapter
from pipeline.models.adapters.card import ModelCard
from pipeline.models.computing import choice, processor, ways
from pipeline.models.computing.choice import MIN_SLICES, Choice, checked, choose
from pipeline.models.computing.ways import FP32, LIMIT, Difference, Way, computed_by, convolutions
from pipeline.models.swift import SwiftUNet
from pipeline.models.winograd.conv import Conv2d

SHAPE = (96, 80)
CARD = ModelCard("swift", 3, "0123456789abcdef" * 4, "c", "d", 1)
EVERY_WAY = [
    Way("bf16"),
    Way("bf16_layers", ("network.first", "network.last"), 16),
    Way("fp32_direct"),
]


@pytest.fixture(autouse=True)
def fresh_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    folder = tmp_path / "cache"
    monkeypatch.setenv("LDCT_CACHE_DIR", str(folder))
    monkeypatch.setattr(processor, "_cpu_has_fast_bf16", lambda: True)
    return folder


@pytest.fixture
def pretend(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], list[str]]:
    """Every way but fp32 takes so many times its time; returns what was timed."""

    def times(share: float) -> list[str]:
        timed: list[str] = []

        def best(ways, rounds: int) -> dict[str, float]:
            timed.extend(ways)
            return {name: 1.0 if name == "fp32" else share for name in ways}

        monkeypatch.setattr(choice, "best_in_turns", best)
        return timed

    return times


def denoiser(*, change_hu: float = 30.0) -> HUModel:
    """Changes voxels by about so much, in every layer of a small U-Net."""
    torch.manual_seed(0)
    network = SwiftUNet(channels=(8, 8, 8))
    nn.init.normal_(network.last.weight, std=change_hu / 1000)
    return HUModel(network, normalize=Normalize(), residual=True).eval()


def chosen(model: nn.Module, asked: str = "auto", slices: int = 100) -> Choice:
    return choose(model, network="n", shape=SHAPE, slices=slices, asked=asked)


# What is chosen


def test_a_faster_way_that_is_near_enough_is_chosen(pretend) -> None:
    pretend(0.5)
    found = chosen(denoiser())
    assert found.way.name in ("bf16", "bf16_layers")
    assert found.seconds["fp32"] == 1.0
    assert found.difference is not None
    assert found.difference.within(LIMIT, choice.MARGIN)


@pytest.mark.parametrize("share", [0.95, 2.0, 20.0])
def test_a_way_that_gains_nothing_is_not(pretend, share: float) -> None:
    pretend(share)
    found = chosen(denoiser())
    assert found.way == FP32
    assert "no other way is faster" in found.why


def test_a_way_that_is_too_far_from_fp32_is_not(pretend, monkeypatch) -> None:
    timed = pretend(0.1)
    monkeypatch.setattr(choice, "LIMIT", Difference(1e-9, 1e-9))
    for asked in ("auto", "bf16"):
        found = chosen(denoiser(), asked)
        assert found.way == FP32
        assert "near to fp32" in found.why
    assert not timed, "what may not be taken is not timed"


def test_bf16_that_is_no_number_is_not(pretend, monkeypatch) -> None:
    pretend(0.1)
    plain = ways.computed_by

    def damaged(model: ModelAdapter, way: Way) -> ModelAdapter:
        other = plain(model, way)
        if way.name != "fp32":
            other.register_forward_hook(lambda *_: torch.full((1, 1, *SHAPE), float("nan")))
        return other

    monkeypatch.setattr(choice, "computed_by", damaged)
    assert chosen(denoiser()).way == FP32
    assert chosen(denoiser(), "bf16").way == FP32


def test_only_convolutions_that_hardly_reach_the_output_are_rounded(pretend) -> None:
    pretend(0.5)
    model = denoiser(change_hu=2000.0)  # so much that bf16 in all of the network is HU away
    found = chosen(model)
    whole = computed_by(model, Way("bf16"))
    image = torch.from_numpy(choice.synthetic_slice_hu(SHAPE))[None, None]
    with torch.inference_mode():
        difference = ways.difference(whole(image)[0, 0].numpy(), model(image)[0, 0].numpy())
    assert not difference.within(LIMIT)
    assert found.way.name in ("fp32", "bf16_layers")
    assert set(found.way.layers) < set(convolutions(model))


def test_what_is_asked_for_is_not_timed(pretend) -> None:
    timed = pretend(20.0)
    assert chosen(denoiser(), "fp32") == Choice(FP32, "asked for")
    assert chosen(denoiser(), "bf16", slices=1).way.name in ("bf16", "bf16_layers")
    assert not timed
    with pytest.raises(ConfigError, match="--compute fp16"):
        choice_of_words("fp16")


def choice_of_words(text: str) -> str:
    from pipeline.config.computing import require_compute

    return require_compute(text)


def test_short_series_and_processors_without_bf16_are_left_in_fp32(pretend, monkeypatch) -> None:
    pretend(0.1)
    assert chosen(denoiser(), slices=MIN_SLICES - 1).way == FP32
    assert chosen(denoiser(), slices=MIN_SLICES).way != FP32
    monkeypatch.setattr(processor, "_cpu_has_fast_bf16", lambda: False)
    assert "no bf16 arithmetic" in chosen(denoiser()).why


def test_pytorchs_own_convolutions_are_tried_where_winograds_are_used(pretend, monkeypatch) -> None:
    pretend(0.5)
    monkeypatch.setattr(processor, "_cpu_has_fast_bf16", lambda: False)
    network = nn.Sequential(Conv2d(1, 4, 3, padding=1), Conv2d(4, 1, 3, padding=1))
    model = HUModel(network, normalize=Normalize(), residual=True).eval()
    assert chosen(model).way == Way("fp32_direct")
    layers = [each for each in computed_by(model, Way("fp32_direct")).modules()]
    assert [each.direct for each in layers if isinstance(each, Conv2d)] == [True, True]
    assert not any(each.direct for each in model.modules() if isinstance(each, Conv2d))


def test_the_series_at_hand_decides_last(monkeypatch) -> None:
    model = denoiser()
    image_hu = choice.synthetic_slice_hu(SHAPE)
    near = checked(Choice(Way("bf16"), "measured"), model, image_hu)
    monkeypatch.setattr(choice, "LIMIT", Difference(1e-6, 1e-6))
    far = checked(Choice(Way("bf16"), "measured"), model, image_hu)
    assert near.way == Way("bf16")
    assert near.difference is not None
    assert near.difference.voxel_hu > 0
    assert far.way == FP32
    assert "on this series" in far.why


# HU


@pytest.mark.parametrize("way", EVERY_WAY, ids=lambda way: way.name)
def test_an_identity_changes_nothing_in_any_way(way: Way) -> None:
    image = torch.tensor([-1024.0, -1000, -0.25, 0, 40.5, 3071, 12_000]).repeat(64, 9)[None, None]
    untrained = SwiftUNet(channels=(8, 8, 8))  # its last layer is zero
    for model in (
        HUModel(untrained, normalize=Normalize(), residual=True),
        AnyDoseModel(SwiftUNet(channels=(8, 8), inputs=2), normalize=Normalize()),
    ):
        there = way.layers if hasattr(model.network, "first") else ()
        with torch.inference_mode():
            output = computed_by(model.eval(), Way(way.name, there, way.layers_in_all))(image)
        assert torch.equal(output, image)
        assert output.dtype == torch.float32
    plain = HUModel(Identity(), normalize=Normalize(), residual=True)
    assert chosen(plain, "bf16").way == FP32


def test_the_dose_is_that_of_the_series(pretend) -> None:
    torch.manual_seed(0)
    network = SwiftUNet(channels=(8, 8), inputs=2)
    nn.init.normal_(network.last.weight, std=0.03)
    model = AnyDoseModel(network, normalize=Normalize()).eval()
    image = torch.from_numpy(choice.synthetic_slice_hu(SHAPE))[None, None]
    for way in (Way("bf16"), Way("bf16_layers", ("network.last",), 8)):
        with torch.inference_mode():
            nothing = at_dose_ratio(computed_by(model, way), 1.0)(image)
            much = at_dose_ratio(computed_by(model, way), 10.0)(image)
        assert torch.equal(nothing, image)
        assert not torch.equal(much, image)


# What is kept


def files(folder: Path) -> list[Path]:
    return list(folder.rglob(measured_choices.CHOICE))


def test_what_was_chosen_once_is_kept(pretend, fresh_cache: Path) -> None:
    timed = pretend(0.5)
    first = chosen(denoiser())
    before = len(timed)
    pretend(5.0)
    assert chosen(denoiser()) == first
    assert len(timed) == before
    assert len(files(fresh_cache)) == 1
    chosen(denoiser(), "bf16")
    choose(denoiser(), network="other", shape=SHAPE, slices=100, asked="auto")
    assert len(files(fresh_cache)) == 3


@pytest.mark.parametrize("text", ["", "{", "[]", '{"facts": {}, "choice": {}}', "null"])
def test_a_damaged_choice_is_measured_again(pretend, fresh_cache: Path, text: str) -> None:
    pretend(0.5)
    first = chosen(denoiser())
    (kept,) = files(fresh_cache)
    sound = kept.read_text()
    kept.write_text(text)
    assert chosen(denoiser()) == first
    assert kept.read_text() == sound
    kept.write_text(sound.replace('"bf16', '"fp8'))
    assert chosen(denoiser()) == first


def test_without_a_place_to_keep_it_nothing_is_measured(pretend, monkeypatch, tmp_path) -> None:
    pretend(0.5)
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("LDCT_CACHE_DIR", str(tmp_path / "file" / "cache"))
    found = chosen(denoiser())
    assert found.way == FP32
    assert "LDCT_CACHE_DIR" in found.why


# What is written


def exported(tmp_path: Path, name: str, compute: str, slices: int) -> tuple[Path, dict]:
    source = tmp_path / f"in{slices}"
    if not source.exists():
        write_series(source, slices)
    to = Export(tmp_path / name, compute=compute)
    report, *_ = export_denoised(denoiser(), CARD, only_series(source), to)
    assert report is not None
    return tmp_path / name, report.details


def headers(folder: Path) -> list[pydicom.Dataset]:
    return [pydicom.dcmread(path) for path in sorted(folder.iterdir())]


def test_a_series_comes_out_the_same_twice_and_says_how_it_was_computed(tmp_path, pretend) -> None:
    pretend(0.5)
    first, details = exported(tmp_path, "first", "auto", MIN_SLICES)
    pretend(5.0)
    again, _ = exported(tmp_path, "again", "auto", MIN_SLICES)
    assert [path.read_bytes() for path in sorted(first.iterdir())] == [
        path.read_bytes() for path in sorted(again.iterdir())
    ]
    assert details["computing"]["way"]["name"].startswith("bf16")
    said = details["computing"]["description"]
    plain, without = exported(tmp_path, "plain", "fp32", MIN_SLICES)
    for one, other in zip(headers(first), headers(plain), strict=True):
        assert f"Computed in {said}, within 0.5 HU of fp32" in one.DerivationDescription
        assert one.SOPInstanceUID != other.SOPInstanceUID
        assert "Computed" not in other.DerivationDescription
        # Stored values are whole HU: what rounds to another one differs by one.
        stored = one.pixel_array.astype(int) - other.pixel_array.astype(int)
        assert np.abs(stored).max() <= 1
    assert "computing" not in without


def test_a_short_series_says_fp32_and_has_the_uids_of_always(tmp_path) -> None:
    short, details = exported(tmp_path, "short", "auto", 2)
    plain, _ = exported(tmp_path, "plain", "fp32", 2)
    assert details["computing"]["way"]["name"] == "fp32"
    for one, other in zip(headers(short), headers(plain), strict=True):
        assert one.DerivationDescription.endswith("Computed in fp32.")
        assert one.SOPInstanceUID == other.SOPInstanceUID
        assert one.PixelData == other.PixelData
