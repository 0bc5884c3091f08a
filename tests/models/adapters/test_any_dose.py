"""A dose-conditioned denoiser: the identity at 1, and more goes the more dose is asked for."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from torch import nn

from pipeline.config.sections import Normalize
from pipeline.models.adapters.any_dose import AnyDoseModel, at_dose_ratio
from pipeline.models.swift import SwiftUNet


class AllNoise(nn.Module):
    """Takes all that differs from 40 HU for noise."""

    def forward(self, seen: torch.Tensor) -> torch.Tensor:
        return seen[:, :1] - 0.04


def image(level: float = 20.0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return 40 + level * torch.randn(2, 1, 32, 32, generator=generator)


def model(network: nn.Module | None = None) -> AnyDoseModel:
    return AnyDoseModel(network or AllNoise(), normalize=Normalize()).eval()


def ratios(*values: float) -> torch.Tensor:
    return torch.tensor(values)


def test_dose_1_is_the_identity_bit_for_bit() -> None:
    torch.manual_seed(0)
    network = SwiftUNet((8, 16), inputs=2)
    nn.init.normal_(network.last.weight)
    assert torch.equal(model(network)(image(), ratios(1, 1)), image())


@pytest.mark.parametrize("ratio", [1.05, 2, 4, 20])
def test_what_stays_is_the_noise_of_that_dose(ratio: float) -> None:
    """Of white noise a share of 1 / k: with the anatomy known, that is the best estimate."""
    noise = model()(image(), ratios(ratio, ratio)) - 40
    torch.testing.assert_close(noise, (image() - 40) / ratio, atol=1e-3, rtol=1e-3)


def test_little_goes_at_little_more_dose_and_what_goes_grows() -> None:
    removed = [(image() - model()(image(), ratios(k, k))).std() for k in (1.05, 1.5, 2, 4, 8, 20)]
    assert removed[0] < 0.05 * 20 * 1.05
    assert all(less < more for less, more in pairwise(removed))


def test_each_image_has_its_own_ratio() -> None:
    both = model()(image(), ratios(1, 4))
    assert torch.equal(both[0], image()[0])
    torch.testing.assert_close(both[1], model()(image(), ratios(4, 4))[1])


def test_the_network_sees_the_ratio() -> None:
    class Seen(nn.Module):
        def forward(self, seen: torch.Tensor) -> torch.Tensor:
            self.plane = seen[:, 1:]
            return torch.zeros_like(self.plane)

    network = Seen()
    model(network)(image(), ratios(2, 4))
    assert network.plane[0].unique().tolist() == [0.5]
    assert network.plane[1].unique().tolist() == [0.75]
    model(network)(image(), ratios(1.05, 2))
    assert network.plane[0].unique().tolist() == [0.5]  # what goes is then scaled to 1.05


def test_without_a_ratio_the_model_s_own_is_taken() -> None:
    own = model()
    own.dose_ratio = 2.0
    assert torch.equal(own(image()), own(image(), ratios(2, 2)))


def test_at_a_ratio_it_is_a_model_of_images_alone() -> None:
    assert torch.equal(at_dose_ratio(model(), 2)(image()), model()(image(), ratios(2, 2)))
    other = nn.Identity()
    assert at_dose_ratio(other, 2) is other
