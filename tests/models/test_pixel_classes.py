"""Pictures by classes: values, annealed means, soft targets, rebalancing."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from helpers.images import tiny_train
from torch import nn

from pipeline.config.sections import Train
from pipeline.models.adapters.base import ModelAdapter
from pipeline.models.pixel_classes import ColourClasses, PixelClasses, colour_squares
from pipeline.training.steps.pixel_classes import ClassesOfPixels


def network_of(outputs: int) -> dict:
    args = {"in_channels": 1, "out_channels": outputs, "kernel_size": 1}
    return {"target": "torch.nn.Conv2d", "args": args}


class Adapter(ModelAdapter):
    """Values as they are."""

    def normalised(self, image: torch.Tensor) -> torch.Tensor:
        return image


def step_of(network: PixelClasses, **options: float) -> ClassesOfPixels:
    settings = Train.model_validate(tiny_train())
    return ClassesOfPixels(Adapter(network), nn.MSELoss(), settings, **options)


def test_the_likeliest_class_gives_its_value() -> None:
    network = PixelClasses(network_of(3), [[10.0], [20.0], [30.0]], centre=20.0, scale=10.0)
    with torch.no_grad():
        network.network.weight[:] = torch.tensor([-1.0, 0.0, 1.0]).reshape(3, 1, 1, 1)
        network.network.bias[:] = 0
    image = torch.tensor([[[[-5.0, 5.0]]]])
    assert network(image).flatten().tolist() == [-1.0, 1.0]


def test_the_annealed_mean_lies_between_mean_and_mode() -> None:
    def answer(temperature: float) -> float:
        network = PixelClasses(network_of(2), [[0.0], [1.0]], temperature=temperature)
        with torch.no_grad():
            network.network.weight.zero_()
            network.network.bias[:] = torch.tensor([0.0, np.log(3.0)])
        return network(torch.zeros(1, 1, 1, 1)).item()

    assert answer(1.0) == pytest.approx(0.75)
    assert answer(0.38) == pytest.approx(3 ** (1 / 0.38) / (1 + 3 ** (1 / 0.38)))
    assert answer(0.01) == pytest.approx(1.0, abs=1e-6)


def test_the_squares_hold_the_colours_of_srgb() -> None:
    """Zhang et al. count 313 at a step of 10; it depends on how the solid is sampled."""
    squares = np.array(colour_squares(10))
    assert 250 < len(squares) < 330
    assert [0, 0] in squares.tolist()
    assert np.abs(squares).max() <= 110
    network = ColourClasses(network_of(len(colour_squares(20))), step=20)
    assert network(torch.zeros(1, 1, 4, 5)).shape == (1, 3, 4, 5)
    assert float(network(torch.zeros(1, 1, 4, 5))[:, 0].abs().max()) == 0


def test_soft_classes_keep_the_value_between_two() -> None:
    """On a fine grid the mean of the soft classes is the target itself."""
    values = [[float(number)] for number in range(11)]
    step = step_of(PixelClasses(network_of(11), values), softness=0.7)
    soft = step.soft_classes(torch.full((1, 1, 1, 1), 4.3))
    assert float(soft.sum()) == pytest.approx(1)
    assert float((soft[0, :, 0, 0] * torch.arange(11.0)).sum()) == pytest.approx(4.3, abs=0.1)
    hard = step_of(PixelClasses(network_of(11), values)).soft_classes(torch.full((1, 1, 1, 1), 4.3))
    assert hard[0, :, 0, 0].argmax() == 4
    assert float(hard.max()) == 1


def test_rare_classes_count_more() -> None:
    step = step_of(PixelClasses(network_of(2), [[0.0], [1.0]]), rebalancing=0.5)
    step.seen = torch.tensor([90.0, 10.0], dtype=torch.float64)
    common, rare = step.weights().tolist()
    assert rare / common == pytest.approx((0.45 + 0.25) / (0.05 + 0.25))
    assert 0.9 * common + 0.1 * rare == pytest.approx(1)


def test_it_learns_to_separate_two_levels() -> None:
    torch.manual_seed(0)
    step = step_of(PixelClasses(network_of(2), [[-1.0], [1.0]]), dice=0.5)
    image = torch.tensor([[[[-0.4, 0.6, -0.2, 0.3]]]])
    batch = {"input": image, "target": image.sign()}
    before = step.backward(batch, share=1.0)["loss"]
    for _ in range(60):
        step.optimiser.param_groups[0]["lr"] = 0.1
        after = step.backward(batch, share=1.0)
        step.optimiser.step()
        step.optimiser.zero_grad()
    assert after["loss"] < before / 2
    assert after["right"] == 1
    with pytest.raises(TypeError, match="Conv2d has no classes of pixels"):
        ClassesOfPixels(Adapter(nn.Conv2d(1, 1, 1)), nn.MSELoss(), step.settings)
