"""The space of codes: ways through it, directions in it, and what its latents are used for."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from pipeline.config.load import load_config
from pipeline.config.sections import Normalize
from pipeline.core.errors import ConfigError
from pipeline.evaluation.latent import cliff, lower_bound
from pipeline.generative.attributes import Attribute, require_free
from pipeline.generative.latent import (
    attribute_vector,
    codes_like,
    decode,
    encode,
    interpolate,
    latent_use,
    reconstruct,
    sample,
    traverse,
)
from pipeline.generative.latent_images import RealImages, arithmetic, pairs_of_one_label
from pipeline.models.adapters.base import HUModel
from pipeline.models.adapters.generative import Generative
from pipeline.models.distributions import Posterior
from pipeline.models.vae import DenseVAE

CONFIGS = Path(__file__).parents[2] / "configs"


class Corner(nn.Module):
    """Codes an image by its first two pixels, exactly: a space that can be computed by hand."""

    latent_shape = (2,)

    def encode(self, image: torch.Tensor) -> Posterior:
        mean = image[:, 0, 0, :2]
        return Posterior(mean, torch.zeros_like(mean))

    def decode(self, code: torch.Tensor) -> torch.Tensor:
        return code.sum(dim=1).view(-1, 1, 1, 1).expand(-1, 1, 2, 2)


@pytest.fixture
def corner() -> HUModel:
    model = HUModel(Corner(), normalize=Normalize(centre=10, scale=5), residual=False)
    model.register_parameter("somewhere", nn.Parameter(torch.zeros(())))
    return model


def test_codes_come_from_normalised_images_and_images_leave_in_hu(corner: HUModel) -> None:
    image_hu = torch.tensor([[[[15.0, 20.0], [0.0, 0.0]]]])
    codes = encode(corner, image_hu)
    torch.testing.assert_close(codes, torch.tensor([[1.0, 2.0]]))
    assert (decode(corner, codes) == 10 + 5 * 3).all()
    torch.testing.assert_close(reconstruct(corner, image_hu), decode(corner, codes))


def test_many_images_go_through_in_pieces_in_their_order(corner: HUModel) -> None:
    images = torch.arange(150.0).view(-1, 1, 1, 1).expand(-1, 1, 2, 2)
    torch.testing.assert_close(encode(corner, images)[:, 0], (torch.arange(150.0) - 10) / 5)


def test_samples_are_of_the_prior_and_the_generator_decides(corner: HUModel) -> None:
    drawn = sample(corner, 4000, torch.Generator().manual_seed(0))[:, 0, 0, 0]
    # The sum of two standard normals, in HU.
    assert float(drawn.mean()) == pytest.approx(10, abs=0.4)
    assert float(drawn.std()) == pytest.approx(5 * math.sqrt(2), rel=0.05)
    again = sample(corner, 4000, torch.Generator().manual_seed(0))[:, 0, 0, 0]
    assert torch.equal(drawn, again)


def test_codes_like_others_are_where_the_others_are() -> None:
    """Two far clouds: the prior's samples would lie between them."""
    noise = torch.randn(400, 2, generator=torch.Generator().manual_seed(0))
    codes = 0.1 * noise + torch.tensor([[5.0, 0.0], [-5.0, 0.0]]).repeat(200, 1)
    drawn = codes_like(codes, 300, components=2, seed=0)
    assert (drawn[:, 0].abs() - 5).abs().max() < 0.6
    assert 0.3 < float((drawn[:100, 0] > 0).float().mean()) < 0.7  # not one cloud first
    assert torch.equal(drawn, codes_like(codes, 300, components=2, seed=0))


def test_a_straight_way_is_straight_and_a_round_one_keeps_its_distance() -> None:
    start, end = torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0])
    straight = interpolate(start, end, 5)
    torch.testing.assert_close(straight[2], torch.tensor([0.5, 0.5]))
    round_ = interpolate(start, end, 5, spherical=True)
    torch.testing.assert_close(round_[2], torch.tensor([1.0, 1.0]) / math.sqrt(2))
    torch.testing.assert_close(round_.norm(dim=1), torch.ones(5))
    for way in (straight, round_):
        torch.testing.assert_close(way[0], start)
        torch.testing.assert_close(way[-1], end, atol=1e-6, rtol=0)


def test_codes_of_any_shape_and_parallel_ones() -> None:
    start = torch.randn(2, 4, 4, generator=torch.Generator().manual_seed(0))
    assert interpolate(start, -start, 3, spherical=True).isfinite().all()
    torch.testing.assert_close(
        interpolate(start, 3 * start, 3, spherical=True)[1], 2 * start, atol=1e-5, rtol=0
    )


def test_a_traversal_moves_one_latent_from_minus_three_to_three() -> None:
    code = torch.tensor([[0.5, -1.0], [2.0, 0.0]])
    moved = traverse(code, 2, steps=7)
    assert moved.shape == (7, 2, 2)
    torch.testing.assert_close(moved[:, 1, 0], torch.linspace(-3, 3, 7))
    for place in ((0, 0), (0, 1), (1, 1)):
        assert (moved[(slice(None), *place)] == code[place]).all()
    assert code[1, 0] == 2  # the code itself stays


def test_an_attribute_is_the_difference_of_means() -> None:
    codes = torch.tensor([[0.0, 1.0], [2.0, 1.0], [5.0, 3.0], [7.0, 3.0]])
    has = torch.tensor([False, False, True, True])
    torch.testing.assert_close(attribute_vector(codes, has), torch.tensor([5.0, 2.0]))
    for wrong in (torch.ones(4, dtype=bool), torch.zeros(4, dtype=bool)):
        with pytest.raises(ValueError, match="without"):
            attribute_vector(codes, wrong)


def test_latents_are_ordered_by_what_they_tell_and_idle_ones_are_not_active(
    corner: HUModel,
) -> None:
    images = torch.full((100, 1, 2, 2), 10.0)
    images[:50, 0, 0, 1] = 20.0  # the second latent is 2 for half of the images, else 0
    use = latent_use(corner, images)
    torch.testing.assert_close(use.variance, torch.tensor([0.0, 1.0]))
    torch.testing.assert_close(use.kl, torch.tensor([0.0, 0.5 * 4 / 2]))
    assert use.active() == 1
    assert use.active(threshold=1.5) == 0
    assert use.by_variance() == [1, 0]


def test_an_even_way_has_no_cliff_and_a_jump_is_one() -> None:
    even = np.arange(5.0)[:, None, None] * np.ones((5, 2, 2))
    assert cliff(even) == pytest.approx(1)
    jump = np.array([0.0, 0.0, 0.0, 1.0, 1.0])[:, None, None] * np.ones((5, 2, 2))
    assert cliff(jump) == pytest.approx(4)
    assert cliff(np.zeros((4, 2, 2))) == 1


def test_bits_do_not_depend_on_how_values_are_normalised() -> None:
    """A network that knows nothing, sigma as wide as the data: log2 of a normal density."""
    images = 100 * torch.randn(50, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    bits = []
    for scale in (50.0, 400.0):
        network = DenseVAE((8, 8), 2, hidden=(), sigma=100 / scale)
        for layer in network.parameters():
            if layer.requires_grad:
                nn.init.zeros_(layer)
        model = HUModel(network, normalize=Normalize(centre=0, scale=scale), residual=False)
        bound = lower_bound(model, images, torch.Generator().manual_seed(0))
        assert bound.kl == pytest.approx(0, abs=1e-5)
        bits.append(bound.bits_per_dim)
    assert bits[0] == pytest.approx(bits[1], abs=1e-4)
    entropy = 0.5 * math.log2(2 * math.pi * math.e * 100**2)
    assert bits[0] == pytest.approx(entropy, abs=0.05)


def test_a_network_without_posterior_has_no_bound(corner: HUModel) -> None:
    with pytest.raises(TypeError, match="posterior"):
        lower_bound(corner, torch.zeros(1, 1, 2, 2), torch.Generator())


def three_by_three() -> list[np.ndarray]:
    """Nine images that hold their own number, for labels 0, 1, 2, 0, 1, 2, ..."""
    return [np.full((2, 2), number, dtype=np.float32) for number in range(9)]


def test_both_ends_of_a_way_have_the_label_that_a_conditional_network_is_asked_for() -> None:
    labels = np.resize([0, 1, 2], 9)
    known = pairs_of_one_label(three_by_three(), labels, 4)
    first, last = known.labels.chunk(2)
    assert torch.equal(first, last)
    assert first.tolist() == [0, 1, 2, 0]
    assert known.images[:, 0, 0, 0].tolist() == [0, 1, 2, 6, 3, 4, 5, 0]  # images stay with labels
    only = pairs_of_one_label(three_by_three(), labels, 2, label=2)
    assert only.labels.tolist() == [2, 2, 2, 2]
    with pytest.raises(ConfigError, match="no two of label 7"):
        pairs_of_one_label(three_by_three(), labels, 2, label=7)


def test_an_attribute_added_to_codes_is_measured_in_what_comes_of_it(corner: HUModel) -> None:
    """Corner's images are as bright as their codes' sum: twice the vector, twice as bright."""
    model = Generative(Corner(), config=load_config(CONFIGS / "vae_digits.yaml"))
    model.register_parameter("somewhere", nn.Parameter(torch.zeros(())))
    images = 16 * torch.tensor([0.0, 0.0, 0.5, 0.5]).view(-1, 1, 1, 1).expand(-1, 1, 2, 2)
    has = np.array([False, False, True, True])
    bright = Attribute("bright", has, lambda image: float(image.mean()), "grey levels")
    grid = arithmetic(model, RealImages(images, torch.zeros(4)), bright, shown=2)
    assert grid.images.shape == (10, 2, 2)
    np.testing.assert_allclose(grid.images[:5, 0, 0], [0, 8, 16, 24, 32], atol=1e-4)
    assert "Mean of each column, grey levels: 0, 8, 16, 24, 32." in grid.caption


def test_an_attribute_that_the_condition_would_undo_is_refused() -> None:
    digits, ct = (load_config(CONFIGS / f"vae_{name}.yaml") for name in ("digits", "ct"))
    with pytest.raises(ConfigError, match="vae_digits is asked for the label"):
        require_free("label=3", digits, labels=10)
    with pytest.raises(ConfigError, match=r"vae_ct is asked .* model\.args\.labels=0"):
        require_free("lungs", ct, labels=2)
    require_free("label=3", digits, labels=0)
    require_free("thickness", digits, labels=10)
    require_free("lungs", ct, labels=0)
