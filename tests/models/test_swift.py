"""The denoiser for CPUs: any size, nothing changed before training, far fewer operations."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from pipeline.models.redcnn import REDCNN
from pipeline.models.swift import SwiftUNet


def image(rows: int = 24, columns: int = 20) -> torch.Tensor:
    return torch.randn(2, 1, rows, columns, generator=torch.Generator().manual_seed(0))


def woken(seed: int = 0, **options: Any) -> SwiftUNet:
    """With a last layer that says something."""
    torch.manual_seed(seed)
    network = SwiftUNet((4, 6, 8), **options)
    nn.init.normal_(network.last.weight, std=0.1)
    return network.eval()


def test_untrained_it_adds_nothing() -> None:
    assert (SwiftUNet()(image()) == 0).all()


@pytest.mark.parametrize("size", [(47, 33), (33, 64), (1, 1), (8, 8)])
def test_the_output_has_the_input_s_size(size: tuple[int, int]) -> None:
    output = woken()(image(*size))
    assert output.shape == (2, 1, *size)
    assert output.abs().max() > 0


def test_each_slice_is_denoised_by_itself() -> None:
    """No normalisation over the batch or the slice: a bright neighbour changes no HU."""
    network, both = woken(), image()
    both[1] *= 100
    with torch.inference_mode():
        assert torch.allclose(network(both)[:1], network(both[:1]), atol=1e-6)


def test_what_is_far_away_changes_nothing() -> None:
    """As a normalisation over the slice would."""
    network, one = woken(depth=1), image(160, 160)
    other = one.clone()
    other[..., 120:, 120:] += 100
    with torch.inference_mode():
        assert torch.equal(network(one)[..., :40, :40], network(other)[..., :40, :40])


def test_every_weight_learns() -> None:
    network = woken()
    network(image()).square().mean().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in network.parameters())


@pytest.mark.parametrize(("slope", "learns"), [(0.0, False), (0.1, True)])
def test_with_a_slope_no_channel_is_switched_off_for_good(slope: float, learns: bool) -> None:
    network = woken(slope=slope)
    nn.init.constant_(network.first.bias, -100.0)  # all of the first layer's below zero
    network(image()).square().mean().backward()
    assert network.first.weight.grad is not None
    assert bool(network.first.weight.grad.abs().sum() > 0) is learns


@pytest.mark.parametrize("slope", [-0.1, 1.0])
def test_a_slope_that_is_none_is_refused(slope: float) -> None:
    with pytest.raises(ValueError, match="slope"):
        SwiftUNet(slope=slope)


def test_a_sixtieth_of_the_operations_of_red_cnn() -> None:
    assert operations(REDCNN()) > 60 * operations(SwiftUNet())


@pytest.mark.parametrize(("channels", "depth"), [((), 2), ((8, 0), 2), ((8,), 0)])
def test_a_network_without_layers_is_refused(channels: tuple[int, ...], depth: int) -> None:
    with pytest.raises(ValueError, match="expected channels of at least one level"):
        SwiftUNet(channels, depth)


def operations(network: nn.Module) -> int:
    """Multiplications and additions of the convolutions of one slice."""
    counter = FlopCounterMode(display=False)
    with counter, torch.device("meta"):
        network.to("meta")(torch.zeros(1, 1, 512, 512))
    return counter.get_total_flops()
