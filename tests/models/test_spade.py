"""Pictures from label maps: every normalisation sees the labels; noise in training alone."""

from __future__ import annotations

import pytest
import torch

from pipeline.models.spade import SpadeGenerator

VALUES = [26.0, 128.0, 230.0]


def generator() -> SpadeGenerator:
    torch.manual_seed(0)
    return SpadeGenerator(VALUES, centre=127.5, scale=127.5, channels=(8, 8, 4), noise=2)


def test_a_map_of_any_size_gives_a_picture_of_its_size() -> None:
    for size in ((32, 32), (13, 22)):
        assert generator()(torch.zeros(2, 1, *size)).shape == (2, 1, *size)
    with pytest.raises(ValueError, match="two values"):
        SpadeGenerator([1.0])


def test_a_pixel_has_the_class_whose_value_is_nearest() -> None:
    levels = torch.tensor([[[[0.0, 100.0, 255.0]]]])
    one_hot = generator().one_hot((levels - 127.5) / 127.5)
    assert one_hot.argmax(dim=1).flatten().tolist() == [0, 1, 2]
    assert float(one_hot.sum()) == 3


def test_a_uniform_map_is_not_washed_out() -> None:
    """What a plain instance normalisation would make the same for every uniform map."""
    network = generator().eval()
    dark, bright = (network(torch.full((1, 1, 32, 32), level)) for level in (-0.8, 0.8))
    assert float((dark - bright).abs().mean()) > 1e-3


def test_noise_is_drawn_in_training_alone() -> None:
    network, labels = generator(), torch.zeros(1, 1, 32, 32)
    assert not torch.equal(network.train()(labels), network(labels))
    assert torch.equal(network.eval()(labels), network(labels))
