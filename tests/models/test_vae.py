"""Variational autoencoders: the closed forms against sampling, and what a network promises."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from pipeline.evaluation.latent import kl_divergence
from pipeline.models.distributions import Bernoulli, Gaussian, Posterior
from pipeline.models.vae import VAE, ConvVAE, DenseVAE, SpatialVAE


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def posterior(mean: list[float], variance: list[float]) -> Posterior:
    return Posterior(torch.tensor([mean]), torch.tensor([variance]).log())


def test_the_analytic_kl_is_what_sampling_gives() -> None:
    found = posterior([0.0, 1.5, -0.4], [1.0, 0.3, 2.5])
    many = Posterior(*(part.expand(200_000, -1) for part in found))
    codes = many.sample(generator())
    q = torch.distributions.Normal(found.mean, found.log_variance.exp().sqrt())
    p = torch.distributions.Normal(0.0, 1.0)
    sampled = (q.log_prob(codes) - p.log_prob(codes)).mean(dim=0)
    torch.testing.assert_close(found.kl()[0], sampled, atol=0.01, rtol=0)


def test_the_kl_is_zero_at_the_prior_alone_and_has_the_right_signs() -> None:
    assert float(posterior([0.0], [1.0]).kl()) == 0
    # 0.5 * (var + mean^2 - 1 - log var): a slide of the course has the last two signs wrong.
    assert float(posterior([2.0], [1.0]).kl()) == pytest.approx(2.0)
    assert float(posterior([0.0], [math.e]).kl()) == pytest.approx(0.5 * (math.e - 2))
    around = Posterior(torch.randn(500, 3, generator=generator()), torch.randn(500, 3))
    assert (around.kl() >= 0).all()


def test_the_course_s_discrete_example() -> None:
    p, q = torch.tensor([0.36, 0.48, 0.16]), torch.tensor([0.33, 0.33, 0.33])
    per_digit = math.log(10)  # the example takes logarithms to base 10
    assert kl_divergence(p.numpy(), q.numpy()) / per_digit == pytest.approx(0.0414, abs=5e-5)
    assert kl_divergence(q.numpy(), p.numpy()) / per_digit == pytest.approx(0.0375, abs=1e-4)


def test_a_class_that_never_comes_costs_nothing_and_one_that_must_not_everything() -> None:
    with_gap, without = torch.tensor([0.5, 0.5, 0.0]), torch.full((3,), 1 / 3)
    assert kl_divergence(with_gap.numpy(), without.numpy()) == pytest.approx(math.log(1.5))
    assert kl_divergence(without.numpy(), with_gap.numpy()) == math.inf


def test_codes_are_drawn_from_the_posterior_and_gradients_pass() -> None:
    mean = torch.tensor([[3.0]]).expand(50_000, 1).clone().requires_grad_()
    log_variance = torch.full((50_000, 1), math.log(0.25)).requires_grad_()
    codes = Posterior(mean, log_variance).sample(generator())
    assert float(codes.detach().mean()) == pytest.approx(3.0, abs=0.01)
    assert float(codes.detach().std()) == pytest.approx(0.5, abs=0.01)
    codes.sum().backward()
    torch.testing.assert_close(mean.grad, torch.ones_like(mean))
    # d code / d log var = (code - mean) / 2
    torch.testing.assert_close(log_variance.grad, (codes - mean).detach() / 2)


def test_the_generator_decides_on_the_code_and_nothing_else_does() -> None:
    spread = posterior([0.0, 1.0], [1.0, 4.0])
    first = spread.sample(generator(3))
    torch.manual_seed(99)
    assert torch.equal(first, spread.sample(generator(3)))
    assert not torch.equal(first, spread.sample(generator(4)))


def test_the_gaussian_likelihood_is_the_normal_density() -> None:
    raw, image = torch.randn(2, 3, 1, 4, 4, generator=generator())
    expected = torch.distributions.Normal(raw, 0.3).log_prob(image).flatten(1).sum(1)
    torch.testing.assert_close(Gaussian(0.3).log_prob(raw, image), expected)
    torch.testing.assert_close(Gaussian(0.3).mean(raw), raw)


def test_sigma_is_fitted_where_asked_to_and_only_there() -> None:
    image = 0.2 * torch.randn(8, 1, 16, 16, generator=generator())
    fitted = Gaussian(1.0, learn=True)
    optimiser = torch.optim.Adam(fitted.parameters(), lr=0.05)
    for _ in range(200):
        optimiser.zero_grad()
        (-fitted.log_prob(torch.zeros_like(image), image).mean()).backward()
        optimiser.step()
    assert float(fitted.log_sigma.exp()) == pytest.approx(float(image.square().mean().sqrt()), 0.01)
    assert not Gaussian(1.0).log_sigma.requires_grad


def test_the_bernoulli_likelihood_is_the_coin_s() -> None:
    raw = torch.randn(3, 1, 4, 4, generator=generator())
    image = (torch.rand(3, 1, 4, 4, generator=generator(1)) > 0.5).float()
    expected = torch.distributions.Bernoulli(logits=raw).log_prob(image).flatten(1).sum(1)
    torch.testing.assert_close(Bernoulli().log_prob(raw, image), expected)
    torch.testing.assert_close(Bernoulli().mean(raw), raw.sigmoid())


@pytest.mark.parametrize("value", [-0.01, 1.01])
def test_a_coin_has_no_values_beyond_its_sides(value: float) -> None:
    with pytest.raises(ValueError, match="normalize_hu"):
        Bernoulli().log_prob(torch.zeros(1, 1, 2, 2), torch.full((1, 1, 2, 2), value))


NETWORKS = {
    "dense": lambda **settings: DenseVAE((16, 16), 5, hidden=(32,), **settings),
    "conv": lambda **settings: ConvVAE((16, 16), 5, channels=(8, 16), **settings),
    "spatial": lambda **settings: SpatialVAE((16, 16), 2, channels=(8, 8, 8), **settings),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_an_image_becomes_a_code_and_a_code_an_image(name: str) -> None:
    network: VAE = NETWORKS[name]().eval()
    image = torch.randn(3, 1, 16, 16, generator=generator())
    found = network.encode(image)
    assert found.mean.shape == found.log_variance.shape == (3, *network.latent_shape)
    assert network.decode(found.mean).shape == image.shape
    torch.testing.assert_close(network(image), network.decode(found.mean))


@pytest.mark.parametrize("name", NETWORKS)
def test_another_size_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="resample"):
        NETWORKS[name]()(torch.zeros(1, 1, 16, 24))


@pytest.mark.parametrize("name", ["dense", "conv"])
def test_the_label_reaches_the_code_and_the_image(name: str) -> None:
    network: VAE = NETWORKS[name](labels=3).eval()
    image, code = torch.randn(1, 1, 16, 16, generator=generator()), torch.zeros(1, 5)
    one, other = torch.tensor([0]), torch.tensor([2])
    assert not torch.equal(network.encode(image, one).mean, network.encode(image, other).mean)
    assert not torch.equal(network.decode(code, one), network.decode(code, other))


def test_a_label_where_none_belongs_or_none_where_one_does_is_refused() -> None:
    image = torch.zeros(1, 1, 16, 16)
    with pytest.raises(ValueError, match=r"label in 0 \.\.\. 2"):
        NETWORKS["dense"](labels=3)(image)
    with pytest.raises(ValueError, match="no label"):
        NETWORKS["dense"]()(image, torch.tensor([0]))


def test_bernoulli_images_are_probabilities() -> None:
    network = NETWORKS["dense"](likelihood="bernoulli")
    image = network.decode(10 * torch.randn(20, 5, generator=generator()))
    assert 0 <= float(image.min()) < float(image.max()) <= 1


def test_a_posterior_gone_astray_stays_finite() -> None:
    network = NETWORKS["dense"]()
    last = network.encoder[-1]
    assert isinstance(last, nn.Linear)
    nn.init.constant_(last.bias, 1e4)
    found = network.encode(torch.zeros(1, 1, 16, 16))
    assert torch.isfinite(found.sample(generator())).all()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: DenseVAE((8, 8), 0), "positive"),
        (lambda: DenseVAE((8, 8), 2, labels=-1), "negative"),
        (lambda: DenseVAE((8, 8), 2, likelihood="laplace"), "laplace"),
        (lambda: DenseVAE((8, 8), 2, sigma=0), "sigma"),
        (lambda: ConvVAE((20, 16), 2, channels=(4, 4, 4)), "multiples of 8"),
    ],
)
def test_impossible_networks_are_refused(make, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()
