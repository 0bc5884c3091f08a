"""How well a latent space holds images: bound, bits, reconstruction, and PCA beside it."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from pipeline.core.json_numbers import Figure, JsonRecord
from pipeline.core.types import ImageHU
from pipeline.core.units import Window
from pipeline.generative.latent import CHUNK
from pipeline.metrics.image import psnr_db, ssim
from pipeline.models.adapters.base import HUModel
from pipeline.models.distributions import Gaussian
from pipeline.models.vae import VAE


class Likeness(JsonRecord):
    """Mean PSNR (dB) and SSIM of images beside their targets; PSNR is None where one is equal."""

    psnr: Figure
    ssim: Figure


class LowerBound(JsonRecord):
    """The evidence lower bound, its parts in nats per image, and as bits per pixel."""

    reconstruction: Figure
    kl: Figure
    elbo: Figure
    bits_per_dim: Figure


@torch.inference_mode()
def lower_bound(
    model: HUModel,
    images: torch.Tensor,
    generator: torch.Generator,
    *,
    labels: torch.Tensor | None = None,
    quantum: float = 1.0,
) -> LowerBound:
    """Of images [count, 1, rows, columns], with beta 1 and one code drawn for each.

    bits_per_dim is
    what a pixel would cost in a lossless code, from above: for a Gaussian likelihood of values
    that are multiples of `quantum` (1 HU, 1 grey level); for a Bernoulli one of black and white
    pixels.
    """
    network = model.network
    if not isinstance(network, VAE):
        raise TypeError(f"{type(network).__name__} has no posterior, so no evidence lower bound")
    device = next(model.parameters()).device
    likelihoods, divergences = [], []
    for start in range(0, len(images), CHUNK):
        part = model.normalised(images[start : start + CHUNK].to(device))
        label = None if labels is None else labels[start : start + CHUNK].to(device)
        posterior = network.encode(part, label)
        raw = network.raw(posterior.sample(generator), label)
        likelihoods.append(network.likelihood.log_prob(raw, part))
        divergences.append(posterior.kl().flatten(1).sum(dim=1))
    log_likelihood = float(torch.cat(likelihoods).mean())
    kl = float(torch.cat(divergences).mean())
    bits = -(log_likelihood - kl) / (math.prod(images.shape[1:]) * math.log(2))
    if isinstance(network.likelihood, Gaussian):
        # A density over normalised values, as one over steps of the stored values.
        bits += math.log2(model.scale / quantum)
    return LowerBound(
        reconstruction=-log_likelihood, kl=kl, elbo=log_likelihood - kl, bits_per_dim=bits
    )


def reconstruction_figures(
    output: Sequence[ImageHU] | ImageHU, target: Sequence[ImageHU] | ImageHU, window: Window
) -> Likeness:
    """In `window`, mean over images [rows, columns], equally many of both."""
    pairs = list(zip(output, target, strict=True))
    return Likeness(
        psnr=float(np.mean([psnr_db(image, truth, window) for image, truth in pairs])),
        ssim=float(np.mean([ssim(image, truth, window) for image, truth in pairs])),
    )


def pca_reconstruction(
    training: NDArray[np.float32], test: NDArray[np.float32], components: int
) -> NDArray[np.float32]:
    """Test images [count, rows, columns] from as many principal components of the training's.

    What a linear autoencoder could reach at best: the reference for any other bottleneck.
    """
    from sklearn.decomposition import PCA  # scikit-learn takes a second to import

    pca = PCA(components, svd_solver="randomized", random_state=0)
    pca.fit(training.reshape(len(training), -1))
    flat = pca.inverse_transform(pca.transform(test.reshape(len(test), -1)))
    return flat.reshape(test.shape).astype(np.float32)


def cliff(frames: NDArray[np.float32]) -> float:
    """The largest step of an interpolation [steps, rows, columns] over its mean step.

    A step is the root mean square difference of one frame and the next: 1 is an even way.
    """
    steps = np.sqrt(np.mean(np.square(np.diff(frames, axis=0)), axis=(1, 2)))
    return float(steps.max() / steps.mean()) if steps.any() else 1.0


def kl_divergence(p: NDArray[np.floating], q: NDArray[np.floating]) -> float:
    """KL(p || q) in nats of two discrete distributions: what frequencies p miss of q.

    Such as those of the classes among samples and among the data. Infinite where p has a class
    that q has not.
    """
    there = p > 0
    with np.errstate(divide="ignore"):
        return float(np.sum(p[there] * np.log(p[there] / q[there])))
