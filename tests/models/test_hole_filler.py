"""Large holes: a smooth surface first, from known pixels alone, and a view beyond the hole."""

from __future__ import annotations

import torch

from pipeline.models.hole_filler import HoleFiller, smoothly_filled


def holed(side: int = 96, hole: slice = slice(16, 80)) -> torch.Tensor:
    known = torch.ones(1, 1, side, side)
    known[..., hole, hole] = 0
    return known


def test_a_constant_is_continued_and_known_pixels_are_kept() -> None:
    known = holed()
    image = torch.where(known > 0, 0.3, 99.0).expand(1, 3, -1, -1)
    torch.testing.assert_close(smoothly_filled(image, known), torch.full_like(image, 0.3))
    random = torch.rand(1, 3, 37, 53, generator=torch.Generator().manual_seed(0))
    known = (random[:, :1] > 0.7).float()
    filled = smoothly_filled(random, known)
    assert torch.equal(filled * known, random * known)
    assert float(filled.min()) >= float(random[known.expand_as(random) > 0].min())


def test_a_hole_between_dark_and_bright_becomes_a_slope() -> None:
    known = holed()
    image = torch.linspace(-1, 1, 96).expand(1, 1, 96, 96)
    row = smoothly_filled(image, known)[0, 0, 48]
    assert float(row[20]) < -0.3 < float(row[48]) < 0.3 < float(row[75])


def test_sweeps_near_the_surface_that_spans_the_hole() -> None:
    """A plane and a saddle are harmonic: each pixel is the mean of its neighbours."""
    known = holed()
    rows, columns = torch.meshgrid(*2 * [torch.linspace(-1, 1, 96)], indexing="ij")
    saddle = (rows * columns + 0.5 * rows)[None, None]
    errors = [
        float((smoothly_filled(saddle, known, sweeps=sweeps) - saddle).abs().max())
        for sweeps in (0, 4, 64)
    ]
    assert errors[0] > 4 * errors[1]
    assert errors[1] > 2 * errors[2]
    assert errors[2] < 0.01
    constant = torch.full_like(saddle, 0.3)
    torch.testing.assert_close(smoothly_filled(constant, known, sweeps=8), constant)


def test_the_middle_of_a_hole_of_64_sees_beyond_it_and_not_what_is_hidden() -> None:
    torch.manual_seed(0)
    network = HoleFiller(features=(4, 4, 4, 4, 4, 4)).eval()
    known = holed()
    image = torch.rand(1, 3, 96, 96)
    other = torch.where(known > 0, image, -image)
    found, again = (network(torch.cat([one, known], dim=1)) for one in (image, other))
    assert torch.equal(found, again)
    beside = image.clone()
    beside[..., 48, 10] += 5  # 38 pixels from the middle
    moved = network(torch.cat([beside, known], dim=1))
    assert float((moved - found).detach()[..., 48, 48].abs().max()) > 0


def test_noise_is_drawn_within_holes_and_the_same_each_time() -> None:
    """With it a hole between equal surroundings is no longer filled by one shape."""
    torch.manual_seed(0)
    network = HoleFiller(features=(4, 4, 4, 4, 4, 4), sweeps=2, norm=None, noise=2).eval()
    known = holed()
    seen = torch.cat([torch.full((1, 3, 96, 96), 0.3), known], dim=1)
    found = network(seen)
    assert torch.equal(found, network(seen))
    detail = found.detach().diff(dim=-1)
    within, beside = detail[..., 24:72, 24:72].std(), detail[..., 2:12, 24:72].std()
    assert float(within) > 4 * float(beside)
    network.train()
    assert not torch.equal(network(seen), network(seen))
