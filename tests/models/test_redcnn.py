"""RED-CNN is the published network: its size, its skips, its order."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from pipeline.models.redcnn import REDCNN


def image(rows: int = 24, columns: int = 20) -> torch.Tensor:
    return torch.randn(2, 1, rows, columns, generator=torch.Generator().manual_seed(0))


def small(**options: bool) -> REDCNN:
    torch.manual_seed(0)
    return REDCNN(channels=4, kernel=3, **options)


def zero(layer: nn.Module) -> None:
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)


def test_the_published_number_of_parameters() -> None:
    assert sum(parameter.numel() for parameter in REDCNN().parameters()) == 1_848_865


@pytest.mark.parametrize("padding", [False, True])
@pytest.mark.parametrize("kernel", [1, 3, 5])
@pytest.mark.parametrize("size", [(47, 33), (33, 64)])
def test_the_output_has_the_input_s_size(padding: bool, kernel: int, size: tuple[int, int]) -> None:
    network = REDCNN(channels=2, kernel=kernel, padding=padding)
    assert network(image(*size)).shape == (2, 1, *size)


def test_without_padding_the_layers_shrink_as_published() -> None:
    widths = []
    network = small()
    for layer in network.encoder:
        layer.register_forward_hook(lambda _, __, output: widths.append(output.shape[-1]))
    network(image(24, 24))
    assert widths == [22, 20, 18, 16, 14]


def test_the_input_skip_hands_the_input_through() -> None:
    network = small()
    zero(network.decoder[4])
    assert torch.equal(network(image()), image())
    assert network.adds_input


def test_without_the_input_skip_nothing_is_handed_through() -> None:
    network = small(input_skip=False)
    zero(network.decoder[4])
    assert (network(image()) == 0).all()
    assert not network.adds_input


@pytest.mark.parametrize(("decoder", "encoder"), [(0, 3), (2, 1)])
def test_an_inner_skip_adds_a_convolution_s_output(decoder: int, encoder: int) -> None:
    """Deconvolutions 1 and 3 get the outputs of convolutions 4 and 2; then comes the ReLU."""
    seen: dict[str, torch.Tensor] = {}
    network = small()
    network.encoder[encoder].register_forward_hook(
        lambda _, __, output: seen.update(skip=torch.relu(output))
    )
    # A copy: what a layer gives is added to and cut off in place.
    network.decoder[decoder].register_forward_hook(
        lambda _, __, output: seen.update(own=output.clone())
    )
    network.decoder[decoder + 1].register_forward_hook(
        lambda _, inputs, __: seen.update(next=inputs[0])
    )
    network(image())
    assert torch.equal(seen["next"], torch.relu(seen["own"] + seen["skip"]))
    assert not torch.equal(seen["next"], torch.relu(seen["own"]))


@pytest.mark.parametrize("decoder", [1, 3])
def test_the_other_deconvolutions_get_no_skip(decoder: int) -> None:
    network = small()
    zero(network.decoder[decoder])
    inputs: list[torch.Tensor] = []
    network.decoder[decoder + 1].register_forward_hook(lambda _, given, __: inputs.append(given[0]))
    network(image())
    assert (inputs[0] == 0).all()


def test_the_final_relu_is_an_option() -> None:
    plain, clipped = small(), small(final_relu=True)
    assert plain(image()).min() < 0
    assert torch.equal(clipped(image()), torch.relu(plain(image())))


def test_every_parameter_learns() -> None:
    network = small()
    network(image()).square().sum().backward()
    assert all(parameter.grad.abs().sum() > 0 for parameter in network.parameters())


@pytest.mark.parametrize("options", [{"kernel": 4}, {"kernel": 0}, {"channels": 0}])
def test_impossible_settings_are_refused(options: dict) -> None:
    with pytest.raises(ValueError, match="kernel odd"):
        REDCNN(**options)
