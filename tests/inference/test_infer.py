"""A model over a volume: nothing but finite HU of the same shape comes out."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from helpers.images import body_slice, run_config
from numpy.typing import NDArray
from torch import nn

from pipeline.config.sections import Normalize
from pipeline.core.errors import LdctError
from pipeline.inference.denoise import apply_model, apply_to_slices
from pipeline.models.adapters.base import HUModel, Identity, build_model


def slices(count: int = 5) -> NDArray[np.float32]:
    noise = np.random.default_rng(0).standard_normal((count, 64, 64)) * 30
    return (body_slice() + noise).astype(np.float32)


class Spoils(nn.Module):
    """Puts a value into one voxel of the brightest slice alone."""

    def __init__(self, value: float) -> None:
        super().__init__()
        self.value = value

    def forward(self, image_hu: torch.Tensor) -> torch.Tensor:
        output = image_hu.clone()
        output[image_hu.amax(dim=(1, 2, 3)) > 10_000, 0, 3, 4] = self.value
        return output


def test_the_identity_leaves_the_volume() -> None:
    model = HUModel(Identity(), normalize=Normalize(), residual=False)
    output = apply_model(model, slices())
    assert output.dtype == np.float32
    np.testing.assert_allclose(output, slices(), atol=1e-3)


def test_the_input_stays_untouched() -> None:
    image_hu = slices()
    apply_model(nn.ReLU(inplace=True), image_hu)
    np.testing.assert_array_equal(image_hu, slices())


@pytest.mark.parametrize("batch", [1, 2, 3, 5, 8])
def test_the_batch_changes_nothing(batch: int) -> None:
    torch.manual_seed(0)
    model = build_model(run_config()).eval()
    one_by_one = np.stack([apply_model(model, image[None])[0] for image in slices()])
    np.testing.assert_allclose(apply_model(model, slices(), batch=batch), one_by_one, atol=1e-2)
    assert np.abs(one_by_one - slices()).max() > 1, "the model does something"


def test_slices_keep_their_order() -> None:
    numbered = np.broadcast_to(np.arange(7.0)[:, None, None], (7, 16, 16))
    output = apply_model(nn.Identity(), numbered, batch=3)
    assert output[:, 0, 0].tolist() == list(range(7))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_output_that_is_not_finite_is_refused(value: float) -> None:
    image_hu = slices()
    image_hu[4, 0, 0] = 20_000
    with pytest.raises(LdctError, match="not numbers"):
        apply_model(Spoils(value), image_hu)
    assert np.isfinite(apply_model(Spoils(0.0), image_hu)).all()


@pytest.mark.parametrize(
    "model", [nn.MaxPool2d(2), nn.Conv2d(1, 2, 3, padding=1), nn.Flatten(), nn.ZeroPad2d(1)]
)
def test_output_of_another_shape_is_refused(model: nn.Module) -> None:
    with pytest.raises(LdctError, match="gave"):
        apply_model(model, slices())


@pytest.fixture
def threads() -> Iterator[Callable[[int], None]]:
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


@pytest.mark.parametrize(
    ("count", "batch", "expected"),
    [
        (1, 2, [2, 2, 1]),
        (1, 4, [4, 1]),
        (1, 8, [5]),
        (2, 4, [1, 1, 1, 1, 1]),
        (2, 8, [2, 2, 1]),
        (8, 4, [1, 1, 1, 1, 1]),
    ],
)
def test_progress_sums_to_the_slices(
    threads: Callable[[int], None], count: int, batch: int, expected: list[int]
) -> None:
    threads(count)
    seen: list[int] = []
    apply_model(nn.Identity(), slices(), batch=batch, progress=seen.append)
    assert seen == expected


class Together(nn.Module):
    """Goes on when as many slices are here as there are to be at once; fails: gives no numbers."""

    def __init__(self, at_once: int, *, fails: bool = False) -> None:
        super().__init__()
        self.here = threading.Barrier(at_once)
        self.fails = fails
        self.threads: list[int] = []

    def forward(self, image_hu: torch.Tensor) -> torch.Tensor:
        self.here.wait(timeout=30)
        self.threads.append(torch.get_num_threads())
        return image_hu / 0 if self.fails else image_hu + 1


@pytest.mark.parametrize(("count", "at_once", "each"), [(2, 2, 1), (4, 4, 1), (8, 4, 2), (9, 4, 2)])
def test_the_slices_of_a_batch_share_the_threads(
    threads: Callable[[int], None], count: int, at_once: int, each: int
) -> None:
    threads(count)
    model, image_hu = Together(at_once), slices(4 * at_once)
    np.testing.assert_array_equal(apply_model(model, image_hu, batch=4), image_hu + 1)
    assert model.threads == [each] * len(image_hu)
    assert torch.get_num_threads() == count
    with ThreadPoolExecutor(1) as later:
        assert later.submit(torch.get_num_threads).result() == count


@pytest.mark.parametrize("count", [1, 2, 8])
def test_no_more_slices_are_taken_than_two_batches(
    threads: Callable[[int], None], count: int
) -> None:
    threads(count)
    taken = 0

    def counted() -> Iterator[NDArray[np.float32]]:
        nonlocal taken
        for image_hu in slices(40):
            taken += 1
            yield image_hu

    for given, _ in enumerate(apply_to_slices(nn.Identity(), counted(), batch=4)):
        assert taken - given <= 8
    assert taken == 40


def test_one_slice_has_all_threads(threads: Callable[[int], None]) -> None:
    threads(2)
    model = Together(1)
    apply_model(model, slices(1))
    assert model.threads == [2]


def test_threads_are_given_back_when_a_slice_fails(threads: Callable[[int], None]) -> None:
    threads(2)
    with pytest.raises(LdctError, match="not numbers"):
        apply_model(Together(2, fails=True), slices(8))
    assert torch.get_num_threads() == 2


def test_nothing_is_kept_for_a_gradient() -> None:
    model = build_model(run_config())
    apply_model(model, slices(1))
    assert all(parameter.grad is None for parameter in model.parameters())


def test_a_memory_mapped_big_endian_volume_is_read(tmp_path) -> None:
    np.save(tmp_path / "image.npy", slices().astype(">f8"))
    stored = np.load(tmp_path / "image.npy", mmap_mode="r")
    np.testing.assert_array_equal(apply_model(nn.Identity(), stored), slices())
