"""Styles that an adversarial step learns, and frames that it draws two at a time."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from helpers.restore import run
from helpers.training import settings

from pipeline.core.errors import ConfigError
from pipeline.losses.image import PooledL1
from pipeline.models.adapters.base import HUModel, build_model
from pipeline.training.steps.adversarial_frames import AdversarialFrames
from pipeline.training.steps.base import Batch
from pipeline.training.steps.paired_adversarial import PairedAdversarial
from pipeline.training.steps.supervised import Supervised

LABELS = {"target": "image_to_labels", "args": {"edges": [128], "values": [64, 192], "sigma": 1}}
DARK, BRIGHT = 40.0, 215.0


def model_of(*, style: int = 2, frames: int = 1, noise: int = 2) -> HUModel:
    torch.manual_seed(0)
    args = {"values": [64, 192], "centre": 127.5, "scale": 127.5, "channels": [8, 8]}
    network = {"style": style, "frames": frames, "noise": noise}
    return build_model(run(LABELS, model={"target": "spade_generator", "args": args | network}))


def options(**weights: float) -> dict[str, Any]:
    args = {"spatial_dims": 2, "in_channels": 2, "channels": 4, "num_layers_d": 1, "norm": None}
    return {
        "discriminator": {"target": "patch_discriminator", "args": {**args, "bias": True}},
        "objective": {"target": "hinge"},
        "weights": {"content": 1, "adversarial": 0} | weights,
        "conditional": True,
        "average": 0.0,
    }


def two_styles(size: int = 16) -> Batch:
    """One label map, of which one photograph is dark and one bright."""
    labels = torch.full((2, 1, size, size), 64.0)
    levels = torch.tensor([DARK, BRIGHT]).reshape(2, 1, 1, 1)
    return {"input": labels, "target": levels.expand(2, 1, size, size).clone()}


def test_what_labels_do_not_say_is_learned_as_a_style() -> None:
    train = settings(iterations=90, lr=2e-2)
    step = PairedAdversarial(model_of(), PooledL1(4), train, **options(style=1e-3))
    batch = two_styles()
    for _ in range(90):
        logged = step.backward(batch, share=1.0)
        step.update()
    model: Any = step.generator.eval()
    with torch.inference_mode():
        codes = model.style_of(batch["target"])
        dark, bright = (float(model(batch["input"][:1], code[None]).mean()) for code in codes)
    assert dark < DARK + 40
    assert bright > BRIGHT - 40
    assert logged["style_divergence"] > 0


def test_without_a_code_the_labels_say_all() -> None:
    """Of two photographs with the same labels, the least square error is their mean's."""
    train = settings(iterations=90, lr=2e-2)
    step = PairedAdversarial(model_of(style=0), torch.nn.MSELoss(), train, **options())
    batch = two_styles()
    for _ in range(90):
        logged = step.backward(batch, share=1.0)
        step.update()
    with torch.inference_mode():
        mean = float(step.generator.eval()(batch["input"]).mean())
    assert abs(mean - (DARK + BRIGHT) / 2) < 30
    assert "style_divergence" not in logged


def test_the_divergence_keeps_codes_near_normal_numbers() -> None:
    divergences = {}
    for weight in (0.0, 10.0):
        train = settings(iterations=50, lr=2e-2)
        step = PairedAdversarial(model_of(), PooledL1(4), train, **options(style=weight))
        for _ in range(50):
            logged = step.backward(two_styles(), share=1.0)
            step.update()
        divergences[weight] = logged["style_divergence"]
    assert divergences[10.0] < 0.1 < divergences[0.0]


def frames_step(model: HUModel, *, consistency: float = 0.5, **weights: float) -> AdversarialFrames:
    return AdversarialFrames(
        model, PooledL1(4), settings(), consistency=consistency, **options(**weights)
    )


def still(places: int = 2) -> Batch:
    """Two places of a sequence that does not move, and a texture."""
    texture = 255 * torch.rand(2, 1, 16, 16, generator=torch.Generator().manual_seed(3))
    labels = torch.where(texture > 128, 192.0, 64.0)
    return {
        "input": labels.expand(2, places, 16, 16).clone(),
        "target": texture.expand(2, places, 16, 16).clone(),
    }


def halves(first: Batch, second: Batch) -> Batch:
    """The first places of all items, then the second ones."""
    return {name: torch.cat([first[name], second[name]]) for name in ("input", "target")}


def without_running_means(step: AdversarialFrames) -> AdversarialFrames:
    for norm in step.generator.train().modules():  # they move with each call
        if isinstance(norm, torch.nn.BatchNorm2d):
            norm.momentum = 0.0
    return step


def test_both_places_have_one_style_and_one_noise() -> None:
    """The style is the first place's, whatever the second one's photograph looks like, and what
    has the same labels is drawn the same; the next turn has other noise and another draw."""
    step, seen = without_running_means(frames_step(model_of())), two_styles()
    other = {"input": seen["input"], "target": seen["target"].flip(0)}
    first, second = step.drawn(halves(seen, other)).output_hu.chunk(2)
    assert torch.equal(first, second)
    assert not torch.equal(step.drawn(halves(seen, other)).output_hu[:2], first)


def test_each_place_has_its_own_neighbours_and_its_own_target(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    step, given = sequence_step(), []
    drawn = AdversarialFrames.drawn
    monkeypatch.setattr(
        AdversarialFrames, "drawn", lambda self, batch: given.append(batch) or drawn(self, batch)
    )
    places = torch.arange(4.0).reshape(1, 4, 1, 1).expand(2, 4, 16, 16).clone()
    step.backward({"input": places, "target": 10 * places}, share=1.0)
    [batch] = given
    assert batch["input"][0, :, 0, 0].tolist() == [0, 1, 2]
    assert batch["input"][2, :, 0, 0].tolist() == [1, 2, 3]
    assert batch["target"][:, :, 0, 0].tolist() == [[10], [10], [20], [20]]


def test_the_change_from_place_to_place_counts() -> None:
    steady, moved = frames_step(model_of(), consistency=0.0), frames_step(model_of(), consistency=3)
    batch = {name: torch.cat([one[:, :1], one[:, 1:]]) for name, one in still().items()}
    output = batch["target"].clone()
    same = float(moved.content_loss(output, batch))
    output[2:] += 25.5  # 0.2 in normalised values, in the second places alone
    whole, own = (float(step.content_loss(output, batch)) for step in (moved, steady))
    assert same == 0
    assert whole - own == pytest.approx(3 * 0.2, rel=1e-5)
    with pytest.raises(ValueError, match="-1"):
        frames_step(model_of(), consistency=-1)


def sequence_step() -> AdversarialFrames:
    config = run(
        LABELS,
        model={
            "target": "spade_generator",
            "args": {"values": [64, 192], "channels": [8, 8], "frames": 3, "style": 2},
        },
        restoration={"source": "moving", "neighbours": 1},
    )
    torch.manual_seed(0)
    patches = {"spatial_dims": 2, "in_channels": 4, "channels": 4, "num_layers_d": 1}
    given = options(adversarial=1, feature_matching=1)
    given["discriminator"] = {"target": "patch_discriminator", "args": patches}
    return AdversarialFrames(build_model(config), PooledL1(4), settings(), **given)


def test_a_sequence_is_drawn_with_its_neighbours() -> None:
    step = sequence_step()
    before = copy.deepcopy(step.generator.state_dict())
    for _ in range(2):  # the generator's turn, and the discriminator's
        logged = step.backward(still(places=4), share=1.0)
        step.update()
    assert {"loss", "discriminator_loss", "feature_matching_loss"} <= logged.keys()
    assert all(value == value for value in logged.values())
    after = step.generator.state_dict()
    moved = [name for name, value in after.items() if bool((value != before[name]).any())]
    assert any("encoder" in name for name in moved)


def test_a_step_that_teaches_no_style_refuses_it() -> None:
    with pytest.raises(ConfigError, match=r"model\.args\.style.*paired_adversarial"):
        Supervised(model_of(), PooledL1(4), settings())


def test_as_many_maps_as_the_run_gives() -> None:
    with pytest.raises(ConfigError, match=r"model\.args\.frames: 3.*gives 1"):
        model_of(frames=3)
