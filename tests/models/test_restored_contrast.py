"""Contrast found from the levels of a whole image."""

from __future__ import annotations

import torch

from pipeline.models.restored_contrast import SHARES, RestoredContrast, levels_of


def of_nothing() -> RestoredContrast:
    """Whose network adds nothing."""
    args = {"in_channels": 1, "out_channels": 1, "kernel_size": 1}
    model = RestoredContrast({"target": "torch.nn.Conv2d", "args": args})
    with torch.no_grad():
        model.network.weight.zero_()
        model.network.bias.zero_()
    return model


def pictures(count: int, generator: torch.Generator) -> torch.Tensor:
    """[count, 1, 32, 32] of blocks between -1 and 1."""
    blocks = 2 * torch.rand(count, 1, 8, 8, generator=generator) - 1
    return blocks.repeat_interleave(4, dim=2).repeat_interleave(4, dim=3)


def faded(images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Each with a contrast and a brightness of its own."""
    kept, paper = torch.rand(2, len(images), 1, 1, 1, generator=generator)
    return paper / 2 + (0.5 + kept / 2) * (images - paper / 2)


def test_untrained_it_changes_nothing() -> None:
    images = pictures(2, torch.Generator().manual_seed(0))
    torch.testing.assert_close(of_nothing()(images), torch.zeros_like(images))


def test_contrast_that_was_lost_comes_back() -> None:
    generator = torch.Generator().manual_seed(0)
    torch.manual_seed(0)
    model = of_nothing()
    optimiser = torch.optim.Adam(model.tone.parameters(), lr=5e-3)
    for _ in range(300):
        targets = pictures(16, generator)
        inputs = faded(targets, generator)
        loss = (inputs + model(inputs) - targets).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    targets = pictures(16, generator)
    inputs = faded(targets, generator)
    with torch.no_grad():
        left = (inputs + model(inputs) - targets).square().mean()
    assert left < 0.05 * (inputs - targets).square().mean()


def test_pieces_of_an_image_get_the_contrast_of_all_of_it() -> None:
    generator = torch.Generator().manual_seed(0)
    model = of_nothing()
    torch.nn.init.normal_(model.tone[-1].weight, generator=generator)
    image = faded(pictures(1, generator), generator)
    whole = model(image)
    of_whole = model.of_whole(image)
    torch.testing.assert_close(model(image[..., :8, :8], of_whole), whole[..., :8, :8])
    assert not torch.allclose(model(image[..., :8, :8]), whole[..., :8, :8], atol=1e-2)


def test_levels_are_of_each_image_and_in_order() -> None:
    ramp = torch.linspace(0, 1, 1001).reshape(1, 1, 7, 143)
    shuffled = ramp.flatten()[torch.randperm(1001, generator=torch.Generator().manual_seed(0))]
    found = levels_of(torch.cat([shuffled.reshape(ramp.shape), ramp + 3]))
    torch.testing.assert_close(found[0], torch.tensor(SHARES), atol=1e-3, rtol=0)
    torch.testing.assert_close(found[1], found[0] + 3)
