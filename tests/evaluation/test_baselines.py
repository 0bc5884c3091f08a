"""Classical baselines and the networks for comparison: what each promises."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import torch
from helpers.images import body_slice
from numpy.typing import NDArray
from scipy import ndimage
from torch import nn

from pipeline.core.units import Window
from pipeline.evaluation.classical_denoisers import BASELINES, Baseline, tune
from pipeline.metrics.image import psnr_db
from pipeline.models.cnn10 import CNN10
from pipeline.models.dncnn import DnCNN
from pipeline.models.resnet import ResNet

WINDOW = Window(40, 400)
EACH = pytest.mark.parametrize("name", sorted(BASELINES))


def pair(deviation_hu: float = 60.0) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Two slices of a body and the same in noise."""
    target = np.stack([body_slice(), body_slice() + 10])
    noise = np.random.default_rng(0).standard_normal(target.shape) * deviation_hu
    return (target + noise).astype(np.float32), target.astype(np.float32)


def psnr(output: NDArray, target: NDArray) -> float:
    pairs = zip(output, target, strict=True)
    return float(np.mean([psnr_db(o, t, WINDOW) for o, t in pairs]))


@EACH
def test_tuned_it_denoises_and_its_strength_is_the_best(name: str) -> None:
    noisy, target = pair()
    tuned = tune(BASELINES[name], noisy, target, WINDOW)
    output = tuned(noisy)
    assert output.shape == noisy.shape
    assert output.dtype == np.float32
    reached = psnr(output, target)
    assert reached == pytest.approx(max(tuned.tried_psnr_db.values()))
    assert reached > psnr(noisy, target) + (0.5 if name == "gaussian" else 2)
    for factor in (0.6, 1.7):
        assert psnr(BASELINES[name](noisy, tuned.strength * factor), target) < reached


@EACH
def test_a_flat_image_stays_as_it_is(name: str) -> None:
    """HU in, HU out: no range is assumed, none is lost, below -1024 neither."""
    for hu in (-1500.0, 0.0, 2000.0):
        flat = np.full((1, 32, 32), hu, dtype=np.float32)
        output = BASELINES[name](flat, BASELINES[name].strengths[0])
        np.testing.assert_allclose(output, flat, atol=1e-2)


@EACH
def test_an_offset_in_hu_stays_an_offset(name: str) -> None:
    noisy, _ = pair()
    strength = BASELINES[name].strengths[1]
    here, there = (BASELINES[name](noisy + hu, strength) for hu in (0.0, 200.0))
    np.testing.assert_allclose(there - here, 200, atol=1.5)


@EACH
def test_a_strength_of_nothing_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="positive"):
        BASELINES[name](pair()[0], 0.0)


def shrinking(best: float, calls: Counter | None = None) -> Baseline:
    """A made-up baseline whose best strength is known."""

    def denoise(image_hu: NDArray, strength: float) -> NDArray:
        if calls is not None:
            calls[strength] += 1
        return image_hu + 10 * abs(np.log(strength / best)) + 1

    return Baseline("made up", "HU", (1.0, 2.0, 4.0), denoise)


@pytest.mark.parametrize("best", [0.1, 0.8, 2.0, 3.0, 30.0])
def test_the_tuner_finds_the_best_beyond_the_grid_too(best: float) -> None:
    _, target = pair()
    calls: Counter = Counter()
    tuned = tune(shrinking(best, calls), target, target, WINDOW)
    assert best / 1.2 < tuned.strength < best * 1.2
    assert set(calls.values()) == {len(target)}, "each strength is tried once"
    assert list(tuned.tried_psnr_db) == sorted(tuned.tried_psnr_db)
    assert tuned.record(slices=2).strength == tuned.strength


def test_the_tuner_gives_up_on_a_strength_without_end() -> None:
    _, target = pair()
    assert tune(shrinking(1e9), target, target, WINDOW).strength == 4 * 2**6


def test_the_gaussian_is_scipy_s() -> None:
    noisy, _ = pair()
    expected = ndimage.gaussian_filter(noisy[1], 1.3, mode="nearest")
    np.testing.assert_array_equal(BASELINES["gaussian"](noisy, 1.3)[1], expected)


@pytest.mark.parametrize(
    ("network", "weights"),
    [
        # 9*9*64+64 + 3*3*64*32+32 + 5*5*32+1, as published.
        (CNN10(), 24513),
        # The paper's 17 layers of 64: first, fifteen with batch norm, last.
        (DnCNN(), 640 + 15 * (9 * 64 * 64 + 128) + 577),
        # 9 x 9 to 128; ten blocks of 3 x 3, 3 x 3 in 8 groups, 1 x 1; 3 x 3 to the noise.
        (ResNet(), 81 * 128 + 128 + 10 * (147584 + 18560 + 16512 + 2 * 256) + 1153),
    ],
    ids=["CNN-10", "DnCNN", "ResNet"],
)
def test_a_network_is_the_published_one(network: nn.Module, weights: int) -> None:
    assert sum(parameter.numel() for parameter in network.parameters()) == weights


@pytest.mark.parametrize("network", [CNN10(4, 4), DnCNN(3, 4), ResNet(1, 8)])
@pytest.mark.parametrize("size", [(16, 16), (33, 47)])
def test_a_network_keeps_any_size(network: nn.Module, size: tuple[int, int]) -> None:
    network.eval()
    with torch.inference_mode():
        assert network(torch.randn(2, 1, *size)).shape == (2, 1, *size)


def test_a_layer_of_dncnn_reaches_one_pixel_further() -> None:
    """2 layers + 1 pixels wide: the paper's 35 for 17."""
    torch.manual_seed(0)  # of so few channels, all may be dead
    network = DnCNN(4, 16).eval()
    image = torch.zeros(1, 1, 21, 21, requires_grad=True)
    network(image)[0, 0, 10, 10].backward()
    assert image.grad is not None
    reach = torch.nonzero(image.grad[0, 0])
    assert (int(reach.min()), int(reach.max())) == (6, 14)


def test_a_block_of_resnet_begins_beside_its_skip() -> None:
    """What comes in goes through: with its last layer at zero, a block changes nothing."""
    network = ResNet(1, 8).eval()
    block = network.layers[1]
    nn.init.zeros_(block.layers[-1].weight)
    nn.init.zeros_(block.layers[-1].bias)
    hidden = torch.randn(1, 8, 9, 9)
    torch.testing.assert_close(block(hidden), hidden)


@pytest.mark.parametrize(
    ("network", "arguments"),
    [
        (CNN10, {"wide": 0}),
        (DnCNN, {"layers": 1}),
        (ResNet, {"channels": 12}),
        (ResNet, {"blocks": 0}),
    ],
)
def test_sizes_that_make_no_network_are_refused(network: type, arguments: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=r"must|expected"):
        network(**arguments)
