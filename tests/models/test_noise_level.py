"""The strength of noise is estimated from the whole image."""

from __future__ import annotations

import pytest
import torch

from pipeline.models.noise_level import noise_level


def half_of_it_texture(size: int = 128) -> torch.Tensor:
    """[1, 1, size, size]: a slope, and beside it stripes three pixels wide, grey levels."""
    rows, columns = torch.meshgrid(torch.arange(size), torch.arange(size), indexing="ij")
    slope = 50 + 0.5 * rows + 0.25 * columns
    stripes = 60.0 * ((rows + 2 * columns) % 6 < 3)
    return torch.where(columns < size // 2, slope, slope + stripes)[None, None].float()


@pytest.mark.parametrize("sigma", [2.0, 10.0, 40.0])
@pytest.mark.parametrize("channels", [1, 3])
def test_white_noise_is_found_beside_texture(sigma: float, channels: int) -> None:
    generator = torch.Generator().manual_seed(0)
    image = half_of_it_texture().repeat(2, channels, 1, 1)
    image[1] = 0  # each image has a level of its own
    noisy = image + sigma * torch.randn(image.shape, generator=generator)
    assert noise_level(noisy).tolist() == pytest.approx([sigma, sigma], rel=0.08)


def test_a_picture_without_noise_has_none() -> None:
    assert float(noise_level(half_of_it_texture())) < 0.01


def test_what_is_clipped_is_not_taken_for_a_picture_without_noise() -> None:
    generator = torch.Generator().manual_seed(0)
    image = half_of_it_texture()
    image[..., :40, :] = -200
    noisy = image + 20 * torch.randn(image.shape, generator=generator)
    assert float(noise_level(noisy.clamp(0, 255))) == pytest.approx(20, rel=0.1)
    assert float(noise_level(torch.zeros(1, 1, 32, 32))) == 0  # nothing else is there
