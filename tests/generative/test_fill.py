"""Regions made up by a generator: what is known stays, what it once drew comes back."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from pipeline.config.load import parse_config
from pipeline.core.errors import ConfigError, LdctError, NothingUsableError
from pipeline.core.volume import Volume
from pipeline.data.images import resampled
from pipeline.generative.fill import Fill, filled, filled_gaps, require_generator
from pipeline.models.adapters.generative import Generative

SIDE, LATENTS = 16, 4
#: Enough for codes of four numbers.
FILL = Fill(moves=250, follow=120, pool=64)


class Waves(nn.Module):
    """A code times fixed smooth patterns: the only code of an image can be computed."""

    latent_shape = (LATENTS,)
    image_size = (SIDE, SIDE)

    def __init__(self, labels: int = 0) -> None:
        super().__init__()
        places = torch.linspace(0, 3, SIDE)
        patterns = [torch.cos((n + 1) * places)[:, None] * torch.cos(n * places) for n in range(4)]
        self.patterns = nn.Parameter(torch.stack(patterns))
        self.labels = labels

    def decode(self, codes: torch.Tensor, labels: torch.Tensor | None = None) -> torch.Tensor:
        assert (labels is not None) == bool(self.labels)
        drawn = torch.einsum("bl,lrc->brc", codes, self.patterns)[:, None]
        return (
            drawn
            if labels is None
            else torch.where(labels.view(-1, 1, 1, 1) > 0, -3 - drawn, drawn)
        )


class Coded(Waves):
    """The same with an encoder, and no prior: any code may be an image's."""

    def encode(self, images: torch.Tensor) -> torch.Tensor:
        raise NotImplementedError


CONFIG = {
    "name": "waves",
    "task": "generate",
    "generation": {"source": "series", "image_size": [SIDE, SIDE]},
    "model": {
        "target": "pipeline.models.vae.DenseVAE",
        "args": {"image_size": [SIDE, SIDE], "latents": LATENTS},
    },
    "normalize_hu": {"centre": 0, "scale": 500},
    "step": {"target": "pipeline.training.steps.variational.Variational"},
    "train": {"iterations": 1},
    "windows": {"wide": [0, 2000]},
    "register": {"name": "waves"},
}


def generator(network: nn.Module) -> Generative:
    return Generative(network, config=parse_config(CONFIG))


@pytest.fixture
def model() -> Generative:
    return generator(Waves())


def drawn(model: Generative, codes: torch.Tensor, *labels: torch.Tensor) -> np.ndarray:
    with torch.no_grad():
        return model.in_hu(model.network.decode(codes, *labels))[:, 0].numpy()


def some_codes(count: int) -> torch.Tensor:
    return torch.randn(count, LATENTS, generator=torch.Generator().manual_seed(3))


def box(count: int, side: int = SIDE) -> np.ndarray:
    region = np.zeros((count, side, side), dtype=bool)
    region[:, side // 4 : side // 2, side // 3 : side // 2] = True
    return region


@pytest.mark.parametrize("sequence", [False, True])
def test_what_the_generator_drew_comes_back(model: Generative, sequence: bool) -> None:
    codes = some_codes(3) if not sequence else some_codes(1) + 0.05 * some_codes(3)
    truth = drawn(model, codes)
    region = box(3)
    region[1] = False
    holed = np.where(region, np.float32(9999), truth)
    done = filled(model, holed, region, FILL, sequence=sequence)
    assert done.slices == [0, 2]
    np.testing.assert_array_equal(done.images[~region], holed[~region])
    np.testing.assert_allclose(done.images, truth, atol=25)
    assert max(done.losses) < 0.03
    assert min(done.explained) > 0.99


def test_a_finer_image_keeps_its_known_pixels_to_the_bit(model: Generative) -> None:
    coarse = drawn(model, some_codes(2))
    fine = np.stack([resampled(image, (4 * SIDE, 4 * SIDE)) for image in coarse])
    noise = np.random.default_rng(0).normal(0, 5, fine.shape).astype(np.float32)
    truth, region = fine + noise, box(2, 4 * SIDE)
    holed = np.where(region, np.float32(-1e5), truth)
    done = filled(model, holed, region, FILL)
    np.testing.assert_array_equal(
        done.images[~region].view(np.uint32), truth[~region].view(np.uint32)
    )
    error = np.abs(done.images - truth)[region].mean()
    assert error < 0.15 * truth[region].std()


def test_the_label_is_found_with_the_code() -> None:
    model = generator(Waves(labels=2))
    codes, labels = some_codes(3) / 4, torch.tensor([1, 0, 1])
    truth, region = drawn(model, codes, labels), box(3)
    done = filled(model, np.where(region, np.float32(0), truth), region, FILL)
    np.testing.assert_allclose(done.images, truth, atol=25)


def volume_of(images: np.ndarray, places_mm: list[float]) -> Volume:
    origins = np.zeros((len(images), 3))
    origins[:, 2] = places_mm
    affine = np.diag([1.0, 1.0, (places_mm[-1] - places_mm[0]) / (len(images) - 1), 1.0])
    return Volume(images, np.ones(images.shape, dtype=bool), affine, origins)


def test_missing_slices_lie_on_the_way_between_their_neighbours(model: Generative) -> None:
    ends = some_codes(2)
    way = torch.stack(
        [ends[0] + share * (ends[1] - ends[0]) for share in (0, 1 / 3, 2 / 3, 1, 4 / 3)]
    )
    truth = drawn(model, way)
    noise = np.random.default_rng(0).normal(0, 5, truth.shape).astype(np.float32)
    scan = truth + noise
    known = [0, 3, 4]
    whole, made, figures = filled_gaps(model, volume_of(scan[known], [0.0, 9.0, 12.0]), FILL)
    assert made == [1, 2]
    assert figures.slices == [0, 3]
    np.testing.assert_array_equal(whole.image_hu[known], scan[known])
    np.testing.assert_allclose(whole.image_hu[made], truth[made], atol=40)
    np.testing.assert_array_equal(whole.valid.all(axis=(1, 2)), [True, False, False, True, True])
    np.testing.assert_allclose(whole.slice_origins_mm[:, 2], [0, 3, 6, 9, 12])


def test_nothing_is_made_up_where_nothing_is_missing(model: Generative) -> None:
    images = drawn(model, some_codes(3))
    with pytest.raises(NothingUsableError, match="nothing to do"):
        filled(model, images, np.zeros(images.shape, dtype=bool), FILL)
    with pytest.raises(NothingUsableError, match="no slice is missing"):
        filled_gaps(model, volume_of(images, [0.0, 3.0, 6.0]), FILL)


def test_an_image_without_anything_known_is_refused(model: Generative) -> None:
    images, region = drawn(model, some_codes(2)), box(2)
    region[1] = True
    with pytest.raises(LdctError, match="slice 2: all of it"):
        filled(model, images, region, FILL)


def test_images_unlike_the_generator_s_are_refused(model: Generative) -> None:
    noise = np.random.default_rng(0).normal(0, 500, (2, SIDE, SIDE)).astype(np.float32)
    with pytest.raises(LdctError, match="unlike the generator's"):
        filled(model, noise, box(2), FILL)


def test_a_network_without_a_prior_is_refused() -> None:
    with pytest.raises(ConfigError, match="no prior"):
        require_generator(generator(Coded()))
