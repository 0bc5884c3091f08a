"""Denoising diffusion: what noise is added, that a perfect network brings the image back, and
that a training lowers its loss and goes on where it stopped."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.training import DIGIT_LEVELS, fit, settings

from pipeline.config.load import load_config
from pipeline.core.errors import ConfigError
from pipeline.generative.fill import require_generator
from pipeline.generative.latent import sample
from pipeline.models.adapters.base import HUModel
from pipeline.models.adapters.generative import Generative
from pipeline.models.diffusion import Diffusion
from pipeline.models.gan import Generator
from pipeline.training.steps.diffusion import DiffusionStep

CONFIGS = Path(__file__).parents[2] / "configs"
PREDICTIONS = ("epsilon", "sample", "v_prediction")


def tiny(**changes: Any) -> Diffusion:
    """Of 8 x 8 pixels, with 100 timesteps in 10."""
    given: dict[str, Any] = {"channels": (8, 16), "groups": 4, "blocks": 1, "timesteps": 100}
    return Diffusion((8, 8), **{**given, "sampling_steps": 10, **changes})


def shaken(network: Diffusion) -> Diffusion:
    """With weights that make it answer something: fresh from its making it answers 0."""
    with torch.no_grad():
        for weights in network.parameters():
            weights.copy_(0.15 * torch.randn(weights.shape, generator=seeded(len(weights))))
    return network


def model_of(network: Diffusion) -> HUModel:
    return HUModel(network, normalize=DIGIT_LEVELS, residual=False).eval()


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


# Noise


@pytest.mark.parametrize("schedule", ["cosine", "linear_beta"])
def test_noise_keeps_the_variance_of_images_that_have_variance_one(schedule: str) -> None:
    """sqrt(a) image + sqrt(1 - a) noise: from the image itself to nothing but noise."""
    network = tiny(schedule=schedule, timesteps=1000)
    image = torch.randn(4000, 1, 4, 4, generator=seeded())
    noise = torch.randn(image.shape, generator=seeded(1))
    correlations = []
    for timestep in (0, 250, 500, 750, 999):
        noisy = network.noisy(image, noise, torch.full((len(image),), timestep))
        assert float(noisy.var()) == pytest.approx(1, rel=0.02)
        correlations.append(float((noisy * image).mean()))
    assert correlations[0] > 0.98
    assert correlations[-1] < 0.02
    assert correlations == sorted(correlations, reverse=True)


def test_the_noise_added_is_the_product_of_all_single_steps() -> None:
    """Ho et al. 2020, equation 4: a_t is the product of 1 - beta up to t."""
    network = tiny(schedule="linear_beta", timesteps=100)
    betas = torch.linspace(1e-4, 2e-2, 100)
    kept = torch.cumprod(1 - betas, dim=0)[60]
    ones, zeros = torch.ones(1, 1, 2, 2), torch.zeros(1, 1, 2, 2)
    at = torch.tensor([60])
    torch.testing.assert_close(network.noisy(ones, zeros, at), kept.sqrt() * ones)
    torch.testing.assert_close(network.noisy(zeros, ones, at), (1 - kept).sqrt() * ones)


@pytest.mark.parametrize("prediction", PREDICTIONS)
@pytest.mark.parametrize("steps", [1, 10, 100])
def test_a_perfect_network_brings_the_image_back(
    prediction: str, steps: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever it predicts and in however few steps: DDIM follows its answer exactly."""
    network = tiny(prediction=prediction, sampling_steps=steps)
    image = 1.8 * torch.rand(3, 1, 8, 8, generator=seeded()) - 0.9
    noise = torch.randn(image.shape, generator=seeded(1))
    seen = []

    def perfect(noisy: torch.Tensor, timestep: torch.Tensor, label: None) -> torch.Tensor:
        seen.append(int(timestep[0]))
        torch.testing.assert_close(noisy, network.noisy(image, noise, timestep), atol=1e-3, rtol=0)
        return network.wanted(image, noise, timestep)

    monkeypatch.setattr(network, "predicted", perfect)
    start = network.noisy(image, noise, torch.full((3,), 99))
    torch.testing.assert_close(network.decode(start), image, atol=1e-3, rtol=0)
    assert len(seen) == steps
    assert seen[0] == 99
    assert seen == sorted(seen, reverse=True)


# Drawing


def test_the_same_seed_draws_the_same_and_codes_do_not_touch_each_other() -> None:
    network = shaken(tiny())
    model = model_of(network)
    drawn = sample(model, 5, seeded())
    assert drawn.shape == (5, 1, 8, 8)
    assert torch.equal(drawn, sample(model, 5, seeded()))
    assert not torch.allclose(drawn, sample(model, 5, seeded(1)))
    assert float(drawn.min()) >= 0
    assert float(drawn.max()) <= 16
    codes = torch.randn((5, *network.latent_shape), generator=seeded())
    with torch.no_grad():
        torch.testing.assert_close(network.decode(codes)[2:3], network.decode(codes[2:3]))


def test_a_conditional_network_draws_what_it_is_asked_for_and_asks_for_it() -> None:
    network = shaken(tiny(labels=3))
    code = torch.randn((1, *network.latent_shape), generator=seeded())
    with torch.no_grad():
        one, two = (network.decode(code, torch.tensor([label])) for label in (1, 2))
        torch.testing.assert_close(network.drawn(code, torch.eye(3)[2:]), two)
    assert not torch.allclose(one, two)
    with pytest.raises(ValueError, match=r"label in 0 \.\.\. 2"):
        network.decode(code)


def test_what_cannot_be_built_or_searched_is_refused() -> None:
    with pytest.raises(ValueError, match="multiples of 2, got"):
        Diffusion((8, 7))
    with pytest.raises(ValueError, match="divide timesteps, got 7 and 100"):
        tiny(sampling_steps=7)
    with pytest.raises(ConfigError, match=r"models\.diffusion\.Diffusion"):
        DiffusionStep(
            HUModel(Generator(4, 8, channels=8), normalize=DIGIT_LEVELS, residual=False),
            settings(),
        )
    model = Generative(tiny(), config=load_config(CONFIGS / "diffusion_digits.yaml"))
    with pytest.raises(ConfigError, match="in many steps"):
        require_generator(model)


# Learning


def test_a_short_training_lowers_the_loss_and_the_mean_follows(tmp_path: Path) -> None:
    torch.manual_seed(0)
    train = settings(iterations=80, batch=16, lr=5e-3)
    model, step, curve = fit(tiny(), DiffusionStep, train, tmp_path)
    losses = [metrics["loss"] for metrics in curve]
    assert sum(losses[-10:]) / 10 < 0.7 * sum(losses[:5]) / 5
    assert torch.isfinite(sample(model, 4, seeded())).all()
    trained = step.networks()["model"].state_dict()
    differences = [
        float((trained[name] - mean).abs().max()) for name, mean in model.state_dict().items()
    ]
    assert 0 < max(differences) < 0.2


def test_a_training_that_was_stopped_ends_as_one_that_was_not(tmp_path: Path) -> None:
    def trained(folder: Path, until: int | None = None) -> HUModel:
        torch.manual_seed(0)
        train = settings(iterations=6, checkpoint_every=3)
        return fit(tiny(), DiffusionStep, train, folder, until=until)[0]

    whole = trained(tmp_path / "whole").state_dict()
    with pytest.raises(KeyboardInterrupt):
        trained(tmp_path / "stopped", until=5)
    again = trained(tmp_path / "stopped").state_dict()
    assert all(torch.equal(weights, again[name]) for name, weights in whole.items())


def test_timesteps_of_a_batch_cover_all_and_repeat_with_the_seed() -> None:
    step = DiffusionStep(model_of(tiny()), settings())
    drawn = torch.stack([step.timesteps(10) for _ in range(50)])
    assert (drawn.sort(dim=1).values // 10 == torch.arange(10)).all()  # one in each tenth
    assert len(drawn.unique()) == 100
    again = DiffusionStep(model_of(tiny()), settings())
    assert torch.equal(again.timesteps(10), drawn[0])
