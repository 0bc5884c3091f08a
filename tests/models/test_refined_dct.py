"""White noise off pictures by a sliding DCT, and what a network adds to it."""

from __future__ import annotations

import math

import pytest
import torch
from test_noise_level import half_of_it_texture

from pipeline.models.refined_dct import RefinedDct, estimated

SIGMA = 20.0


def psnr_db(image: torch.Tensor, target: torch.Tensor) -> float:
    """Of grey levels."""
    return 10 * math.log10(255**2 / float((image - target).square().mean()))


def as_sigma(value: float) -> torch.Tensor:
    return torch.full((1, 1, 1, 1), value)


def noisy(image: torch.Tensor, sigma: float = SIGMA) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return image + sigma * torch.randn(image.shape, generator=generator)


def refined(channels: int = 1, *, answer: float = 0.0) -> RefinedDct:
    """Whose network answers one value everywhere."""
    args = {"in_channels": 2 * channels + 1, "out_channels": channels, "kernel_size": 1}
    model = RefinedDct({"target": "torch.nn.Conv2d", "args": args})
    with torch.no_grad():
        model.network.weight.zero_()
        model.network.bias.fill_(answer)
    return model


@pytest.mark.parametrize("channels", [1, 3])
def test_texture_stays_and_noise_goes(channels: int) -> None:
    image = half_of_it_texture().repeat(1, channels, 1, 1)
    found = estimated(noisy(image), as_sigma(SIGMA))
    assert psnr_db(found, image) > psnr_db(noisy(image), image) + 7
    left = (found - image)[..., 10:-10, 10:54]
    assert float(left.std()) < SIGMA / 5  # where the picture is smooth
    assert float(left.mean()) == pytest.approx(0, abs=SIGMA * 3 / math.sqrt(left.numel()))


def test_channels_that_show_the_same_help_one_another() -> None:
    image = half_of_it_texture()
    alone = estimated(noisy(image), as_sigma(SIGMA))
    together = estimated(noisy(image.repeat(1, 3, 1, 1)), as_sigma(SIGMA))
    assert psnr_db(together[:, :1], image) > psnr_db(alone, image) + 2


def test_images_of_a_batch_have_each_their_own_noise() -> None:
    image = half_of_it_texture()
    batch = torch.cat([noisy(image, 5), noisy(image, 40)])
    found = estimated(batch, torch.tensor([5.0, 40.0]).reshape(2, 1, 1, 1))
    for number, sigma in enumerate((5.0, 40.0)):
        alone = estimated(batch[number : number + 1], as_sigma(sigma))
        assert torch.allclose(found[number], alone[0], atol=1e-3)


@pytest.mark.parametrize("answer", [0.0, 7.0])
def test_an_image_without_noise_is_left_whatever_the_network_says(answer: float) -> None:
    image = (half_of_it_texture() - 127.5) / 127.5
    added = refined(answer=answer)(image)
    assert float(added.detach().abs().max()) < 0.02 / 127.5 * (1 + answer)


@pytest.mark.parametrize(("rows", "columns"), [(10, 10), (61, 47)])
def test_what_the_network_adds_is_in_standard_deviations_of_the_noise(rows, columns) -> None:
    image = noisy(half_of_it_texture())[..., :rows, :columns]
    without, added = refined()(image), refined(answer=0.5)(image)
    assert added.shape == image.shape
    found = (added - without).detach().mean()
    assert float(found) == pytest.approx(SIGMA / 2, rel=0.5 if rows == 10 else 0.15)


def test_a_piece_gets_the_noise_of_the_whole_image() -> None:
    image = half_of_it_texture()
    image[..., :32, :] = noisy(image[..., :32, :])
    model = refined()
    piece, level = image[..., 32:, :], model.of_whole(noisy(image, 40))
    with_level = model(piece, level)
    assert torch.allclose(with_level, estimated(piece, level[:, None, None, None]) - piece)
    assert not torch.allclose(with_level, model(piece))


def test_bf16_takes_nothing_from_the_estimate() -> None:
    image = (noisy(half_of_it_texture()) - 127.5) / 127.5
    with torch.autocast("cpu", torch.bfloat16):
        rough = refined()(image)
    assert torch.equal(rough, refined()(image))


def test_it_is_exported_for_any_batch_and_size() -> None:
    model, free = refined(answer=0.3).eval(), torch.export.Dim.DYNAMIC
    example = noisy(half_of_it_texture(64)).repeat(2, 1, 1, 1)
    sides = {0: free, 2: free, 3: free}
    program = torch.export.export(model, (example,), dynamic_shapes=(sides,))
    other = noisy(half_of_it_texture())[..., :61, :90]
    assert torch.allclose(program.module()(other), model(other), atol=1e-3)
