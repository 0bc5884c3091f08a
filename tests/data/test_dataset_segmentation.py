"""Training patches of images and their labels, and what is done to them on the way."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from monai.inferers import sliding_window_inference
from numpy.typing import NDArray
from pydantic import ValidationError

from pipeline.config.segmentation import IGNORED, Segmentation
from pipeline.core.errors import ConfigError, NothingUsableError
from pipeline.core.label_map import LabelMap
from pipeline.core.volume import Volume
from pipeline.data.label_patches import Labelled, LabelPatches, cache_working, load_working
from pipeline.data.segmentation_transforms import (
    OUTSIDE,
    RandEnhancementd,
    RandGammad,
    RandNoiseFieldd,
    RandShortScand,
    RandSmoothNoised,
)
from pipeline.inference.segment import PADDING
from pipeline.store.store import Store

STILL = {
    "rotate_degrees": 0,
    "tilt_degrees": 0,
    "scale": 0,
    "elastic_voxels": 0,
    "enhancement_hu": 0,
    "gamma": 0,
    "shift_hu": 0,
    "noise_hu": 0,
    "blur_voxels": 0,
    "low_dose_scale": 0,
}
LIVER, SPLEEN = 5, 1


def settings(**changes: object) -> Segmentation:
    given = {
        "classes": {"liver": [LIVER], "spleen": [SPLEEN]},
        "spacing_mm": (2, 2, 2),
        "patch": [8, 16, 16],
    }
    return Segmentation.model_validate(given | changes)


def patient(given: Segmentation, *, noise_hu: float | None = None) -> Labelled:
    """Air, a large liver and a spleen of 27 voxels; each of one value."""
    labels = np.zeros((20, 40, 40), dtype=np.uint8)
    labels[4:16, 5:30, 5:20] = LIVER
    labels[10:13, 30:33, 30:33] = SPLEEN
    image_hu = np.choose(labels, [-1000, 120, 0, 0, 0, 60]).astype(np.float32)
    noise = None if noise_hu is None else np.full(labels.shape, noise_hu, dtype=np.float32)
    return Labelled(image_hu, labels, given.table(labelmap(labels)), noise)


def labelmap(labels: NDArray) -> LabelMap:
    return LabelMap(labels, {LIVER: "liver", SPLEEN: "spleen"})


def patches(length: int = 40, seed: int = 3, **changes: object) -> LabelPatches:
    given = settings(**changes)
    return LabelPatches([patient(given, noise_hu=20)], given, seed=seed, length=length)


def test_an_item_is_a_function_of_its_number() -> None:
    dataset, other = patches(), patches()
    forwards = [dataset[item] for item in range(8)]
    backwards = [other[item] for item in reversed(range(8))][::-1]
    for one, same in zip(forwards, backwards, strict=True):
        assert torch.equal(one["input"], same["input"])
        assert torch.equal(one["target"], same["target"])
    assert not torch.equal(forwards[0]["input"], forwards[1]["input"])
    elsewhere = patches(seed=4)
    assert not torch.equal(elsewhere[0]["input"], forwards[0]["input"])


@pytest.mark.parametrize("patch", [[8, 16, 16], [4, 24, 12], [16, 16], [12, 20]])
def test_patches_have_the_configured_shape(patch: list[int]) -> None:
    dataset = patches(patch=patch, augment={"flip": [0, 1, 2]})
    for item in range(4):
        one = dataset[item]
        assert one["input"].shape == one["target"].shape == (1, *patch)
        assert one["input"].dtype == torch.float32
        assert one["target"].dtype == torch.uint8


def test_the_image_and_its_classes_move_together() -> None:
    """Turned, scaled, bent and mirrored, a voxel's value still tells its class."""
    augment = STILL | {
        "rotate_degrees": 20,
        "tilt_degrees": 10,
        "scale": 0.3,
        "elastic_voxels": 2,
        "flip": [0, 1, 2],
    }
    dataset = patches(augment=augment)
    agreeing = []
    for item in range(20):
        one = dataset[item]
        image_hu, target = one["input"], one["target"]
        expected = torch.where(image_hu > 90, 2, torch.where(image_hu > -470, 1, 0))
        known = target != IGNORED
        agreeing.append(float((expected == target)[known].float().mean()))
    # Interpolation passes through the liver's values between spleen and air.
    assert np.mean(agreeing) > 0.98
    assert min(agreeing) > 0.95


def test_left_alone_a_patch_is_its_place() -> None:
    """Every voxel keeps its exact value: nothing is interpolated where nothing moves."""
    dataset = patches(augment=STILL)
    for item in range(10):
        assert set(dataset[item]["input"].unique().tolist()) <= {-1000, 60, 120}


def test_small_classes_are_shown_as_often_as_large_ones() -> None:
    """27 voxels beside 4500: by chance, one patch in a hundred would be centred there."""
    dataset = patches(patch=[1, 1, 1], foreground=1.0, augment=STILL, length=200)
    centred = Counter(int(dataset[item]["target"]) for item in range(200))
    assert set(centred) == {1, 2}
    assert centred[2] == pytest.approx(100, abs=25)


def test_a_volume_that_shows_one_class_does_not_take_the_share_of_the_others() -> None:
    """Nine volumes of a liver beside one of both classes: the spleen is still every other patch."""
    given = settings(patch=[1, 1, 1], foreground=1.0, augment=STILL)
    liver_alone = np.zeros((20, 40, 40), dtype=np.uint8)
    liver_alone[4:16, 5:30, 5:20] = LIVER
    image_hu = np.where(liver_alone > 0, 70, -1000).astype(np.float32)
    others = [Labelled(image_hu, liver_alone, given.table(labelmap(liver_alone)))] * 9
    dataset = LabelPatches([patient(given), *others], given, seed=3, length=200)
    centred = Counter(float(dataset[item]["input"]) for item in range(200))
    assert centred[120] == pytest.approx(100, abs=25)
    assert centred[70] == pytest.approx(90, abs=25)
    assert centred[60] == pytest.approx(10, abs=10)


def test_some_patches_lie_anywhere() -> None:
    dataset = patches(patch=[1, 1, 1], foreground=0.0, augment=STILL, length=200)
    background = sum(int(dataset[item]["target"]) == 0 for item in range(200))
    assert background / 200 == pytest.approx(1 - 4527 / 32000, abs=0.06)


def test_outside_of_the_volume_nothing_is_known() -> None:
    """The volume is 20 slices high: of a patch of 40, at least half is not known."""
    dataset = patches(patch=[40, 16, 16], augment=STILL)
    for item in range(5):
        one = dataset[item]
        outside = (one["target"] == IGNORED).all(dim=-1).all(dim=-1)[0]
        assert int((~outside).sum()) == 20
        edge = int((~outside).nonzero()[0])
        if edge:
            assert torch.equal(one["input"][0, 0], one["input"][0, edge]), "the rim is repeated"


def test_ignored_labels_are_ignored() -> None:
    one = patches(classes={"liver": [LIVER]}, ignored=[SPLEEN], augment=STILL, foreground=0)
    seen = {int(v) for item in range(40) for v in one[item]["target"].unique()}
    assert seen == {0, 1, IGNORED}


def test_low_dose_noise_is_added_by_a_random_share() -> None:
    dataset = patches(augment=STILL | {"low_dose_scale": 1.5}, foreground=0, length=60)
    added = [float(dataset[item]["input"].min()) + 1000 for item in range(60)]
    assert min(added) < 3
    assert 25 < max(added) <= 30


def test_without_a_class_there_is_nothing_to_learn() -> None:
    given = settings(classes={"bladder": [21]})
    with pytest.raises(NothingUsableError, match="classes"):
        LabelPatches([patient(given)], given, seed=0, length=1)


def test_structures_go_by_name_or_by_value() -> None:
    by_name = settings(classes={"organs": ["Liver", SPLEEN]})
    table = by_name.table(labelmap(np.zeros((1, 1, 1), np.uint8)))
    assert table[[0, LIVER, SPLEEN, 7]].tolist() == [0, 1, 1, 0]
    with pytest.raises(ConfigError, match="claim"):
        settings(classes={"a": ["liver"], "b": [LIVER]}).table(
            labelmap(np.zeros((1, 1, 1), np.uint8))
        )


def test_each_structure_gets_a_contrast_of_its_own() -> None:
    labels = torch.zeros(1, 24, 24)
    labels[0, :12, :12], labels[0, 14:, 14:] = LIVER, SPLEEN
    transform = RandEnhancementd(30.0)
    transform.set_random_state(seed=0)
    shifts = []
    for _ in range(300):
        done = transform({"input": torch.zeros(1, 24, 24), "labels": labels})["input"][0]
        assert abs(float(done[4, 20])) < 1e-6, "what is in no structure stays"
        shifts.append([float(done[4, 4]), float(done[20, 20])])
    liver, spleen = np.array(shifts).T
    # Normal of a deviation uniform in [0, 60]: root of the mean square is 60 / 3^0.5.
    assert liver.std() == pytest.approx(60 / 3**0.5, rel=0.15)
    assert abs(np.corrcoef(liver, spleen)[0, 1]) < 0.15


def test_gamma_bends_soft_tissue_alone() -> None:
    transform = RandGammad(0.3, (-200.0, 300.0))
    transform.set_random_state(seed=1)
    image_hu = torch.linspace(-1000, 2000, 301).reshape(1, 1, 301)
    for _ in range(20):
        bent = transform({"input": image_hu})["input"]
        outside = (image_hu <= -200) | (image_hu >= 300)
        assert torch.allclose(bent[outside], image_hu[outside], atol=1e-3)
        assert (bent.diff() > 0).all(), "darker stays darker"
    assert (bent - image_hu)[~outside].abs().max() > 5


def test_noise_without_a_degradation_is_none() -> None:
    image = torch.zeros(1, 4, 4)
    done = RandNoiseFieldd(1.0)({"input": image})
    assert torch.equal(done["input"], image)


def volume_of(image_hu: NDArray) -> Volume:
    return Volume(
        image_hu=image_hu.astype(np.float32),
        valid=np.ones(image_hu.shape, dtype=bool),
        affine_lps=np.diag([1.0, 1.0, 2.0, 1.0]),
        slice_origins_mm=np.outer(np.arange(len(image_hu)), [0.0, 0.0, 2.0]),
    )


def test_the_working_grid_is_made_once_and_kept(tmp_path: Path) -> None:
    store = Store(tmp_path)
    image_hu = np.arange(6 * 10 * 12).reshape(6, 10, 12)
    labels = labelmap(np.full((6, 10, 12), LIVER, dtype=np.uint8))
    store.add(volume_of(image_hu), key="s-0", patient="p-0")
    store.save_degraded("s-0", "noisy", image_hu + np.float32(7))
    cache_working(store, "s-0", labels, settings(), degraded="noisy")
    kept = load_working(store, "s-0", labels, settings(), degraded="noisy")
    assert kept.image_hu.shape == kept.labels.shape == (6, 5, 6)
    assert (kept.classes == 1).all()
    assert kept.noise_hu is not None
    assert np.allclose(kept.noise_hu, 7, atol=1e-3)
    assert float(kept.image_hu.mean()) == pytest.approx(image_hu.mean())


def test_other_labels_of_the_same_image_are_kept_apart(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.add(volume_of(np.zeros((6, 10, 12))), key="s-0", patient="p-0")
    livers, spleens = (labelmap(np.full((6, 10, 12), v, np.uint8)) for v in (LIVER, SPLEEN))
    for labels in (livers, spleens):
        cache_working(store, "s-0", labels, settings())
    assert (load_working(store, "s-0", livers, settings()).classes == 1).all()
    assert (load_working(store, "s-0", spleens, settings()).classes == 2).all()


def test_a_short_scan_is_padded_as_inference_pads_it() -> None:
    """What sliding windows show the network of the slices that were kept is the patch itself."""
    transform = RandShortScand(1.0)
    transform.set_random_state(seed=0)
    image = torch.randn(1, 16, 6, 8)
    counts = set()
    for _ in range(150):
        done = transform({"input": image, "labels": image.round().abs()})
        kept = (done["labels"] != OUTSIDE)[0, :, 0, 0]
        counts.add(int(kept.sum()))
        seen = []
        sliding_window_inference(
            done["input"][None, :, kept],
            roi_size=(16, 6, 8),
            sw_batch_size=1,
            predictor=lambda windows: seen.append(windows) or windows,  # noqa: B023
            padding_mode=PADDING,
        )
        assert torch.equal(seen[0][0], done["input"])
        assert torch.equal(done["labels"][:, kept], done["input"][:, kept].round().abs())
    assert counts == set(range(4, 17)), "from a quarter of the slices to all"


def test_short_scans_are_as_many_as_asked_for_and_teach_nothing_beyond_their_ends() -> None:
    augment = STILL | {"short_scan": 0.4}
    inside = {"classes": {"liver": [LIVER]}, "patch": [4, 8, 8], "foreground": 1.0}
    whole, dataset = patches(augment=STILL, **inside), patches(augment=augment, **inside)
    hidden = []
    for item in range(40):
        one, before = dataset[item]["target"], whole[item]["target"]
        ends = (one == IGNORED).all(dim=-1).all(dim=-1)[0]
        hidden.append(bool((one == IGNORED).sum() > (before == IGNORED).sum()))
        assert ends.long().diff().abs().sum() <= 2, "one piece, in the middle"
        assert not ends.all()
    assert np.mean(hidden) == pytest.approx(0.4 * 3 / 4, abs=0.2)


def test_a_network_in_two_dimensions_has_no_short_scans() -> None:
    still, short = ({"augment": STILL | {"short_scan": p}, "patch": [16, 16]} for p in (0, 1.0))
    assert torch.equal(patches(**still)[0]["target"], patches(**short)[0]["target"])


def test_smooth_noise_keeps_its_strength_and_is_not_white() -> None:
    transform = RandSmoothNoised(50.0, 2.0)
    transform.set_random_state(seed=2)
    image = torch.full((1, 16, 32, 32), 40.0)
    deviations, neighbours = [], []
    for _ in range(80):
        noise = transform({"input": image})["input"] - image
        if noise.any():
            deviations.append(float(noise.std()))
            neighbours.append(float((noise[..., 1:] * noise[..., :-1]).mean() / noise.var()))
    assert len(deviations) == pytest.approx(40, abs=12)
    assert max(deviations) <= 50.5
    assert np.mean(deviations) == pytest.approx(25, abs=6)
    assert min(neighbours) < 0.1
    assert max(neighbours) > 0.8


def test_low_dose_noise_is_left_out_of_the_other_patches() -> None:
    augment = STILL | {"low_dose_scale": 1.0, "low_dose_probability": 0.3}
    dataset = patches(augment=augment, foreground=0, length=100)
    clean = [float(dataset[item]["input"].min()) == -1000 for item in range(100)]
    assert np.mean(clean) == pytest.approx(0.7, abs=0.12)


def test_contrast_agent_raises_a_class_up_to_what_it_is_said_to() -> None:
    """The liver is at 60 HU, the spleen at 120 and so above the 100 that are asked for."""
    augment = STILL | {"contrast_hu": {"liver": 160, "spleen": 100}}
    dataset = patches(augment=augment, length=200)
    risen = []
    for item in range(200):
        one = dataset[item]
        inside = one["input"][(one["target"] == 1) & (one["input"] > 0)]
        if len(inside) > 300:
            risen.append(float(inside.median()) - 60)
        assert float(one["input"].max()) <= max(120, 60 + 1.5 * 100) + 1
    assert np.mean([rise < 1 for rise in risen]) == pytest.approx(0.5, abs=0.12)
    assert min(risen) > -1
    assert 90 < max(risen) <= 150
    spleens = patches(augment=STILL | {"contrast_hu": {"spleen": 100}})
    assert {float(spleens[item]["input"].max()) for item in range(40)} <= {60.0, 120.0, -1000.0}


def test_contrast_is_of_classes_that_there_are() -> None:
    with pytest.raises(ValidationError, match="contrast_hu: bladder is none of the classes"):
        settings(augment={"contrast_hu": {"bladder": 100}})
