"""White noise off pictures by a sliding DCT or similar blocks, and what a network adds to it."""

from __future__ import annotations

import math

import pytest
import torch
from test_noise_level import half_of_it_texture

from pipeline.core.errors import ConfigError
from pipeline.models.refined_dct import RefinedDct
from pipeline.models.similar_blocks import GROUP, _blocks, _groups, grouped
from pipeline.models.sliding_dct import BLOCK, estimated

SIGMA = 20.0
of_each_estimate = pytest.mark.parametrize(
    "estimated", [estimated, lambda *noisy: grouped(*noisy)[1]], ids=["dct", "similar blocks"]
)

of_each_model = pytest.mark.parametrize("similar_blocks", [False, True])


def psnr_db(image: torch.Tensor, target: torch.Tensor) -> float:
    """Of grey levels."""
    return 10 * math.log10(255**2 / float((image - target).square().mean()))


def as_sigma(value: float) -> torch.Tensor:
    return torch.full((1, 1, 1, 1), value)


def noisy(image: torch.Tensor, sigma: float = SIGMA) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return image + sigma * torch.randn(image.shape, generator=generator)


def refined(*, answer: float = 0.0, similar_blocks: bool = False) -> RefinedDct:
    """Whose network answers one value everywhere."""
    args = {"in_channels": 4 if similar_blocks else 3, "out_channels": 1, "kernel_size": 1}
    network = {"target": "torch.nn.Conv2d", "args": args}
    model = RefinedDct(network, similar_blocks=similar_blocks)
    with torch.no_grad():
        model.network.weight.zero_()
        model.network.bias.fill_(answer)
    return model


@of_each_estimate
@pytest.mark.parametrize("channels", [1, 3])
def test_texture_stays_and_noise_goes(estimated, channels: int) -> None:
    image = half_of_it_texture().repeat(1, channels, 1, 1)
    found = estimated(noisy(image), as_sigma(SIGMA))
    assert psnr_db(found, image) > psnr_db(noisy(image), image) + 7
    left = (found - image)[..., 10:-10, 10:54]
    assert float(left.std()) < SIGMA / 5  # where the picture is smooth
    assert float(left.mean()) == pytest.approx(0, abs=SIGMA * 3 / math.sqrt(left.numel()))


@of_each_estimate
def test_channels_that_show_the_same_help_one_another(estimated) -> None:
    image = half_of_it_texture()
    alone = estimated(noisy(image), as_sigma(SIGMA))
    together = estimated(noisy(image.repeat(1, 3, 1, 1)), as_sigma(SIGMA))
    assert psnr_db(together[:, :1], image) > psnr_db(alone, image) + 2


@of_each_estimate
def test_images_of_a_batch_have_each_their_own_noise(estimated) -> None:
    image = half_of_it_texture()
    batch = torch.cat([noisy(image, 5), noisy(image, 40)])
    found = estimated(batch, torch.tensor([5.0, 40.0]).reshape(2, 1, 1, 1))
    for number, sigma in enumerate((5.0, 40.0)):
        alone = estimated(batch[number : number + 1], as_sigma(sigma))
        assert torch.allclose(found[number], alone[0], atol=1e-3)


def test_what_repeats_is_kept_better_by_similar_blocks_than_alone() -> None:
    """Patches of white noise have no few coefficients, but the same patch lies all over them."""
    patch = 60 * torch.randn(1, 1, 6, 6, generator=torch.Generator().manual_seed(1))
    image = 128 + patch.repeat(1, 1, 12, 12)
    alone = psnr_db(estimated(noisy(image), as_sigma(SIGMA)), image)
    first, second = (psnr_db(found, image) for found in grouped(noisy(image), as_sigma(SIGMA)))
    assert first > alone + 2
    assert second > alone + 5


@pytest.mark.parametrize(("rows", "columns"), [(BLOCK, BLOCK), (9, 30), (61, 47), (80, 33)])
def test_similar_blocks_cover_every_pixel_of_any_picture(rows: int, columns: int) -> None:
    """Also of one with fewer blocks than a group has; without noise it comes back as it was."""
    image = half_of_it_texture()[..., :rows, 40 : 40 + columns]
    for found in grouped(image, as_sigma(0.0)):
        assert torch.allclose(found, image, atol=1e-2)


def test_how_many_tiles_are_compared_at_once_changes_nothing(monkeypatch) -> None:
    image = noisy(half_of_it_texture().repeat(1, 3, 1, 1))
    whole = grouped(image, as_sigma(SIGMA))
    monkeypatch.setattr("pipeline.models.similar_blocks._AT_ONCE", 5000)
    for found, expected in zip(grouped(image, as_sigma(SIGMA)), whole, strict=True):
        assert torch.allclose(found, expected, atol=1e-3)


def test_groups_hold_the_blocks_most_alike() -> None:
    """Of columns that repeat after every 11, blocks are found that begin in the same phase."""
    row = 50 * torch.randn(1, 11, generator=torch.Generator().manual_seed(2))
    image = row.repeat(64, 6)[None]
    seen, size = _blocks(image)[0], (64, 66)
    groups = torch.cat([*_groups(seen, size)])
    assert groups.shape[1] == GROUP
    unlike = seen[groups] - seen[groups[:, :1]]
    assert float(unlike.abs().max()) < 1e-3


@of_each_model
@pytest.mark.parametrize("answer", [0.0, 7.0])
def test_an_image_without_noise_is_left_whatever_the_network_says(
    answer: float, similar_blocks: bool
) -> None:
    image = (half_of_it_texture() - 127.5) / 127.5
    added = refined(answer=answer, similar_blocks=similar_blocks)(image)
    assert float(added.detach().abs().max()) < 0.02 / 127.5 * (1 + answer)


@of_each_model
@pytest.mark.parametrize(("rows", "columns"), [(10, 10), (61, 47)])
def test_what_the_network_adds_is_in_standard_deviations_of_the_noise(
    rows: int, columns: int, similar_blocks: bool
) -> None:
    image = noisy(half_of_it_texture())[..., :rows, :columns]
    without, added = (
        refined(answer=answer, similar_blocks=similar_blocks)(image) for answer in (0.0, 0.5)
    )
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


@of_each_model
def test_bf16_takes_nothing_from_the_estimate(similar_blocks: bool) -> None:
    image = (noisy(half_of_it_texture()) - 127.5) / 127.5
    model = refined(similar_blocks=similar_blocks)
    with torch.autocast("cpu", torch.bfloat16):
        rough = model(image)
    assert torch.equal(rough, model(image))


def exported(model: RefinedDct) -> torch.nn.Module:
    free = torch.export.Dim.DYNAMIC
    example = noisy(half_of_it_texture(64)).repeat(2, 1, 1, 1)
    sides = {0: free, 2: free, 3: free}
    return torch.export.export(model, (example,), dynamic_shapes=(sides,)).module()


def test_it_is_exported_for_any_batch_and_size() -> None:
    model = refined(answer=0.3).eval()
    other = noisy(half_of_it_texture())[..., :61, :90]
    assert torch.allclose(exported(model)(other), model(other), atol=1e-3)


def test_similar_blocks_are_not_exported_and_the_error_says_why() -> None:
    with pytest.raises(ConfigError, match=r"model\.args\.similar_blocks.*cannot be exported"):
        exported(refined(similar_blocks=True).eval())
