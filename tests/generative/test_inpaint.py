"""Codes found for images with holes: known answers of a linear generator, and the speed-ups."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from pipeline.config.sections import Normalize
from pipeline.generative.latent_search import (
    Holes,
    Search,
    best_of_pool,
    find_codes,
    find_sequence,
    pasted,
    poisson_blended,
    random_start,
)
from pipeline.metrics.image import flicker
from pipeline.models.adapters.base import HUModel

SIDE, LATENTS = 12, 4
#: Nothing but the fit, so that the answer is the code that made the image.
FIT = Search(iterations=400, lr=0.05, prior=0.0)


class Waves(nn.Module):
    """A code times fixed smooth patterns: the only code of an image can be computed."""

    latent_shape = (LATENTS,)

    def __init__(self) -> None:
        super().__init__()
        places = torch.linspace(0, 3, SIDE)
        patterns = [torch.cos((n + 1) * places)[:, None] * torch.cos(n * places) for n in range(4)]
        self.patterns = nn.Parameter(torch.stack(patterns))

    def decode(self, codes: torch.Tensor) -> torch.Tensor:
        return torch.einsum("bl,lrc->brc", codes, self.patterns)[:, None]


@pytest.fixture
def model() -> HUModel:
    return HUModel(Waves(), normalize=Normalize(centre=100, scale=50), residual=False)


def drawn(model: HUModel, codes: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        return model.in_hu(model.network.decode(codes))


def box(count: int) -> torch.Tensor:
    known = torch.ones(count, 1, SIDE, SIDE, dtype=torch.bool)
    known[:, :, 4:8, 3:9] = False
    return known


def seeded() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def test_the_hole_is_filled_as_the_image_was(model: HUModel) -> None:
    codes = torch.randn(3, LATENTS, generator=seeded())
    images, known = drawn(model, codes), box(3)
    holed = torch.where(known, images, torch.nan)
    holes = Holes(model, holed, known)
    found = find_codes(holes, torch.zeros(3, LATENTS), FIT)
    torch.testing.assert_close(drawn(model, found.codes), images, atol=2.0, rtol=0)
    assert float(found.losses.max()) < 0.02
    assert found.iterations == FIT.iterations


def test_images_of_a_batch_do_not_touch_each_other(model: HUModel) -> None:
    codes = torch.randn(3, LATENTS, generator=seeded())
    images, known, start = drawn(model, codes), box(3), torch.zeros(3, LATENTS)
    brief = Search(iterations=20)
    together = find_codes(Holes(model, images, known), start, brief)
    alone = find_codes(Holes(model, images[1:2], known[:1]), start[:1], brief)
    torch.testing.assert_close(together.codes[1:2], alone.codes)
    torch.testing.assert_close(together.losses[1:2], alone.losses)


def test_what_is_in_the_hole_does_not_matter(model: HUModel) -> None:
    images, known = drawn(model, torch.ones(1, LATENTS)), box(1)
    other = torch.where(known, images, 1e6)
    code = torch.zeros(1, LATENTS)
    seen, unseen = (Holes(model, one, known).losses(code, FIT) for one in (images, other))
    torch.testing.assert_close(seen, unseen, rtol=0, atol=0)


def test_pixels_beside_the_hole_count_most_and_all_known_ones_count(model: HUModel) -> None:
    weight = Holes(model, torch.zeros(1, 1, SIDE, SIDE), box(1)).weight[0, 0]
    assert float(weight[5, 5]) == 0
    assert float(weight[3, 5]) > float(weight[1, 5]) > float(weight[11, 0]) > 0
    assert float(weight.sum()) == pytest.approx(1)


def test_the_prior_pulls_codes_towards_nought(model: HUModel) -> None:
    images, known = drawn(model, 2 * torch.ones(1, LATENTS)), box(1)
    sizes = [
        float(find_codes(Holes(model, images, known), torch.zeros(1, LATENTS), search).codes.norm())
        for search in (FIT, Search(iterations=400, prior=1.0))
    ]
    assert sizes[1] < 0.7 * sizes[0]


def test_the_best_of_a_pool_is_its_best(model: HUModel) -> None:
    generator = seeded()
    pool = torch.randn(64, LATENTS, generator=generator)
    images, known = drawn(model, pool[[7, 40]]), box(2)
    chosen = best_of_pool(Holes(model, images, known), 64, seeded())
    torch.testing.assert_close(chosen, pool[[7, 40]])


def test_a_start_from_the_pool_gets_there_in_fewer_moves(model: HUModel) -> None:
    codes = torch.randn(8, LATENTS, generator=torch.Generator().manual_seed(1))
    holes = Holes(model, drawn(model, codes), box(8))
    until = Search(iterations=2000, lr=0.01, prior=0.0, until=0.1)
    plain = find_codes(holes, random_start(holes, seeded()), until)
    pooled = find_codes(holes, best_of_pool(holes, 512, seeded()), until)
    assert float(plain.losses.max()) <= 0.1
    assert float(pooled.losses.max()) <= 0.1
    assert pooled.iterations < 0.7 * plain.iterations


def test_frames_take_up_their_neighbour_s_code(model: HUModel) -> None:
    way = torch.linspace(0, 0.5, 9)[:, None] * torch.ones(1, LATENTS) + 1
    holes = Holes(model, drawn(model, way), box(9))
    until = Search(iterations=2000, lr=0.01, prior=0.0, until=0.03)
    plain = find_codes(holes, random_start(holes, seeded()), until)
    start = random_start(holes, seeded())[:1]
    followed = find_sequence(holes, start, until, follow=until, group=2)
    assert followed.codes.shape == (9, LATENTS)
    assert float(followed.losses.max()) <= 0.03
    first = find_codes(holes.part(slice(0, 1)), start, until).iterations
    assert followed.iterations - first < 0.5 * plain.iterations


def test_consistency_calms_a_group_of_frames(model: HUModel) -> None:
    noise = 10 * torch.randn(6, 1, SIDE, SIDE, generator=seeded())
    images = drawn(model, torch.ones(6, LATENTS)) + noise
    holes, still = Holes(model, images, box(6)), np.ones((5, SIDE, SIDE), dtype=bool)
    start = torch.ones(1, LATENTS)
    calm = []
    for consistency in (0.0, 30.0):
        follow = Search(iterations=150, prior=0.0, consistency=consistency)
        found = find_sequence(holes, start, FIT, follow=follow, group=5)
        calm.append(flicker(drawn(model, found.codes)[1:, 0].numpy(), still[1:]))
    assert calm[1] < 0.5 * calm[0]


def test_blending_takes_away_a_step_at_the_rim() -> None:
    rows, columns = np.indices((16, 16))
    image = (rows + 2 * columns).astype(np.float32)
    known = np.ones((16, 16), dtype=bool)
    known[4:10, 5:12] = False
    brighter = image + 30
    np.testing.assert_allclose(poisson_blended(brighter, image, known), image, atol=1e-3)
    np.testing.assert_array_equal(pasted(brighter, image, known), image + 30 * ~known)
    np.testing.assert_array_equal(poisson_blended(brighter, image, known | True), image)
    known[:4, 5:12] = False  # open to the image's edge
    np.testing.assert_allclose(poisson_blended(brighter, image, known), image, atol=1e-3)


def test_flicker_is_reported_where_nothing_moves() -> None:
    frames = np.zeros((3, 4, 4), dtype=np.float32)
    frames[1] = 2
    frames[:, 0] = [[0], [50], [100]]
    still = np.ones((2, 4, 4), dtype=bool)
    still[:, 0] = False
    assert flicker(frames, still) == 2
    with pytest.raises(ValueError, match="no pixel is still"):
        flicker(frames, ~still & False)


def test_what_cannot_be_searched_is_named(model: HUModel) -> None:
    images = torch.zeros(1, 1, SIDE, SIDE)
    with pytest.raises(ValueError, match="known pixels for images"):
        Holes(model, images, box(2))
    with pytest.raises(ValueError, match="without a known pixel"):
        Holes(model, images, torch.zeros_like(images, dtype=torch.bool))
