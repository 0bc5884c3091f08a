"""What can be done in the space of codes: sample, reconstruct, interpolate, traverse, add.

For every model whose network has `encode` and `decode`: variational autoencoders, where a code
is the mean of the posterior, and plain ones. Images are in the model's own units, HU or grey
levels, [count, 1, rows, columns]; codes are [count, *latent_shape]. Both are on the CPU,
wherever the model is.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch

from pipeline.models.adapters.base import HUModel
from pipeline.models.distributions import Posterior

#: Images that go through a network at once.
CHUNK = 64
#: A latent is active where the means of its posteriors vary by more than this over the data
#: (Burda et al., ICLR 2016).
ACTIVE_VARIANCE = 0.01


@torch.inference_mode()
def encode(
    model: HUModel, images: torch.Tensor, labels: torch.Tensor | None = None
) -> torch.Tensor:
    """The code of each image."""
    parts = [_encoded(model, *chunk) for chunk in _chunks(model, images, labels)]
    return torch.cat([(p.mean if isinstance(p, Posterior) else p).cpu() for p in parts])


@torch.inference_mode()
def decode(model: HUModel, codes: torch.Tensor, labels: torch.Tensor | None = None) -> torch.Tensor:
    """The image of each code, in the model's units."""
    network: Any = model.network
    parts = [network.decode(*_arguments(*chunk)).float() for chunk in _chunks(model, codes, labels)]
    return model.in_hu(torch.cat(parts)).cpu()


def reconstruct(
    model: HUModel, images: torch.Tensor, labels: torch.Tensor | None = None
) -> torch.Tensor:
    """Each image through the bottleneck and back, without randomness."""
    return decode(model, encode(model, images, labels), labels)


def sample(
    model: HUModel,
    count: int,
    generator: torch.Generator,
    labels: torch.Tensor | None = None,
) -> torch.Tensor:
    """Images of codes drawn from the standard normal prior; one for each label, if any."""
    network: Any = model.network
    codes = torch.randn((count, *network.latent_shape), generator=generator)
    return decode(model, codes, labels)


def codes_like(codes: torch.Tensor, count: int, *, components: int, seed: int) -> torch.Tensor:
    """New codes from a mixture of normals fitted to `codes` [n, latents] of training images.

    Where codes of images do not fill the prior, what is drawn from the prior is of no image:
    fitting a density afterwards (Ghosh et al., ICLR 2020) samples where images are. It is also
    the way to draw from a plain autoencoder.
    """
    from sklearn.mixture import GaussianMixture  # scikit-learn takes a second to import

    mixture = GaussianMixture(components, random_state=seed).fit(codes.cpu().double().numpy())
    # Drawn one component after the other; sklearn repeats itself by random_state alone.
    drawn = torch.from_numpy(mixture.sample(count)[0])
    order = torch.randperm(count, generator=torch.Generator().manual_seed(seed))
    return drawn[order].to(codes)


def interpolate(
    start: torch.Tensor, end: torch.Tensor, steps: int, *, spherical: bool = False
) -> torch.Tensor:
    """Codes [steps, *latent_shape] from one code to another, both ends included.

    Straight, or along the great circle (White 2016): codes of many latents lie near a sphere,
    whose inside a straight line crosses. Parallel codes have no circle: straight there.
    """
    share = torch.linspace(0, 1, steps, dtype=start.dtype, device=start.device)
    share = share.view(-1, *[1] * start.ndim)
    cosine = (start * end).sum() / (start.norm() * end.norm()).clamp(min=1e-12)
    angle = torch.acos(cosine.clamp(-1, 1))
    if not spherical or angle.sin() < 1e-6:
        return start + share * (end - start)
    return (((1 - share) * angle).sin() * start + (share * angle).sin() * end) / angle.sin()


def traverse(code: torch.Tensor, latent: int, *, steps: int = 7, span: float = 3.0) -> torch.Tensor:
    """Codes [steps, *latent_shape] that differ in one latent alone, from -span to +span.

    span counts standard deviations of the prior. latent numbers the flattened code.
    """
    moved = code.expand(steps, *code.shape).clone()
    moved.view(steps, -1)[:, latent] = torch.linspace(-span, span, steps).to(code)
    return moved


def attribute_vector(codes: torch.Tensor, has_attribute: torch.Tensor) -> torch.Tensor:
    """What to add to a code to give it an attribute: the mean with less the mean without.

    has_attribute: bool [count]. Raises ValueError where all or none have it.
    """
    if has_attribute.all() or not has_attribute.any():
        raise ValueError("an attribute vector needs codes with the attribute and codes without")
    return codes[has_attribute].mean(dim=0) - codes[~has_attribute].mean(dim=0)


@dataclass(frozen=True)
class LatentUse:
    """How much information each latent of the flattened code carries: both [latents].

    kl: nats, the mean over images; variance: of the posteriors' means over images.
    """

    kl: torch.Tensor
    variance: torch.Tensor

    def active(self, threshold: float = ACTIVE_VARIANCE) -> int:
        """How many latents have means that vary by more than `threshold`."""
        return int((self.variance > threshold).sum())

    def by_variance(self) -> list[int]:
        """Latents, the one first whose means differ most from image to image."""
        return self.variance.argsort(descending=True).tolist()


@torch.inference_mode()
def latent_use(
    model: HUModel, images: torch.Tensor, labels: torch.Tensor | None = None
) -> LatentUse:
    """What a variational autoencoder's latents are used for, measured on images."""
    posteriors = [_encoded(model, *chunk) for chunk in _chunks(model, images, labels)]
    kl = torch.cat([posterior.kl().flatten(1).cpu() for posterior in posteriors])
    means = torch.cat([posterior.mean.flatten(1).cpu() for posterior in posteriors])
    return LatentUse(kl.mean(dim=0), means.var(dim=0, correction=0))


def _encoded(model: HUModel, images: torch.Tensor, labels: torch.Tensor | None) -> Any:
    network: Any = model.network
    return network.encode(*_arguments(model.normalised(images), labels))


def _arguments(images: torch.Tensor, labels: torch.Tensor | None) -> tuple[torch.Tensor, ...]:
    """Plain networks know no labels."""
    return (images,) if labels is None else (images, labels)


def _chunks(
    model: HUModel, images: torch.Tensor, labels: torch.Tensor | None
) -> Iterator[tuple[torch.Tensor, torch.Tensor | None]]:
    device = next(model.parameters()).device
    for start in range(0, len(images), CHUNK):
        part = slice(start, start + CHUNK)
        yield images[part].to(device), None if labels is None else labels[part].to(device)
