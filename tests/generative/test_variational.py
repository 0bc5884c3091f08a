"""The ELBO as an update rule: what each of its terms does, on real digits."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.latent import DIGITS, Logged, fit, variational
from sklearn.svm import SVC
from torch import nn

from pipeline.config.sections import Normalize, Train
from pipeline.core.errors import ConfigError
from pipeline.evaluation.latent import lower_bound
from pipeline.generative.latent import latent_use, sample
from pipeline.ingest.bundled_pictures import Pictures, digits
from pipeline.models.adapters.base import HUModel, Identity
from pipeline.models.vae import DenseVAE
from pipeline.training.steps.variational import Variational


@pytest.fixture(scope="module")
def sides() -> tuple[Pictures, Pictures]:
    return digits().split()


def network(**settings) -> DenseVAE:
    return DenseVAE((8, 8), 6, **({"hidden": (256,), "sigma": 0.2} | settings))


def train(
    sides: tuple[Pictures, Pictures], folder: Path, *, iterations: int = 300, step=None, **made
) -> tuple[HUModel, Logged]:
    images = np.stack(sides[0].images)
    return fit(
        lambda: network(**made),
        images,
        folder,
        step=variational(**(step or {})),
        labels=sides[0].labels if made.get("labels") else None,
        iterations=iterations,
        lr=3e-3,
        batch=32,
    )


def held_back(sides: tuple[Pictures, Pictures]) -> torch.Tensor:
    return torch.from_numpy(np.stack(sides[1].images))[:, None]


@pytest.fixture(scope="module")
def whole(sides, tmp_path_factory) -> tuple[HUModel, Logged]:
    """Trained on both terms."""
    return train(sides, tmp_path_factory.mktemp("whole"))


def test_the_parts_of_the_bound_add_up_and_the_bound_rises(whole) -> None:
    logged = [metrics for _, metrics in whole[1]]
    for metrics in logged:
        assert metrics["elbo"] == pytest.approx(
            -metrics["reconstruction"] - metrics["kl"], rel=1e-4
        )
        assert metrics["loss"] == pytest.approx(-metrics["elbo"] / 64, rel=1e-4)
    assert logged[-1]["elbo"] > logged[0]["elbo"] + 30


def test_the_bound_of_held_back_digits_is_like_that_of_the_training(whole, sides) -> None:
    model, logged = whole
    bound = lower_bound(model, held_back(sides), torch.Generator().manual_seed(0))
    assert bound.elbo == pytest.approx(-bound.reconstruction - bound.kl)
    assert bound.elbo == pytest.approx(logged[-1][1]["elbo"], abs=6)
    # 17 grey levels: more than log2(17) bits a pixel would be worse than no model.
    assert 1 < bound.bits_per_dim < np.log2(17)


def test_kl_alone_makes_every_code_the_prior(sides, tmp_path: Path) -> None:
    model, logged = train(sides, tmp_path, iterations=200, step={"reconstruction": 0.0})
    assert logged[-1][1]["kl"] < 0.05
    use = latent_use(model, held_back(sides))
    assert use.active() == 0
    assert logged[-1][1]["reconstruction"] > logged[0][1]["reconstruction"] * 0.8


def test_reconstruction_alone_leaves_the_prior_behind(whole, sides, tmp_path: Path) -> None:
    _, logged = train(sides, tmp_path, step={"beta": 0.0})
    both = whole[1][-1][1]
    assert logged[-1][1]["reconstruction"] < both["reconstruction"]
    assert logged[-1][1]["kl"] > 3 * both["kl"]


def linear_world(count: int = 512) -> tuple[np.ndarray, list[float]]:
    """Pictures of 4 x 4 that vary along six directions, and the variance along each."""
    variances = [16.0, 8.0, 4.0, 2.0, 1.0, 0.1]
    generator = np.random.default_rng(0)
    directions = np.linalg.qr(generator.standard_normal((16, 16)))[0][:, : len(variances)]
    codes = generator.standard_normal((count, len(variances)))
    codes = (codes - codes.mean(axis=0)) @ np.linalg.inv(np.linalg.cholesky(np.cov(codes.T))).T
    images = (codes * np.sqrt(variances)) @ directions.T
    return images.reshape(-1, 4, 4).astype(np.float32), variances


@pytest.mark.parametrize(("beta", "active"), [(3.0, 3), (6.0, 2), (20.0, 0)])
def test_beta_leaves_as_many_latents_active_as_theory_says(
    tmp_path: Path, beta: float, active: int
) -> None:
    """A linear VAE is probabilistic PCA (Lucas et al., NeurIPS 2019): a latent pays for itself
    where the data vary by more than beta * sigma ** 2. Active: the means of its posteriors vary
    by more than 0.01 (Burda et al. 2016)."""
    images, variances = linear_world()
    assert sum(variance > beta for variance in variances) == active
    model, _ = fit(
        lambda: DenseVAE((4, 4), 6, hidden=(), sigma=0.25),
        images,
        tmp_path,
        step=variational(beta=beta),
        normalize=Normalize(centre=0, scale=4),  # sigma is 1 in the pictures' own values
        iterations=350,
        lr=5e-2,
    )
    use = latent_use(model, torch.from_numpy(images)[:, None])
    assert use.active() == active
    # The means of an active one vary by (variance - beta) / variance.
    expected = [(v - beta) / v for v in variances if v > beta]
    found = use.variance.sort(descending=True).values[:active]
    np.testing.assert_allclose(found, expected, atol=0.05)


def test_a_conditional_network_draws_the_digit_that_it_is_asked_for(sides, tmp_path: Path) -> None:
    model, _ = train(sides, tmp_path, labels=10)
    wanted = torch.arange(200) % 10
    drawn = sample(model, 200, torch.Generator().manual_seed(0), wanted)
    flat = np.stack(sides[0].images).reshape(-1, 64)
    judge = SVC(gamma=0.001).fit(flat, sides[0].labels)
    assert judge.score(np.stack(sides[1].images).reshape(-1, 64), sides[1].labels) > 0.97
    assert judge.score(drawn.flatten(1).numpy(), wanted.numpy()) > 0.9
    # Not one picture a digit: they vary about half as much as real ones do.
    threes = drawn[wanted == 3].flatten(1).std(dim=0).mean()
    assert threes > 0.4 * flat[sides[0].labels == 3].std(axis=0).mean()


@pytest.mark.parametrize(
    ("beta_from", "expected"), [(0.0, [0.5, 1, 1.5, 2, 2, 2]), (10.0, [8, 6, 4, 2, 2, 2])]
)
def test_the_kl_comes_to_its_weight(
    sides, tmp_path: Path, beta_from: float, expected: list[float]
) -> None:
    step = {"beta": 2.0, "warmup": 4, "beta_from": beta_from}
    images = np.stack(sides[0].images[:64])
    made = {"step": variational(**step), "iterations": 6, "log_every": 1}
    _, logged = fit(network, images, tmp_path, **made)
    assert [m["kl_weight"] for _, m in logged] == pytest.approx(expected)


def test_a_seed_is_a_training_and_a_killed_one_goes_on_as_if_nothing_had_been(
    sides, tmp_path: Path
) -> None:
    images = np.stack(sides[0].images[:64])
    made = {"step": variational(warmup=8), "iterations": 10, "log_every": 1}

    def weights(folder: str, **changes) -> list[torch.Tensor]:
        model, _ = fit(network, images, tmp_path / folder, **(made | changes))
        return list(model.state_dict().values())

    class Killed(Exception):
        pass

    def killing(model: HUModel, train: Train) -> Variational:
        step = Variational(model, train, warmup=8)
        update = step.update

        def update_or_die() -> dict[str, float]:
            if step.updates == 7:
                raise Killed
            return update()

        step.update = update_or_die  # type: ignore[method-assign]
        return step

    whole, again = weights("one"), weights("two")
    assert all(map(torch.equal, whole, again))
    assert not all(map(torch.equal, whole, weights("three", seed=1)))
    with pytest.raises(Killed):
        weights("killed", step=killing, checkpoint_every=5)
    assert all(map(torch.equal, whole, weights("killed", checkpoint_every=5)))


def settings() -> Train:
    return Train(iterations=1)


def test_its_loss_is_the_network_s_likelihood_and_no_other() -> None:
    model = HUModel(network(), normalize=DIGITS, residual=False)
    with pytest.raises(ConfigError, match="likelihood"):
        Variational(model, settings(), loss=nn.MSELoss())
    with pytest.raises(ConfigError, match=r"pipeline\.models\.vae"):
        Variational(HUModel(Identity(), normalize=DIGITS, residual=False), settings())


@pytest.mark.parametrize(
    "wrong", [{"beta": -1.0}, {"beta": 0.0, "reconstruction": 0.0}, {"beta_from": 4.0}]
)
def test_impossible_weights_are_refused(wrong) -> None:
    with pytest.raises(ValueError, match="beta"):
        Variational(HUModel(network(), normalize=DIGITS, residual=False), settings(), **wrong)
