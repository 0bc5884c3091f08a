"""Two players, in turns: what each minimises, who moves when, and that nothing is forgotten."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.training import DIGIT_LEVELS, Digits, fit, settings
from torch import nn

from pipeline.config.sections import Train
from pipeline.generative.latent import sample
from pipeline.metrics.generative import mmd
from pipeline.models.adapters.base import HUModel
from pipeline.models.gan import VAEGAN, Discriminator, Generator, with_spectral_norm
from pipeline.models.progressive import (
    Levels,
    ProgressiveDiscriminator,
    ProgressiveGenerator,
    enlarged,
    reduced,
)
from pipeline.models.redcnn import REDCNN
from pipeline.training.steps.adversarial import Adversarial
from pipeline.training.steps.base import Step
from pipeline.training.steps.gan_health import GanMonitor
from pipeline.training.steps.gan_objectives import (
    Hinge,
    Minimax,
    NonSaturating,
    Objective,
    Wasserstein,
)
from pipeline.training.steps.paired_adversarial import PairedAdversarial
from pipeline.training.steps.progressive import Progressive, level_at
from pipeline.training.steps.supervised import Supervised
from pipeline.training.steps.vae_gan import VAEGANStep

GAN = "pipeline.models.gan"
OBJECTIVES = "pipeline.training.steps.gan_objectives"


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Nets this small only wait for each other's threads."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def rival(steps: int = 1, **changes: Any) -> dict[str, Any]:
    args = {"size": 8, "channels": 8}
    return {"target": f"{GAN}.Discriminator", "args": args, "steps": steps} | changes


def objective(name: str = "NonSaturating") -> dict[str, Any]:
    return {"target": f"{OBJECTIVES}.{name}"}


def generator() -> Generator:
    return Generator(latent=4, size=8, channels=8)


def adversarial(**options: Any) -> Callable[[HUModel, Train], Adversarial]:
    given = {"discriminator": rival(), "objective": objective()} | options
    return lambda model, train: Adversarial(model, train, **given)


PATCHES = {
    "target": "monai.networks.nets.PatchDiscriminator",
    "args": {"spatial_dims": 2, "in_channels": 2, "channels": 4, "num_layers_d": 1},
}
AUTOENCODER = {
    "target": "monai.networks.nets.AutoEncoder",
    "args": {
        "spatial_dims": 2,
        "in_channels": 1,
        "out_channels": 1,
        "channels": [4],
        "strides": [2],
    },
}


def paired(**options: Any) -> Callable[[HUModel, Train], PairedAdversarial]:
    given = {
        "discriminator": PATCHES,
        "objective": objective(),
        "weights": {"content": 1, "adversarial": 0.1},
        "conditional": True,
    }
    return lambda model, train: PairedAdversarial(model, nn.MSELoss(), train, **(given | options))


def denoiser() -> REDCNN:
    return REDCNN(channels=2, kernel=3, padding=True)


# What each player minimises


@pytest.mark.parametrize("kind", [NonSaturating, Minimax])
def test_an_undecided_discriminator_pays_two_logarithms_of_two(kind: type[Objective]) -> None:
    undecided = torch.zeros(5)
    assert float(kind().discriminator(undecided, undecided)) == pytest.approx(2 * math.log(2))


def test_the_best_discriminator_pays_what_jensen_and_shannon_say() -> None:
    """Goodfellow et al. 2014: at log(p / q) its loss is 2 log 2 - 2 JS(p, q)."""
    p, q = torch.tensor([0.7, 0.3]), torch.tensor([0.2, 0.8])
    scores = (p / q).log()
    counts = 1000
    real = scores.repeat_interleave((p * counts).round().long())
    fake = scores.repeat_interleave((q * counts).round().long())
    middle = (p + q) / 2
    js = 0.5 * float((p * (p / middle).log() + q * (q / middle).log()).sum())
    loss = float(NonSaturating().discriminator(real, fake))
    assert loss == pytest.approx(2 * math.log(2) - 2 * js, abs=1e-5)


def test_minimax_is_a_zero_sum_game() -> None:
    real, fake = torch.randn(2, 6, generator=torch.Generator().manual_seed(0))
    game = Minimax()
    assert float(game.discriminator(real, fake)) == pytest.approx(
        float(nn.functional.softplus(-real).mean() - game.generator(fake))
    )


@pytest.mark.parametrize(
    ("kind", "gradient"), [(Minimax, 0), (NonSaturating, -1), (Hinge, -1), (Wasserstein, -1)]
)
def test_what_is_left_to_learn_from_a_discriminator_that_is_sure(
    kind: type[Objective], gradient: float
) -> None:
    score = torch.tensor([-30.0], requires_grad=True)
    kind().generator(score).backward()
    assert float(score.grad) == pytest.approx(gradient, abs=1e-6)


def test_the_hinge_asks_for_a_margin_and_no_more() -> None:
    beyond, at, within = torch.tensor([5.0]), torch.tensor([1.0]), torch.tensor([0.25])
    hinge = Hinge()
    assert float(hinge.discriminator(beyond, -beyond)) == 0
    assert float(hinge.discriminator(at, -at)) == 0
    assert float(hinge.discriminator(within, -within)) == pytest.approx(1.5)


@pytest.mark.parametrize("slope", [0.0, 1.0, 3.0])
def test_the_gradient_penalty_of_a_plane(slope: float) -> None:
    """A critic whose gradient is known everywhere: weight (slope - 1)^2, wherever it is taken."""
    direction = torch.randn(1, 4, 4, generator=torch.Generator().manual_seed(0))
    direction *= slope / direction.norm()
    real, fake = torch.randn(2, 3, 1, 4, 4, generator=torch.Generator().manual_seed(1))
    paid = Wasserstein(weight=7).penalty(
        lambda image: (image * direction).sum(dim=(1, 2, 3), keepdim=True),
        real,
        fake,
        random=torch.Generator().manual_seed(2),
    )
    assert float(paid) == pytest.approx(7 * (slope - 1) ** 2, abs=1e-4)


def test_the_gradient_penalty_teaches_the_critic() -> None:
    """It has a gradient of its own, through the gradient."""
    critic = Discriminator(8, channels=4)
    real, fake = torch.randn(2, 3, 1, 8, 8)
    paid = Wasserstein().penalty(
        lambda image: critic(image)[-1], real, fake, random=torch.Generator()
    )
    paid.backward()
    assert critic.blocks[0][0].weight.grad.abs().max() > 0


# Who moves when


def weights(network: nn.Module) -> list[torch.Tensor]:
    return [parameter.detach().clone() for parameter in network.parameters()]


def moved(before: list[torch.Tensor], network: nn.Module) -> bool:
    return any(not torch.equal(*pair) for pair in zip(before, network.parameters(), strict=True))


def batch(size: int = 4) -> dict[str, torch.Tensor]:
    items = [Digits(size)[n] for n in range(size)]
    return {name: torch.stack([item[name] for item in items]) for name in items[0]}


@pytest.mark.parametrize("turns", [1, 3])
def test_one_player_moves_at_a_time(turns: int) -> None:
    torch.manual_seed(0)
    model = HUModel(generator(), normalize=DIGIT_LEVELS, residual=False)
    step = adversarial(discriminator=rival(turns))(model, settings(iterations=100))
    order = []
    for _ in range(2 * (1 + turns)):
        players = {"G": step.generator, "D": step.discriminator}
        before = {name: weights(network) for name, network in players.items()}
        step.backward(batch(), share=1.0)
        step.update()
        order.append("".join(n for n, network in players.items() if moved(before[n], network)))
    assert order == 2 * (["G"] + turns * ["D"])


def test_each_turn_logs_both_sides(tmp_path: Path) -> None:
    _, _, logged = fit(generator(), adversarial(), settings(), tmp_path)
    assert {"loss", "diversity", "learning_rate"} <= logged[0].keys()
    for metrics in logged[1:]:
        assert {
            "loss",
            "discriminator_loss",
            "discriminator_auc",
            "collapse_alarm",
        } <= metrics.keys()
    assert logged[1]["loss"] == logged[0]["loss"]
    assert logged[2]["discriminator_loss"] == logged[1]["discriminator_loss"]


def test_the_kept_model_is_a_running_mean() -> None:
    torch.manual_seed(0)
    model = HUModel(generator(), normalize=DIGIT_LEVELS, residual=False)
    step = adversarial(average=0.3)(model, settings(iterations=100))
    expected = weights(model)
    for turn in range(8):
        step.backward(batch(), share=1.0)
        step.update()
        if turn % 2 == 0:
            stays = min(0.3, (1 + turn // 2) / (10 + turn // 2))
            pairs = zip(expected, weights(step.generator), strict=True)
            expected = [stays * mean + (1 - stays) * new for mean, new in pairs]
    for found, wanted in zip(weights(model), expected, strict=True):
        torch.testing.assert_close(found, wanted)


def test_without_a_mean_the_generator_itself_is_kept(tmp_path: Path) -> None:
    model, step, _ = fit(generator(), adversarial(average=0.0), settings(), tmp_path)
    assert not moved(weights(model), step.generator)


def test_two_half_batches_have_the_gradient_of_a_whole(tmp_path: Path) -> None:
    """Over one turn each of a paired game, whose networks look at one image at a time."""
    quiet = {**PATCHES, "args": {**PATCHES["args"], "norm": None}}
    make, network = paired(discriminator=quiet), denoiser()
    found = []
    for train in (settings(iterations=2), settings(iterations=2, batch=2, accumulate=2)):
        gradients: list[torch.Tensor] = []

        def watched(model: HUModel, train: Train, seen: list = gradients) -> Step:
            step = make(model, train)
            update = step.update

            def looking() -> dict[str, float]:
                player = step.players["generator" if step.generates else "discriminator"]
                seen.extend(p.grad.clone() for p in player.network.parameters())
                return update()

            step.update = looking
            return step

        fit(copy.deepcopy(network), watched, train, tmp_path / str(train.batch))
        found.append(gradients)
    assert len(found[0]) == len(found[1]) > 10
    for whole, halves in zip(*found, strict=True):
        torch.testing.assert_close(whole, halves, rtol=1e-3, atol=1e-6)


GROWN = {
    "target": "pipeline.models.progressive.ProgressiveDiscriminator",
    "args": {"smallest": 4, "largest": 8, "channels": 4},
}
WITH_FEATURES = {
    "discriminator": {**PATCHES, "args": {**PATCHES["args"], "in_channels": 1}},
    "objective": objective("Wasserstein"),
    "weights": {"perceptual": 0.1, "adversarial": 1e-2},
    "conditional": False,
    "features": AUTOENCODER,
    "rehearsal": 3,
}
GAMES: dict[str, tuple[Callable[[], nn.Module], Callable[[HUModel, Train], Step]]] = {
    "GAN": (generator, adversarial(discriminator=rival(2, spectral_norm=True))),
    "paired": (denoiser, paired()),
    "perceptual": (denoiser, paired(**WITH_FEATURES)),
    "VAE-GAN": (
        lambda: VAEGAN(latent=4, size=8, channels=8),
        lambda model, train: VAEGANStep(model, train, discriminator=rival(), objective=objective()),
    ),
    "progressive": (
        lambda: ProgressiveGenerator(4, 4, 8, channels=4),
        lambda model, train: Progressive(
            model, train, discriminator=GROWN, objective=objective("Wasserstein")
        ),
    ),
}


@pytest.mark.parametrize("game", GAMES)
def test_a_killed_game_ends_as_an_unbroken_one(tmp_path: Path, game: str) -> None:
    make, step = GAMES[game]
    train = settings(iterations=9, checkpoint_every=4)
    torch.manual_seed(1)
    network = make()
    unbroken, _, logged = fit(copy.deepcopy(network), step, train, tmp_path / "unbroken")
    with pytest.raises(KeyboardInterrupt):
        fit(copy.deepcopy(network), step, train, tmp_path / "killed", until=6)
    torch.manual_seed(99)
    resumed, _, again = fit(make(), step, train, tmp_path / "killed")
    states = [list(model.state_dict().values()) for model in (resumed, unbroken)]
    assert all(map(torch.equal, *states))
    timing = {"patches_per_s", "waiting_fraction"}
    for one, other in zip(again, logged, strict=True):
        assert {k: v for k, v in one.items() if k not in timing} == {
            k: v for k, v in other.items() if k not in timing
        }


def test_a_gan_learns_what_digits_look_like(tmp_path: Path) -> None:
    """By maximum mean discrepancy of pixels, which knows nothing of the discriminator."""
    train = settings(iterations=800, batch=32, lr=2e-3, log_every=100)
    real = Digits(1).images[:400].reshape(400, -1)

    def distance(model: HUModel) -> float:
        drawn = sample(model.eval(), 400, torch.Generator().manual_seed(0))
        return mmd(drawn.flatten(1).numpy(), real)

    network = Generator(latent=16, size=8, channels=16)
    fresh = distance(HUModel(copy.deepcopy(network), normalize=DIGIT_LEVELS, residual=False))
    model, _, logged = fit(network, adversarial(average=0.98), train, tmp_path)
    assert distance(model) < 0.15 * fresh
    assert logged[-1]["diversity"] > 0.5
    assert logged[-1]["collapse_alarm"] == 0


# The watch


def test_the_watch_calls_a_collapse() -> None:
    watch = GanMonitor(vanishes=True)
    real = torch.randn(8, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    for _ in range(200):
        watch.see_images(real, 0.6 * real)
    assert watch.figures()["diversity"] == pytest.approx(0.6, abs=1e-3)
    assert watch.figures()["collapse_alarm"] == 0
    watch.see_images(real, 0 * real)
    assert watch.figures()["collapse_alarm"] == 0, "one batch is no collapse"
    for _ in range(60):
        watch.see_images(real, real[:1].expand_as(real))
    assert watch.figures()["diversity"] < 0.1
    assert watch.figures()["collapse_alarm"] == 1


@pytest.mark.parametrize("vanishes", [True, False])
def test_the_watch_calls_a_discriminator_that_is_always_right(vanishes: bool) -> None:
    watch = GanMonitor(vanishes=vanishes)
    scores = torch.arange(4.0)[:, None]
    watch.see_scores(scores, scores)
    assert watch.figures()["discriminator_auc"] == pytest.approx(0.5)
    for _ in range(200):
        watch.see_scores(scores + 4, scores - 1e-3)
    assert watch.figures()["discriminator_auc"] > 0.99
    assert watch.figures()["saturation_alarm"] == 0, "it is right, but not sure"
    for _ in range(200):
        watch.see_scores(scores + 10, scores - 10)
    assert watch.figures()["saturation_alarm"] == float(vanishes)


# Networks


def test_spectral_norm_holds_every_layer() -> None:
    torch.manual_seed(0)
    network = with_spectral_norm(Discriminator(16, channels=4))
    for _ in range(60):
        network(torch.randn(2, 1, 16, 16))
    layers = [module for module in network.modules() if isinstance(module, nn.Conv2d)]
    assert len(layers) == 3
    for layer in layers:
        assert torch.linalg.matrix_norm(layer.weight.flatten(1), 2).item() == pytest.approx(
            1, abs=0.02
        )


@pytest.mark.parametrize("size", [8, 16, 64])
def test_generator_and_discriminator_are_mirrors(size: int) -> None:
    image = Generator(5, size, channels=2, image_channels=3)(torch.randn(2, 5))
    assert image.shape == (2, 3, size, size)
    assert float(image.detach().abs().max()) <= 1
    features = Discriminator(size, channels=2, image_channels=3)(image)
    assert features[-1].shape == (2, 1, 1, 1)
    assert features[-2].shape[-2:] == (4, 4)


@pytest.mark.parametrize(("size", "doublings"), [(14, 1), (28, 2), (56, 3)])
def test_a_generator_of_mnist_s_size_begins_at_7_x_7(size: int, doublings: int) -> None:
    image = Generator(5, size, channels=2)(torch.randn(2, 5))
    assert image.shape == (2, 1, size, size)
    features = Discriminator(size, channels=2)(image)
    assert len(features) == doublings + 1
    assert features[-1].shape == (2, 1, 1, 1)
    assert features[-2].shape[-2:] == (7, 7)


def test_depth_adds_a_convolution_at_each_side() -> None:
    def convolutions(network: nn.Module) -> list[tuple[int, ...]]:
        kinds = (nn.Conv2d, nn.ConvTranspose2d)
        return [m.kernel_size for m in network.modules() if isinstance(m, kinds)]

    for network in (Generator, Discriminator):
        plain, deep = convolutions(network(size=16)), convolutions(network(size=16, depth=2))
        assert (3, 3) not in plain
        assert sorted(deep) == sorted(plain + [(3, 3)] * 4)
    assert Generator(5, 16, channels=2, depth=2)(torch.randn(2, 5)).shape == (2, 1, 16, 16)
    features = Discriminator(16, channels=2, depth=2)(torch.randn(2, 1, 16, 16))
    assert [f.shape[-1] for f in features] == [8, 4, 1]


@pytest.mark.parametrize("size", [4, 7, 12, 42, 100])
def test_a_size_that_doubling_does_not_reach_is_refused(size: int) -> None:
    with pytest.raises(ValueError, match="size must be"):
        Generator(size=size)


def at_level(network: Levels, level: float) -> Levels:
    network.to_level(level)
    return network


def test_a_new_size_is_faded_in_from_the_old_one() -> None:
    """Just above a level images are the old ones enlarged, and are judged as the old ones."""
    torch.manual_seed(0)
    drawing = ProgressiveGenerator(4, 16, 64, channels=2, most_channels=8)
    judging = ProgressiveDiscriminator(16, 64, channels=2, most_channels=8)
    codes = torch.randn(3, 4)
    for level in (0, 1):
        small = at_level(drawing, level)(codes)
        assert small.shape[-1] == 16 * 2**level
        barely = at_level(drawing, level + 1e-6)(codes)
        torch.testing.assert_close(barely, enlarged(small), rtol=1e-3, atol=1e-4)
        torch.testing.assert_close(
            at_level(judging, level + 1e-6)(barely),
            at_level(judging, level)(small),
            rtol=1e-3,
            atol=1e-4,
        )
        almost = at_level(drawing, level + 1 - 1e-6)(codes)
        whole = at_level(drawing, level + 1)(codes)
        torch.testing.assert_close(almost, whole, rtol=1e-3, atol=1e-4)


def test_growing_takes_equal_parts_and_ends_whole(tmp_path: Path) -> None:
    levels = [level_at(n, 500, last=2) for n in range(500)]
    assert levels == sorted(levels)
    assert levels[:100] == [0.0] * 100
    assert levels[150] == pytest.approx(0.5)
    assert levels[200:300] == [1.0] * 100
    assert levels[400:] == [2.0] * 100
    make, step = GAMES["progressive"]
    model, _, logged = fit(make(), step, settings(iterations=9), tmp_path)
    found = [metrics["level"] for metrics in logged]
    assert found == pytest.approx([0] * 3 + [0, 1 / 3, 2 / 3] + [1] * 3)
    drawn = sample(model, 2, torch.Generator().manual_seed(0))
    assert drawn.shape == (2, 1, 8, 8)


def test_a_grown_generator_can_be_exported_at_the_level_that_its_weights_keep() -> None:
    make, _ = GAMES["progressive"]
    grown = at_level(make(), 1 / 3)
    again = make()
    again.load_state_dict(grown.state_dict())
    codes = torch.randn(3, *grown.latent_shape, generator=torch.Generator().manual_seed(0))
    traced = torch.export.export(again, (codes,)).module()
    assert torch.equal(traced(codes), grown(codes))
    assert not torch.equal(make()(codes), grown(codes))


def test_growing_shows_real_images_at_the_size_at_work() -> None:
    make, build = GAMES["progressive"]
    model = HUModel(make(), normalize=DIGIT_LEVELS, residual=False)
    step = build(model, settings())
    images = batch()
    whole = (images["target"] - 8) / 8
    for level, expected in (
        (0.0, reduced(whole)),
        (0.5, 0.5 * whole + 0.5 * enlarged(reduced(whole))),
        (1.0, whole),
    ):
        at_level(step.growing[0], level)
        torch.testing.assert_close(step.real(images), expected)


# Pairs


def test_a_rehearsal_is_supervised_training(tmp_path: Path) -> None:
    train = settings(iterations=5, warmup=2)
    torch.manual_seed(1)
    network = denoiser()
    make = paired(rehearsal=5, average=0.0, momentum=0.9)
    rehearsed, _, _ = fit(copy.deepcopy(network), make, train, tmp_path / "paired")
    plain, _, _ = fit(
        copy.deepcopy(network),
        lambda model, train: Supervised(model, nn.MSELoss(), train),
        train,
        tmp_path / "supervised",
    )
    assert moved(weights(network), rehearsed.network)
    assert not moved(weights(rehearsed), plain)


def test_the_discriminator_judges_the_image_with_its_input() -> None:
    """Conditional: another input, another judgement of the same image."""
    model = HUModel(denoiser(), normalize=DIGIT_LEVELS, residual=False)
    for conditional, channels in ((True, 2), (False, 1)):
        critic = {**PATCHES, "args": {**PATCHES["args"], "in_channels": channels}}
        step = paired(discriminator=critic, conditional=conditional)(model, settings())
        step.discriminator.eval()
        seen = batch()
        image = step.real(seen)
        other = {**seen, "input": seen["input"] + 3}
        same = torch.equal(step.judge(seen)(image), step.judge(other)(image))
        assert same is not conditional


def test_features_learn_in_the_rehearsal_and_are_frozen_then() -> None:
    torch.manual_seed(0)
    model = HUModel(denoiser(), normalize=DIGIT_LEVELS, residual=False)
    step = paired(**WITH_FEATURES)(model, settings(iterations=100))
    changed = []
    for _ in range(6):
        before = weights(step.features)
        step.backward(batch(), share=1.0)
        step.update()
        changed.append(moved(before, step.features))
    assert changed == [True] * 3 + [False] * 3


def test_the_perceptual_loss_counts_in_the_variance_of_real_features() -> None:
    model = HUModel(denoiser(), normalize=DIGIT_LEVELS, residual=False)
    step = paired(**WITH_FEATURES)(model, settings())
    real = step.real(batch(8))
    assert float(step.perceptual(real, real)) == 0
    spread = torch.roll(real, 1, dims=0)
    found = float(step.perceptual(spread, real))
    encoded = [step.features.encode(image).detach() for image in (spread, real)]
    expected = (encoded[0] - encoded[1]).square().mean() / encoded[1].var()
    assert found == pytest.approx(float(expected), rel=1e-5)
    assert 0.1 < found < 4


def test_discriminator_and_features_look_through_the_window() -> None:
    model = HUModel(denoiser(), normalize=DIGIT_LEVELS, residual=False)
    step = paired(window=(4.0, 8.0))(model, settings())
    image = torch.tensor([-5.0, 0.0, 4.0, 8.0, 20.0])
    assert step.seen(image).tolist() == [-1, -1, 0, 1, 1]
    assert torch.equal(step.real(batch()), ((batch()["target"] - 4) / 4).clamp(-1, 1))


def test_a_perceptual_loss_without_features_is_refused() -> None:
    model = HUModel(denoiser(), normalize=DIGIT_LEVELS, residual=False)
    with pytest.raises(Exception, match="rehearsal"):
        paired(**{**WITH_FEATURES, "rehearsal": 0})(model, settings())


def test_the_game_reaches_the_decoder_and_not_the_encoder() -> None:
    torch.manual_seed(0)
    network = VAEGAN(latent=4, size=8, channels=8)
    model = HUModel(network, normalize=DIGIT_LEVELS, residual=False)
    step = VAEGANStep(
        model,
        settings(),
        discriminator=rival(),
        objective=objective(),
        weights={"divergence": 0, "features": 0, "adversarial": 1},
    )
    step.backward(batch(), share=1.0)
    trained = step.generator.network

    def largest(part: nn.Module) -> float:
        return max(
            float(p.grad.abs().max()) if p.grad is not None else 0.0 for p in part.parameters()
        )

    assert largest(trained.encoder) == 0
    assert largest(trained.decoder) > 0
    assert largest(step.discriminator) == 0
