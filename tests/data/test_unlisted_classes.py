"""Label maps that do not list every class: what they do not say neither teaches nor counts."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from pipeline.config.load import load_config, parse_config
from pipeline.config.segmentation import IGNORED, NOT_LISTED, Segmentation
from pipeline.config.shipped import find_config
from pipeline.config.task_runs import SegmentRun
from pipeline.config.totalsegmentator import CLASSES
from pipeline.core.errors import ConfigError
from pipeline.core.label_map import LabelMap
from pipeline.core.volume import Volume
from pipeline.data.label_patches import LabelPatches, cache_working, load_working
from pipeline.evaluation.segmentation import evaluate_labels
from pipeline.inference.segment import segment
from pipeline.losses.segmentation import (
    DiceCrossEntropy,
    KnownVoxelsLoss,
    PixelCrossEntropy,
    SoftDice,
)
from pipeline.store.store import Store
from pipeline.tasks.segment import TASK

BOTH, LIVER_ALONE = {5: "liver", 1: "spleen"}, {5: "liver"}
SHAPE = (10, 24, 24)


def settings(**changes: object) -> Segmentation:
    given = {
        "classes": {"liver": ["liver"], "spleen": ["spleen"]},
        "spacing_mm": (2, 2, 2),
        "patch": [8, 16, 16],
        "unlisted": "unknown",
    }
    return Segmentation.model_validate(given | changes)


def labelmap(names: dict[int, str]) -> LabelMap:
    labels = np.zeros(SHAPE, dtype=np.uint8)
    labels[2:6, 3:12, 3:12] = 5
    return LabelMap(labels, names)


def volume_of(image_hu: NDArray) -> Volume:
    return Volume(
        image_hu=image_hu.astype(np.float32),
        valid=np.ones(image_hu.shape, dtype=bool),
        affine_lps=np.diag([2.0, 2.0, 2.0, 1.0]),
        slice_origins_mm=np.outer(np.arange(len(image_hu)), [0.0, 0.0, 2.0]),
    )


def stored(folder: Path, image_hu: NDArray, names: dict[int, str]) -> Store:
    store = Store(folder)
    store.add(volume_of(image_hu), key="s-0", patient="p-0")
    store.add_labels("s-0", "mask", labelmap(names))
    return store


class Thresholds(nn.Module):
    """The liver above 0 HU, the spleen above 500."""

    def forward(self, image_hu: torch.Tensor) -> torch.Tensor:
        spleen = image_hu > 500
        liver = (image_hu > 0) & ~spleen
        return 50.0 * torch.cat([~(liver | spleen), liver, spleen], dim=1).float()


def test_a_class_that_no_structure_is_listed_of_is_unknown_where_asked_for() -> None:
    assert settings().not_listed(labelmap(LIVER_ALONE)) == {"spleen"}
    assert settings(unlisted="background").not_listed(labelmap(LIVER_ALONE)) == set()
    assert settings().not_listed(labelmap(BOTH)) == set()


@pytest.mark.parametrize(
    ("names", "known"),
    [
        ({5: "liver", 1: "hip_left", 2: "hip_right"}, True),
        ({5: "liver", 1: "hip_left"}, False),
        ({5: "liver", 1: "Bone"}, True),
        ({5: "liver"}, False),
    ],
)
def test_of_a_class_of_which_a_part_alone_is_listed_nothing_is_known(
    names: dict[int, str], known: bool
) -> None:
    given = settings(classes={"liver": ["liver"], "bone": ["bone", "hip_left", "hip_right"]})
    assert given.not_listed(labelmap(names)) == (set() if known else {"bone"})
    values = [value for value, name in names.items() if name != "liver"]
    assert (given.table(labelmap(names))[values] == (2 if known else IGNORED)).all()
    assert given.table(labelmap(names))[5] == 1


def test_a_mask_of_one_value_is_not_taken_for_totalsegmentators_first_class() -> None:
    """Any mask of ones would be a spleen, and all else in it known not to be there."""
    given = settings(label_names="totalsegmentator")
    assert given.not_listed(labelmap({1: "label 1"})) == {"liver", "spleen"}
    assert given.table(labelmap({1: "label 1"}))[1] == 0
    assert given.not_listed(labelmap({1: "label 1", 5: "label 5"})) == set()


def run_of(names: dict[int, str], folder: Path, **changes: object) -> tuple[Store, SegmentRun]:
    shipped = load_config(find_config(Path("segment_organs"))).resolved()
    given = {**shipped, "degradation": None, "segmentation": settings(**changes).model_dump()}
    config = parse_config({key: value for key, value in given.items() if value is not None})
    assert isinstance(config, SegmentRun)
    return stored(folder, np.zeros(SHAPE), names), config


@pytest.mark.parametrize(
    ("names", "unlisted", "usable"),
    [
        ({5: "heart"}, "unknown", False),
        ({5: "heart"}, "background", True),
        ({5: "heart", 1: "spleen"}, "unknown", True),
    ],
)
def test_a_series_whose_map_lists_no_class_is_not_used(
    tmp_path: Path, names: dict[int, str], unlisted: str, usable: bool
) -> None:
    store, config = run_of(names, tmp_path, unlisted=unlisted)
    assert TASK.usable(store, "s-0", config) == usable


def test_a_class_that_no_training_map_lists_is_refused_before_the_training(tmp_path: Path) -> None:
    store, config = run_of(LIVER_ALONE, tmp_path)
    sides = {"train": ["s-0"], "test": []}
    with pytest.raises(ConfigError, match=r"classes: spleen: no label map of the training lists"):
        TASK.prepare(store, sides, config)
    store, config = run_of(BOTH, tmp_path / "both")
    TASK.prepare(store, sides, config)


def test_a_structure_of_no_known_name_is_refused_before_the_training(tmp_path: Path) -> None:
    classes = {"liver": ["liver"], "spleen": ["spleeen"]}
    store, config = run_of(LIVER_ALONE, tmp_path, classes=classes, label_names="totalsegmentator")
    with pytest.raises(ConfigError, match=r"no label map has 'spleeen'; did you mean 'spleen'"):
        TASK.prepare(store, {"train": ["s-0"], "test": []}, config)


def test_without_it_a_part_is_the_class() -> None:
    given = settings(classes={"bone": ["hip_left", "hip_right"]}, unlisted="background")
    assert given.table(labelmap({5: "hip_left"}))[5] == 1


def test_totalsegmentators_table_names_and_lists_all_of_its_classes() -> None:
    numbers = labelmap({5: "label 5"})
    by_name = settings(label_names="totalsegmentator")
    assert by_name.named(numbers).names == dict(enumerate(CLASSES, start=1))
    assert by_name.not_listed(numbers) == set()
    assert (by_name.classes_of(numbers) == 1).sum() == 4 * 9 * 9
    own = labelmap(LIVER_ALONE)
    assert by_name.named(own) is own, "names of the file itself are kept"
    assert settings().named(numbers) is numbers


@pytest.mark.parametrize(("names", "marked"), [(LIVER_ALONE, True), (BOTH, False)])
def test_its_background_is_marked_in_training_patches(
    tmp_path: Path, names: dict[int, str], marked: bool
) -> None:
    given = settings(foreground=1.0)
    store = stored(tmp_path, np.zeros(SHAPE), names)
    cache_working(store, "s-0", labelmap(names), given)
    volume = load_working(store, "s-0", labelmap(names), given)
    patches = LabelPatches([volume], given, seed=0, length=4)
    seen = {int(v) for n in range(4) for v in patches[n]["target"].unique()} - {IGNORED}
    assert seen == ({1, NOT_LISTED} if marked else {0, 1})


def gradients(loss: nn.Module) -> torch.Tensor:
    """Of logits [classes, voxels]: three of class 1, three of background that may be class 2."""
    logits = torch.zeros(1, 3, 6, 1, requires_grad=True)
    target = torch.tensor([1, 1, 1, NOT_LISTED, NOT_LISTED, NOT_LISTED]).view(1, 1, 6, 1)
    loss(logits, target.float()).backward()
    assert logits.grad is not None
    return logits.grad[0, :, :, 0]


def test_cross_entropy_and_monais_losses_leave_it_out() -> None:
    monai = KnownVoxelsLoss("monai.losses.DiceLoss")
    for loss in (PixelCrossEntropy(), monai):
        found = gradients(loss)
        assert (found[:, 3:] == 0).all()
        assert (found[1, :3] < 0).all()


def test_dice_still_holds_it_to_be_none_of_the_listed_classes() -> None:
    for loss in (SoftDice(), DiceCrossEntropy()):
        found = gradients(loss)
        assert (found[1, 3:] > 0).all(), "the liver is known, and not there"
        assert torch.allclose(found[2, 3:], found[0, 3:]), "background or spleen, all the same"
    with_background = SoftDice(background=True)
    assert torch.isfinite(gradients(with_background)).all()
    assert torch.allclose(gradients(with_background)[0, 3:], gradients(with_background)[2, 3:])


@pytest.mark.parametrize("background", [False, True])
def test_in_a_batch_each_item_has_its_own_unlisted_classes(background: bool) -> None:
    """The first shows the liver alone, the second the spleen alone: neither says anything of the
    other's class where it has background."""
    logits = torch.zeros(2, 3, 6, 1, requires_grad=True)
    target = torch.full((2, 1, 6, 1), float(NOT_LISTED))
    target[0, :, :3], target[1, :, :3] = 1, 2
    SoftDice(background=background)(logits, target).backward()
    assert logits.grad is not None
    found = logits.grad[..., 3:, 0]
    assert (found[0, 1] > 0).all(), "the first is no liver there"
    assert (found[1, 2] > 0).all(), "the second is no spleen there"
    assert torch.allclose(found[0, 0], found[0, 2]), "background or spleen, all the same"
    assert torch.allclose(found[1, 0], found[1, 1]), "background or liver, all the same"


@pytest.mark.parametrize(("names", "dice"), [(LIVER_ALONE, None), (BOTH, 0.0)])
def test_it_is_not_measured_where_it_is_unknown(
    tmp_path: Path, names: dict[int, str], dice: float | None
) -> None:
    image_hu = np.where(labelmap(names).labels > 0, 100.0, -1000.0)
    image_hu[8:, 15:, 15:] = 900.0
    store = stored(tmp_path, image_hu, names)
    overall = evaluate_labels(Thresholds(), store, ["s-0"], settings()).overall
    assert overall.classes["liver"].dice == pytest.approx(1.0, abs=0.02)
    assert overall.classes["spleen"].dice == dice
    assert overall.dice == pytest.approx(1.0 if dice is None else 0.5, abs=0.02)


def test_what_is_found_outside_of_the_body_is_left_out_where_asked_for() -> None:
    image_hu = np.full((4, 64, 64), -1000.0)
    image_hu[:, 10:40, 10:50] = 50.0
    image_hu[:, 20:26, 20:26] = 900.0
    image_hu[:, 58:60, 5:60] = 900.0  # a couch
    image_hu[:, 0:4, 0:4] = 900.0
    volume = volume_of(image_hu)
    everywhere = segment(Thresholds(), volume, settings())
    inside = segment(Thresholds(), volume, settings(within_body=True))
    assert (everywhere[:, 58:60, 5:60] == 2).all()
    assert (inside[:, 50:] == 0).all()
    assert (inside[:, :8] == 0).all()
    assert np.array_equal(inside[:, 12:38, 12:48], everywhere[:, 12:38, 12:48])


def test_an_arm_beside_the_body_is_searched_too() -> None:
    image_hu = np.full((4, 64, 64), -1000.0)
    image_hu[:, 10:50, 20:60] = 50.0
    image_hu[:, 20:38, 1:17] = 50.0
    image_hu[:, 27:31, 7:11] = 900.0
    found = segment(Thresholds(), volume_of(image_hu), settings(within_body=True))
    assert (found[:, 28:30, 8:10] == 2).all()


def test_of_a_class_that_is_one_piece_the_largest_piece_is_kept_where_asked_for() -> None:
    image_hu = np.full((8, 64, 64), -1000.0)
    image_hu[:, 10:50, 10:50] = 50.0  # liver
    image_hu[2:6, 20:30, 20:30] = 900.0
    image_hu[3:5, 40:44, 40:44] = 900.0
    image_hu[:, 58:62, 2:8] = 50.0
    every = segment(Thresholds(), volume_of(image_hu), settings())
    kept = segment(Thresholds(), volume_of(image_hu), settings(single_piece=["spleen"]))
    assert (every[4, 41:43, 41:43] == 2).all()
    assert (kept[4, 41:43, 41:43] == 0).all(), "it is of no class, since nothing says of which"
    assert np.array_equal(kept == 1, every == 1), "of the others every piece stays"
    largest = (slice(1, 7), slice(18, 32), slice(18, 32))
    assert np.array_equal(kept[largest], every[largest])
    none = segment(
        Thresholds(), volume_of(np.full((8, 64, 64), -1000.0)), settings(single_piece=["spleen"])
    )
    assert not none.any()


def test_a_piece_of_what_is_no_class_is_refused() -> None:
    with pytest.raises(ValueError, match="single_piece: kidney is none of the classes"):
        settings(single_piece=["kidney"])
