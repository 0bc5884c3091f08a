"""Pictures and slices as training items: reproducible, apart, and of the size asked for."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.images import body_slice, tiny_store, volume_of

from pipeline.config.generation import Jitter
from pipeline.core.units import AIR_HU
from pipeline.data.images import (
    WITH_LUNGS,
    WITHOUT_LUNGS,
    ImageItems,
    StoredSlices,
    jitter,
    lung_labels,
    resampled,
)
from pipeline.degradations.base import GaussianNoise, MaskedPixels
from pipeline.ingest.bundled_pictures import digits, photographs

IMAGES = np.random.default_rng(0).random((20, 16, 16)).astype(np.float32)
LABELS = np.arange(20)


def items(seed: int = 0, **settings) -> ImageItems:
    return ImageItems(IMAGES, LABELS, seed=seed, length=50, **settings)


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(one[name], other[name]) for name in one)


def test_an_item_is_a_function_of_seed_and_number_alone() -> None:
    moved = jitter(Jitter(turn_degrees=11, zoom=0.1, shift_pixels=2, mirror=True))
    settings = {"augment": moved, "degradation": GaussianNoise(0.1)}
    forwards = [items(**settings)[n] for n in range(50)]
    again = items(**settings)
    assert all(same(again[n], forwards[n]) for n in reversed(range(50)))
    assert not same(items(seed=1, **settings)[0], forwards[0])
    with pytest.raises(IndexError):
        again[50]


def test_an_uncorrupted_item_is_an_image_with_its_label() -> None:
    for number in range(10):
        item = items()[number]
        assert torch.equal(item["input"], item["target"])
        np.testing.assert_array_equal(item["target"][0], IMAGES[int(item["label"])])
    assert len({int(items()[n]["label"]) for n in range(50)}) > 12


def test_a_corruption_spoils_the_input_and_spares_the_target() -> None:
    item = items(degradation=MaskedPixels(0.5, fill=-1.0))[0]
    np.testing.assert_array_equal(item["target"][0], IMAGES[int(item["label"])])
    hidden = item["input"] == -1
    assert 0.35 < float(hidden.float().mean()) < 0.65
    torch.testing.assert_close(item["input"][~hidden], item["target"][~hidden])


def test_a_patch_is_a_piece_of_its_image() -> None:
    item = items(patch=(4, 6))[7]
    windows = np.lib.stride_tricks.sliding_window_view(IMAGES[int(item["label"])], (4, 6))
    assert (windows == item["target"][0].numpy()).all(axis=(2, 3)).sum() == 1
    with pytest.raises(ValueError, match="larger"):
        items(patch=(17, 4))[0]


def test_noise_is_as_strong_as_asked_for_and_corruptions_take_volumes() -> None:
    image_hu = np.zeros((2, 64, 64), np.float32)
    noisy = GaussianNoise(30.0)(volume_of(image_hu), np.random.default_rng(0))
    assert noisy.shape == image_hu.shape
    assert noisy.dtype == np.float32
    assert float(noisy.std()) == pytest.approx(30, rel=0.03)
    for wrong in (lambda: GaussianNoise(-1.0), lambda: MaskedPixels(1.0)):
        with pytest.raises(ValueError, match="got"):
            wrong()


def test_a_label_for_each_image_and_at_least_one() -> None:
    for images, labels in ((IMAGES, LABELS[:3]), ([], [])):
        with pytest.raises(ValueError, match="label"):
            ImageItems(images, labels, seed=0, length=1)


def test_digits_and_photographs_stay_on_their_side() -> None:
    for pictures, count, white in ((digits(), 1797, 16), (photographs(), 9, 255)):
        assert len(pictures) == count
        assert pictures.white == white
        assert all(image.min() >= 0 and image.max() <= white for image in pictures.images)
        training, test = pictures.split()
        assert sorted(training.names + test.names) == sorted(pictures.names)
        assert len(test) == round(0.2 * count)
        assert pictures.split()[1].names == test.names
    # The label goes with its picture.
    one = digits().split()[1]
    number = int(one.names[5].split()[1])
    np.testing.assert_array_equal(one.images[5], digits().images[number])
    assert one.labels[5] == digits().labels[number]


def test_slices_come_from_the_store_in_hu_at_the_size_asked_for(tmp_path: Path) -> None:
    store = tiny_store(tmp_path, patients=2, slices=3)
    slices = StoredSlices(store, ["s-0", "s-1"], (32, 32))
    assert len(slices) == 6
    assert slices.patients == ["p-0"] * 3 + ["p-1"] * 3
    # The patients differ by 5 HU.
    np.testing.assert_allclose(slices[3] - slices[0], 5, atol=1e-3)
    assert slices[0].shape == (32, 32)
    assert float(slices[0].mean()) == pytest.approx(float(body_slice().mean()), abs=2)
    with pytest.raises(IndexError):
        slices[6]


def test_resampling_keeps_a_constant_and_averages_where_pixels_become_fewer() -> None:
    np.testing.assert_allclose(resampled(np.full((16, 16), 40.0), (7, 9)), 40, atol=1e-4)
    checkers = np.indices((64, 64)).sum(axis=0) % 2 * 100.0
    assert np.ptp(resampled(checkers, (16, 16))[2:-2, 2:-2]) < 3


def test_lungs_are_found_in_the_slice_itself_at_any_size() -> None:
    chest = body_slice(512)
    belly = np.where((chest < -500) & (chest > AIR_HU + 1), 40.0, chest).astype(np.float32)
    both = [chest, belly, resampled(chest, (128, 128)), resampled(belly, (128, 128))]
    expected = [WITH_LUNGS, WITHOUT_LUNGS] * 2
    assert lung_labels(both).tolist() == expected
    assert lung_labels([np.full((64, 64), AIR_HU, np.float32)]).tolist() == [WITHOUT_LUNGS]
