"""Winograd's convolutions are PyTorch's: what comes out, what is learnt, where they step back."""

import math
import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from torch import nn

from pipeline.models.redcnn import REDCNN
from pipeline.models.winograd import conv as winograd
from pipeline.models.winograd.tiles import TILE, transforms

#: Float32 keeps seven digits, of which the way through the tiles may take one and a half.
AGREES = 3e-5

LAYERS = [(winograd.Conv2d, nn.Conv2d), (winograd.ConvTranspose2d, nn.ConvTranspose2d)]


@pytest.fixture
def anywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """Few channels and small images, too, so that the tests are quick."""
    monkeypatch.setattr(winograd, "MIN_CHANNELS", 1)
    monkeypatch.setattr(winograd, "MIN_PIXELS", 1)


@pytest.fixture
def gone(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """One entry for each convolution that went Winograd's way."""
    found: list[str] = []
    usual = winograd._correlate
    monkeypatch.setattr(winograd, "_correlate", lambda *a: found.append("gone") or usual(*a))
    return found


def both(layer: type, plain: type, *args: int, **kwargs: object) -> tuple[nn.Module, nn.Module]:
    torch.manual_seed(0)
    ours, theirs = layer(*args, **kwargs), plain(*args, **kwargs)
    theirs.load_state_dict(ours.state_dict())
    return ours, theirs


def apart(one: torch.Tensor, other: torch.Tensor) -> float:
    assert one.shape == other.shape
    return float((one - other).detach().abs().max() / other.detach().abs().max())


@pytest.mark.parametrize("kernel", winograd.KERNELS)
def test_one_tile_is_convolved_as_by_its_definition(kernel: int) -> None:
    by = transforms(kernel)
    generator = np.random.default_rng(0)
    tile, weight = generator.normal(size=TILE), generator.normal(size=kernel)
    found = by.output @ ((by.weight @ weight) * (by.input @ tile))
    assert by.step == TILE - kernel + 1
    np.testing.assert_allclose(found, np.correlate(tile, weight, "valid"), rtol=1e-5, atol=1e-5)


@pytest.mark.usefixtures("anywhere")
@pytest.mark.parametrize(("layer", "plain"), LAYERS)
@pytest.mark.parametrize(("kernel", "padding"), [(5, 0), (5, 2), (5, 4), (3, 0), (3, 1), (3, 2)])
@pytest.mark.parametrize("size", [(2, 16, 16), (1, 45, 61), (3, 7, 200)])
def test_output_and_gradients_are_pytorchs(
    layer: type, plain: type, kernel: int, padding: int, size: tuple[int, ...], gone: list[str]
) -> None:
    ours, theirs = both(layer, plain, 5, 7, kernel, padding=padding)
    batch, rows, columns = size
    input = torch.randn(batch, 5, rows, columns)
    inputs = [input.clone().requires_grad_() for _ in range(2)]
    outputs = [model(image) for model, image in zip((ours, theirs), inputs, strict=True)]
    assert gone
    assert apart(*outputs) < AGREES
    above = torch.randn_like(outputs[1])
    for output in outputs:
        output.backward(above)
    assert apart(*(image.grad for image in inputs)) < AGREES
    for name in ("weight", "bias"):
        assert apart(*(getattr(model, name).grad for model in (ours, theirs))) < AGREES


@pytest.mark.usefixtures("anywhere")
def test_gradients_only_where_they_are_asked_for() -> None:
    ours, _ = both(*LAYERS[0], 4, 4, 3, bias=False)
    ours.weight.requires_grad_(False)
    input = torch.randn(1, 4, 16, 16, requires_grad=True)
    ours(input).sum().backward()
    assert ours.weight.grad is None
    assert input.grad is not None
    assert input.grad.abs().max() > 0


@pytest.mark.usefixtures("anywhere")
def test_a_second_derivative_is_refused_and_not_wrong() -> None:
    ours, _ = both(*LAYERS[0], 4, 4, 3)
    input = torch.randn(1, 4, 16, 16, requires_grad=True)
    (slope,) = torch.autograd.grad(ours(input).square().sum(), input, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        slope.sum().backward()


@pytest.mark.usefixtures("anywhere")
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_the_layout_of_memory_changes_nothing(layout: torch.memory_format) -> None:
    ours, theirs = both(*LAYERS[0], 6, 6, 5)
    input = torch.randn(2, 6, 33, 40).to(memory_format=layout)
    assert apart(ours(input), theirs(input)) < AGREES
    assert apart(ours(input[:, :, ::2, 3:]), theirs(input[:, :, ::2, 3:])) < AGREES


@pytest.mark.usefixtures("anywhere")
@pytest.mark.parametrize(
    ("args", "kwargs"),
    [
        ((4, 4, 3), {"stride": 2}),
        ((4, 4, 3), {"dilation": 2}),
        ((4, 4, 3), {"groups": 2}),
        ((4, 4, 3), {"padding": 1, "padding_mode": "reflect"}),
        ((4, 4, 7), {}),
        ((4, 4, (3, 5)), {}),
        ((4, 4, 3), {"padding": (0, 1)}),
        ((4, 4, 3), {"padding": "same"}),
        ((4, 4, 3), {"padding": 3}),
    ],
)
def test_what_it_cannot_do_is_pytorchs_bit_for_bit(
    args: tuple, kwargs: dict, gone: list[str]
) -> None:
    ours, theirs = both(*LAYERS[0], *args, **kwargs)
    input = torch.randn(2, 4, 20, 20)
    assert torch.equal(ours(input), theirs(input))
    assert not gone


def test_few_channels_and_small_images_are_left_to_pytorch(gone: list[str]) -> None:
    for channels, side in ((winograd.MIN_CHANNELS - 1, 128), (winograd.MIN_CHANNELS, 32)):
        winograd.Conv2d(channels, channels, 3)(torch.randn(1, channels, side, side))
    assert not gone
    channels = winograd.MIN_CHANNELS
    winograd.Conv2d(channels, channels, 3)(torch.randn(1, channels, 64, 64))
    assert gone


@pytest.mark.usefixtures("anywhere")
def test_autocast_and_export_go_pytorchs_way(gone: list[str]) -> None:
    ours, _ = both(*LAYERS[0], 4, 4, 3)
    input = torch.randn(1, 4, 20, 20)
    with torch.autocast("cpu", torch.bfloat16):
        assert ours(input).dtype == torch.bfloat16
    exported = torch.export.export(ours.eval(), (input,)).module()
    assert not gone
    assert apart(exported(input), ours(input)) < AGREES


def test_the_published_redcnn_is_within_a_hundredth_of_a_hounsfield_unit(gone: list[str]) -> None:
    torch.manual_seed(0)
    network = REDCNN().eval()
    image = torch.randn(1, 1, 84, 84)  # in units of 1000 HU
    with torch.inference_mode():
        found = network(image)
        count = len(gone)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(winograd, "KERNELS", ())
            plain = network(image)
    assert count == len(gone) == 8  # all but the first and the last, which have one channel
    assert float((found - plain).abs().max()) * 1000 < 0.01
    assert not math.isclose(float(plain.std()), 0)


#: Four threads at once, each of whose loops run on two of numba's: as in a service with cores.
AT_ONCE = """
import numba, torch
from concurrent.futures import ThreadPoolExecutor
from torch import nn
from pipeline.models.winograd import conv as winograd
from pipeline.models.winograd.tiles import threads
winograd.MIN_CHANNELS = winograd.MIN_PIXELS = 1
torch.set_num_threads(2)
ours, theirs = winograd.Conv2d(8, 8, 5, padding=2), nn.Conv2d(8, 8, 5, padding=2)
theirs.load_state_dict(ours.state_dict())
def gradient(layer, image):
    torch.set_num_threads(2)
    assert threads() == 2
    image = image.clone().requires_grad_()
    output = layer(image)
    return output.detach(), torch.autograd.grad(output.square().sum(), image)[0]
images = [torch.randn(1, 8, 64, 64) for _ in range(24)]
with ThreadPoolExecutor(4) as pool:
    found = list(pool.map(lambda image: gradient(ours, image), images))
for image, both in zip(images, found):
    for one, other in zip(both, gradient(theirs, image)):
        assert (one - other).abs().max() < 3e-5 * other.abs().max()
assert numba.threading_layer() == "workqueue"
"""


def test_many_threads_may_ask_at_once() -> None:
    """numba's own threads, its layer where the system has no OpenMP, end the process otherwise."""
    env = {"NUMBA_NUM_THREADS": "2", "NUMBA_THREADING_LAYER": "workqueue"}
    ran = subprocess.run(
        [sys.executable, "-c", AT_ONCE],
        capture_output=True,
        check=False,
        text=True,
        env={**os.environ, **env},
    )
    assert ran.returncode == 0, ran.stderr
