"""Autoencoders without a distribution: PCA's subspace, and what a corrupted input teaches."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.latent import fit, mean_square
from monai.networks.nets import AutoEncoder
from scipy.linalg import subspace_angles
from sklearn.decomposition import PCA

from pipeline.config.sections import Normalize
from pipeline.core.units import Window
from pipeline.degradations.base import GaussianNoise, MaskedPixels
from pipeline.evaluation.latent import pca_reconstruction, reconstruction_figures
from pipeline.generative.latent import encode, reconstruct
from pipeline.inference.denoise import apply_model
from pipeline.ingest.bundled_pictures import Pictures, digits
from pipeline.metrics.image import psnr_db
from pipeline.models.adapters.base import HUModel
from pipeline.models.autoencoder import DenseAutoencoder

GREY = Window(8, 16)


@pytest.fixture(scope="module")
def sides() -> tuple[Pictures, Pictures]:
    return digits().split()


def low_rank(count: int = 256) -> np.ndarray:
    """Pictures of 4 x 4 that vary along three directions, and hardly along the others."""
    generator = np.random.default_rng(0)
    directions = np.linalg.qr(generator.standard_normal((16, 16)))[0]
    deviations = np.array([1.0, 0.9, 0.8] + [0.15] * 13)
    codes = generator.standard_normal((count, 16)) * deviations
    return (0.5 + codes @ directions.T).reshape(-1, 4, 4).astype(np.float32)


def test_a_linear_autoencoder_spans_the_subspace_of_pca(tmp_path: Path) -> None:
    images = low_rank()
    model, _ = fit(
        lambda: DenseAutoencoder((4, 4), 3, hidden=()),
        images,
        tmp_path,
        step=mean_square,
        normalize=Normalize(centre=0, scale=1),
        iterations=300,
        lr=5e-2,
    )
    network = model.network
    assert isinstance(network, DenseAutoencoder)
    decoded = network.decode(torch.eye(3)) - network.decode(torch.zeros(1, 3))
    directions = PCA(3).fit(images.reshape(-1, 16)).components_
    angles = subspace_angles(decoded.detach().flatten(1).numpy().T, directions.T)
    assert np.degrees(angles).max() < 5
    # And so it reconstructs as well as PCA: no linear way with three codes is better.
    found = reconstruct(model, torch.from_numpy(images)[:, None])[:, 0].numpy()
    best = pca_reconstruction(images, images, 3)
    error, least = (float(np.mean((out - images) ** 2)) for out in (found, best))
    assert least <= error * (1 + 1e-5)
    assert error < 1.05 * least


@pytest.mark.parametrize(
    "degradation", [GaussianNoise(sigma=5.0), MaskedPixels(share=0.4)], ids=["noise", "mask"]
)
def test_a_denoising_autoencoder_beats_doing_nothing(sides, tmp_path: Path, degradation) -> None:
    training, test = (np.stack(side.images) for side in sides)
    model, _ = fit(
        lambda: DenseAutoencoder((8, 8), 128, hidden=()),  # overcomplete: copying is open to it
        training,
        tmp_path,
        step=mean_square,
        degradation=degradation,
        iterations=200,
        lr=3e-3,
        batch=32,
    )
    corrupted = degradation.degrade(test, np.random.default_rng(1))
    restored = apply_model(model, corrupted, batch=64)
    before = reconstruction_figures(corrupted, test, GREY)
    after = reconstruction_figures(restored, test, GREY)
    assert after.psnr > before.psnr + 2
    assert after.ssim > before.ssim


def test_an_overcomplete_one_copies_what_it_is_shown(sides, tmp_path: Path) -> None:
    """Without a degradation nothing makes it choose: noise comes back as noise."""
    training, test = (np.stack(side.images) for side in sides)
    model, _ = fit(
        lambda: DenseAutoencoder((8, 8), 128, hidden=()),
        training,
        tmp_path,
        step=mean_square,
        iterations=400,
        lr=1e-2,
        batch=32,
    )
    noisy = GaussianNoise(5.0).degrade(test, np.random.default_rng(1))
    copied = apply_model(model, noisy, batch=64)
    assert np.mean((copied - noisy) ** 2) < 0.5 * np.mean((copied - test) ** 2)


def test_an_undercomplete_one_reconstructs_worse_the_fewer_its_codes(sides) -> None:
    training, test = (np.stack(side.images) for side in sides)
    figures = [
        reconstruction_figures(pca_reconstruction(training, test, codes), test, GREY).psnr
        for codes in (2, 8, 32, 64)
    ]
    assert figures == sorted(figures)
    assert figures[-1] > 60  # as many components as pixels: all of it


def test_only_the_largest_codes_pass_where_few_may_be_active() -> None:
    torch.manual_seed(0)
    network = DenseAutoencoder((4, 4), 20, hidden=(), active=3)
    image = torch.randn(5, 1, 4, 4)
    everything = network.encoder(image)
    code = network.encode(image)
    assert ((code != 0).sum(dim=1) == 3).all()
    kept = code != 0
    torch.testing.assert_close(code[kept], everything[kept])
    assert everything[~kept].abs().view(5, -1).amax(1).le(code.abs().amax(1)).all()


def test_monai_s_convolutional_one_needs_no_module_of_ours() -> None:
    network = AutoEncoder(2, 1, 1, channels=(4, 8), strides=(2, 2))
    model = HUModel(network, normalize=Normalize(), residual=False).eval()
    image_hu = 100 * torch.randn(2, 1, 32, 32)
    assert encode(model, image_hu).shape == (2, 8, 8, 8)
    torch.testing.assert_close(reconstruct(model, image_hu), model(image_hu))


def test_another_size_is_refused_and_so_are_impossible_networks() -> None:
    with pytest.raises(ValueError, match="resample"):
        DenseAutoencoder((4, 4), 2)(torch.zeros(1, 1, 4, 5))
    for wrong in ({"codes": 0}, {"codes": 4, "active": 5}, {"codes": 4, "active": 0}):
        with pytest.raises(ValueError, match="active"):
            DenseAutoencoder((4, 4), **wrong)


def test_the_range_of_digits_is_theirs(sides) -> None:
    """A PSNR counts from black to white, 16 grey levels: an error of 1.6 everywhere is 20 dB."""
    image = sides[1].images[0].clip(0, 14)
    assert psnr_db(image + 1.6, image, GREY) == pytest.approx(20, abs=1e-3)
