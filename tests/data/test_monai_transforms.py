"""`transforms:` of a run: MONAI's, from a closed list, on pairs that stay pairs in HU."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers.images import add_inputs, run_config, tiny_store, tiny_train

from pipeline.config.load import load_config, parse_config
from pipeline.config.run import RunConfig
from pipeline.config.shipped import find_config
from pipeline.config.task_runs import DenoiseRun, SegmentRun
from pipeline.config.transforms import INTENSITY, SPATIAL, Transforms
from pipeline.core.errors import ConfigError
from pipeline.data import patches
from pipeline.data.monai_transforms import named_label_transforms, named_transforms
from pipeline.data.patches import PatchPairs
from pipeline.data.transforms import transformed
from pipeline.models.adapters.base import build_model
from pipeline.training.best_weights import best_weights_of
from pipeline.training.start_check import check_run

#: What MONAI asks for beside prob, by transform.
NEEDED: dict[str, dict[str, Any]] = {
    "Rand2DElasticd": {"spacing": [8, 8], "magnitude_range": [1, 2]},
    "RandAffined": {"rotate_range": 0.5, "scale_range": 0.2},
    "RandRotated": {"range_x": 0.4},
    "RandFlipd": {"spatial_axis": 0},
    "GaussianSmoothd": {"sigma": 1.0},
    "MedianSmoothd": {"radius": 1},
    "RandGaussianNoised": {"std": 20},
    "RandScaleIntensityd": {"factors": 0.1},
    "RandShiftIntensityd": {"offsets": 30},
    "ShiftIntensityd": {"offset": 30},
}


def entry(name: str, **changes: Any) -> dict[str, Any]:
    chance = {"prob": 1.0} if name.startswith("Rand") else {}
    return {"_target_": name, **chance, **NEEDED.get(name, {}), **changes}


def run_with(*entries: Any, **sections: Any) -> RunConfig:
    return run_config(transforms={"training": list(entries)}, **sections)


def of_pair(*entries: Any, seed: int = 1) -> dict[str, torch.Tensor]:
    """A textured pair, the input 50 HU above the target, after the named transforms."""
    config: Any = run_with(*entries)
    target = 400 * torch.randn(1, 32, 32, generator=torch.Generator().manual_seed(0))
    pair = {"input": target + 50, "target": target.clone()}
    for transform in named_transforms(config.transforms):
        pair = transformed(_Only(transform), pair, seed=seed)
    return pair


class _Only:
    """A single transform, as `transformed` takes them."""

    def __init__(self, transform: Any) -> None:
        self.transforms = [transform]

    def __call__(self, data: Any) -> Any:
        return self.transforms[0](data)


@pytest.mark.parametrize("name", SPATIAL)
def test_input_and_target_are_moved_alike(name: str) -> None:
    seeds = range(1, 9)  # RandRotate90d and RandZoomd may draw hardly any move
    moved = [of_pair(entry(name), seed=seed) for seed in seeds]
    still = of_pair()["target"]
    assert any(not torch.allclose(pair["target"], still, atol=1) for pair in moved)
    for pair in moved:
        assert pair["target"].shape == (1, 32, 32)
        # Also at the edges, where zeros would be water.
        torch.testing.assert_close(
            pair["input"] - pair["target"], torch.full((1, 32, 32), 50.0), atol=1e-2, rtol=0
        )


@pytest.mark.parametrize("name", INTENSITY)
def test_an_intensity_transform_changes_what_it_names_in_hu(name: str) -> None:
    still, changed = of_pair(), of_pair(entry(name, keys="input"))
    assert torch.equal(changed["target"], still["target"])
    assert not torch.allclose(changed["input"], still["input"], atol=1)
    assert changed["input"].dtype == torch.float32


def test_a_shift_is_one_of_hu() -> None:
    shifted = of_pair(
        {"_target_": "monai.transforms.ShiftIntensityd", "keys": "input", "offset": 9}
    )
    torch.testing.assert_close(shifted["input"] - shifted["target"], torch.full((1, 32, 32), 59.0))


def test_items_follow_from_the_seed_and_their_number(tmp_path: Path) -> None:
    store = tiny_store(tmp_path)
    named = [entry("RandAffined"), entry("RandGaussianNoised", keys=["input"])]

    def items(*entries: Any, seed: int) -> list[dict[str, torch.Tensor]]:
        config = run_with(*entries, train=tiny_train(seed=seed))
        add_inputs(store, config)
        data = PatchPairs(store, sorted(store.records()), config, 4)
        return [data[number] for number in (3, 0)]

    torch.manual_seed(0)
    first = items(*named, seed=3)
    torch.manual_seed(1)
    again = items(*named, seed=3)
    for one, same in zip(first, again, strict=True):
        assert torch.equal(one["input"], same["input"])
        assert torch.equal(one["target"], same["target"])
    plain, other = items(seed=3), items(*named, seed=4)
    assert not torch.equal(first[0]["input"], plain[0]["input"])
    assert not torch.equal(first[0]["input"], other[0]["input"])


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"_target_": "Lambdad", "keys": "input", "func": "print"}, "'Lambdad' is not allowed"),
        ({"_target_": "LoadImaged", "keys": "input"}, "'LoadImaged' is not allowed"),
        ({"_target_": "SaveImaged", "keys": "input"}, "'SaveImaged' is not allowed"),
        ({"_target_": "os.system", "command": "true"}, r"'os.system' is not allowed"),
        ({"_target_": "RandAffine"}, "did you mean 'RandAffined'"),
        ({"_target_": "$print(1)"}, "is not allowed"),
        (entry("RandAffined", prob="$0.5"), r"prob: '\$0.5' is an expression"),
        (
            entry("RandAffined", rotate_range=["@x", [1, "$2"]]),
            "rotate_range: '@x' is an expression",
        ),
        (entry("RandAffined", rotate_range=[1, ["$2"]]), r"rotate_range: '\$2' is an expression"),
        (entry("RandAffined", mode={"_target_": "x"}), "mode: expected a number"),
        (entry("RandAffined", _requires_="$import os"), "_requires_: of MONAI's special keys"),
        (entry("RandAffined", _disabled_=True), "_disabled_: of MONAI's special keys"),
        (entry("RandAffined", _mode_="debug"), "_mode_: of MONAI's special keys"),
        (entry("RandAffined", spatial_size=[16, 16]), "spatial_size: cannot be set"),
        (entry("RandAffined", padding_mode="zeros"), "padding_mode: zeros puts 0 HU"),
        (entry("RandAffined", keys=["input"]), "moves pixels"),
        (entry("RandAffined", scale_range=float("nan")), "scale_range: expected a finite"),
        (entry("RandGaussianSmoothd"), "keys: name input, target or both"),
        (entry("RandGaussianSmoothd", keys=["label"]), "keys: name input, target or both"),
        ("RandAffined", "write it as"),
    ],
)
def test_what_is_refused_is_named_with_its_place(given: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=rf"transforms\.training\.1: .*{message}"):
        run_with(entry("RandFlipd"), given)


def test_arguments_are_looked_at_before_ingest() -> None:
    with pytest.raises(ConfigError, match=r"training\.0\.args\.rotate_rang.*'rotate_range'"):
        check_run(run_with(entry("RandAffined", rotate_rang=0.1)))


@pytest.mark.parametrize("validate_every", [None, 1])
def test_validation_is_measured_without_them(tmp_path: Path, validate_every: int | None) -> None:
    store, kept = tiny_store(tmp_path), []
    for named in ([], [entry("RandShiftIntensityd", keys="input")]):
        config = run_with(*named, train=tiny_train(validate_every=validate_every))
        add_inputs(store, config)
        selection = best_weights_of(store, config, ["s-0"])
        assert selection is not None
        kept.append(selection.patches[0]["input"])
    assert torch.equal(*kept)


@pytest.mark.parametrize("partner", ["none", "neighbour"])
def test_kept_slices_give_the_same_items(tmp_path: Path, partner: str) -> None:
    store, items = tiny_store(tmp_path), []
    for cache in (False, True, "disk"):
        given = {"cache": cache, "training": [entry("RandFlipd")]}
        config = run_config(transforms=given, data={"patch": [32, 32], "partner": partner})
        add_inputs(store, config)
        data = PatchPairs(store, sorted(store.records()), config, 3)
        items.append([data[number] for number in range(3)])
        kept = [one.target for one in data.slices]
        assert all(isinstance(target, np.memmap) == (cache is not True) for target in kept)
    for plain, *others in zip(*items, strict=True):
        for kept_one in others:
            assert plain.keys() == kept_one.keys()
            assert all(torch.equal(plain[name], kept_one[name]) for name in plain)


def test_slices_on_disk_are_made_once_for_what_they_are_made_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, made = tiny_store(tmp_path), []
    make = patches._in_memory

    def counted(slices: Any, settings: Transforms) -> Any:
        made.append(len(slices))
        return make(slices, settings)

    monkeypatch.setattr(patches, "_in_memory", counted)

    def offset(hu: float) -> float:
        shift = {"_target_": "ShiftIntensityd", "keys": "input", "offset": hu}
        config = run_config(transforms={"cache": "disk", "slices": [shift]})
        add_inputs(store, config)
        one = PatchPairs(store, sorted(store.records()), config, 1)[0]
        return float((one["input"] - one["target"]).mean())

    first, again, other = offset(9), offset(9), offset(20)
    assert first == again
    assert other == pytest.approx(first + 11, abs=1e-3)
    series = len(store.records())
    assert len(made) == 2 * series, "once for each of two offsets, and not again"


def test_whole_slices_are_transformed_once_before_patches_are_cut(tmp_path: Path) -> None:
    store, found = tiny_store(tmp_path), []
    for slices in ([], [{"_target_": "ShiftIntensityd", "keys": "input", "offset": 9}]):
        given = {"cache": True, "slices": slices}
        config = run_config(transforms=given)
        add_inputs(store, config)
        found.append(PatchPairs(store, sorted(store.records()), config, 1)[0])
    torch.testing.assert_close(found[1]["input"], found[0]["input"] + 9)
    assert torch.equal(found[1]["target"], found[0]["target"])


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"cache": True, "slices": [entry("RandFlipd")]}, r"slices\.0: RandFlipd is random"),
        ({"validation": [entry("RandShiftIntensityd", keys="input")]}, "is random"),
        ({"slices": [entry("GaussianSmoothd", keys="input")]}, "need cache: true or disk"),
    ],
)
def test_chance_is_for_training_alone(given: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        run_config(transforms=given)


def test_validation_pairs_have_transforms_of_their_own(tmp_path: Path) -> None:
    store, kept = tiny_store(tmp_path), []
    for offset in (0, 20):
        shift = {"_target_": "ShiftIntensityd", "keys": "input", "offset": offset}
        config = run_config(
            transforms={"validation": [shift], "training": [entry("RandFlipd")]},
            train=tiny_train(validate_every=1),
        )
        add_inputs(store, config)
        selection = best_weights_of(store, config, ["s-0"])
        assert selection is not None
        kept.append(selection.patches[0])
    torch.testing.assert_close(kept[1]["input"], kept[0]["input"] + 20)
    assert torch.equal(kept[0]["target"], kept[1]["target"])


def of_labels(*entries: Any, shape: tuple[int, ...] = (8, 24, 24)) -> dict[str, torch.Tensor]:
    """A patch whose labels say where its HU are 100, after the named transforms of a segmenter."""
    transforms = Transforms.model_validate({"training": list(entries)})
    labels = torch.zeros(1, *shape)
    labels[..., 4:16, 3:12] = 5
    patch = {"input": 20 * labels, "labels": labels.clone()}
    for transform in named_label_transforms(transforms):
        patch = transformed(_Only(transform), patch, seed=2)
    return patch


@pytest.mark.parametrize("shape", [(8, 24, 24), (24, 24)])
@pytest.mark.parametrize("name", [n for n in SPATIAL if n != "Rand2DElasticd"])
def test_labels_of_a_segmenter_move_with_their_image(name: str, shape: tuple[int, ...]) -> None:
    moved = of_labels(entry(name), shape=shape)
    assert moved["labels"].shape == (1, *shape)
    assert set(moved["labels"].unique().tolist()) <= {0.0, 5.0}, "no value lies between labels"
    agrees = (moved["input"] > 50) == (moved["labels"] == 5)
    assert float(agrees.float().mean()) > 0.97


def test_a_segmenter_learns_with_them_and_refuses_what_changes_labels() -> None:
    config = load_config(find_config(Path("segment_body")))
    assert isinstance(config, SegmentRun)
    raw = config.resolved()
    named = {"training": [entry("RandShiftIntensityd", keys="input"), entry("RandAffined")]}
    assert parse_config({**raw, "transforms": named}).transforms is not None  # type: ignore[attr-defined]
    for transforms, message in (
        ({"training": [entry("GaussianSmoothd", keys="target")]}, "would change labels"),
        ({"training": [entry("Rand2DElasticd")]}, "elastic_voxels"),
        ({"cache": True}, "training alone"),
        ({"inference": [{"_target_": "Flipd"}]}, "training alone"),
    ):
        with pytest.raises(ConfigError, match=message):
            parse_config({**raw, "transforms": transforms})


def test_nested_pairs_do_without() -> None:
    with pytest.raises(ConfigError, match=r"transforms: not with data\.nested"):
        run_with(entry("RandFlipd"), data={"patch": [32, 32], "nested": {}, "realisations": 2})


def test_the_shipped_run_learns_from_kept_slices_and_leaves_hu_as_they_are(tmp_path: Path) -> None:
    changes = ["data.patch=[32, 32]", "data.realisations=1", "degradation.target=gaussian_noise"]
    changes += ["degradation.args={sigma: 20}", "model.target=identity", "model.args={}"]
    config = load_config(find_config(Path("denoise_monai_transforms")), changes)
    assert isinstance(config, DenoiseRun)
    assert config.transforms is not None
    assert config.transforms.cache
    names = [one["_target_"] for one in config.transforms.training]
    assert names == ["RandAffined", "RandGaussianSmoothd"]
    store = tiny_store(tmp_path)
    add_inputs(store, config, noise_hu=20)
    data = PatchPairs(store, sorted(store.records()), config, 8)
    for number in range(8):
        noise_hu = data[number]["input"] - data[number]["target"]
        assert 5 < float(noise_hu.std()) < 40
    image_hu = torch.empty(2, 1, 33, 47).uniform_(-1024, 3071)
    torch.testing.assert_close(build_model(config)(image_hu), image_hu, atol=1e-3, rtol=0)
