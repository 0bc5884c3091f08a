"""Styles that an adversarial step learns, and frames that it draws two at a time."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from helpers.restore import run
from helpers.training import settings

from pipeline.losses.image import PooledL1
from pipeline.models.adapters.base import HUModel, build_model
from pipeline.training.steps.adversarial_frames import AdversarialFrames
from pipeline.training.steps.base import Batch
from pipeline.training.steps.paired_adversarial import PairedAdversarial

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
    """The same training draws the mean of both, which is what L1 and a mean have between them."""
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


def test_both_places_have_one_style_and_one_noise() -> None:
    """A sequence that stands still is drawn still, though noise and style differ by turns."""
    step = frames_step(model_of())
    step.generator.train()
    for norm in step.generator.modules():  # whose running means move with each call
        if isinstance(norm, torch.nn.BatchNorm2d):
            norm.momentum = 0.0
    batch = {name: torch.cat([one[:, :1], one[:, 1:]]) for name, one in still().items()}
    first, second = step.drawn(batch).output_hu.chunk(2)
    assert torch.equal(first, second)
    again = step.drawn(batch).output_hu
    assert not torch.equal(again[:2], first)


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


def test_a_sequence_is_drawn_with_its_neighbours() -> None:
    config = run(
        LABELS,
        model={
            "target": "spade_generator",
            "args": {"values": [64, 192], "channels": [8, 8], "frames": 3, "style": 2},
        },
        restoration={"source": "moving", "neighbours": 1},
    )
    torch.manual_seed(0)
    step = AdversarialFrames(
        build_model(config),
        PooledL1(4),
        settings(),
        **{
            **options(adversarial=1, feature_matching=1),
            "discriminator": {
                "target": "patch_discriminator",
                "args": {"spatial_dims": 2, "in_channels": 4, "channels": 4, "num_layers_d": 1},
            },
        },
    )
    before = copy.deepcopy(step.generator.state_dict())
    for _ in range(2):  # the generator's turn, and the discriminator's
        logged = step.backward(still(places=4), share=1.0)
        step.update()
    assert {"loss", "discriminator_loss", "feature_matching_loss"} <= logged.keys()
    assert all(value == value for value in logged.values())
    moved = [
        name for name, value in step.generator.state_dict().items() if (value != before[name]).any()
    ]
    assert any("encoder" in name for name in moved)
