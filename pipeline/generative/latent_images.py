"""Rows of pictures that show a space of codes: drawn, restored, on the way, moved, added to."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from pipeline.core.errors import ConfigError
from pipeline.data.images import StoredSlices
from pipeline.dicom.synthetic.generated_series import MARKING
from pipeline.generative import latent
from pipeline.generative.attributes import Attribute
from pipeline.models.adapters.generative import Generative
from pipeline.models.vae import VAE

#: How far latents are moved, in standard deviations of the prior.
SPAN = 3.0
#: Images whose codes a distribution is fitted to, and as many for each of its components' sides.
MIN_IMAGES_TO_FIT, IMAGES_PER_LATENT = 20, 10

#: For pictures that show reconstructions beside what they were made from.
RECONSTRUCTED = "AI-DERIVED in part"


@dataclass(frozen=True)
class ImageGrid:
    """Images [count, rows, columns] in rows of `columns`, and what they are."""

    images: NDArray[np.float32]
    columns: int
    caption: str
    marking: str = MARKING


@dataclass(frozen=True)
class RealImages:
    """Real images [count, 1, rows, columns] and their labels [count], to start from."""

    images: torch.Tensor
    labels: torch.Tensor

    def codes(self, model: Generative) -> torch.Tensor:
        """Raises ConfigError for a network that has no codes of images."""
        if not model.encodes:
            name = type(model.network).__name__
            raise ConfigError(f"{name} draws images and has no codes of given ones")
        model.latent_shape  # noqa: B018  (raises where codes have no fixed shape)
        return latent.encode(model, self.images, self.labels_for(model))

    def labels_for(self, model: Generative) -> torch.Tensor | None:
        """The labels [count]; None for a model that takes none."""
        return self.labels if model.labels else None


def samples(model: Generative, labels: torch.Tensor, *, seed: int) -> ImageGrid:
    """One image from the prior for each label, which unconditional networks do not take."""
    generator = torch.Generator().manual_seed(seed)
    if not model.has_prior:
        raise ConfigError(
            f"{type(model.network).__name__} has no prior to draw from: its codes may lie anywhere"
        )
    drawn = latent.sample(model, len(labels), generator, labels if model.labels else None)
    caption = "Drawn from the prior."
    if model.labels:
        caption = f"Drawn from the prior, asked for labels {sorted(set(labels.tolist()))}."
    return ImageGrid(_flat(drawn), _square(len(labels)), caption)


def samples_like(
    model: Generative, known: RealImages, labels: torch.Tensor, *, seed: int
) -> ImageGrid:
    """One image for each label, drawn from where the codes of the known images of it lie.

    The way to draw from an autoencoder, which has no prior, and from a VAE that saw too few
    images to fill its own. Raises ConfigError for a label that too few of the images have.
    """
    codes = known.codes(model).flatten(1)
    drawn = codes.new_empty(len(labels), codes.shape[1])
    for label in labels.unique():
        own = codes[known.labels == label] if model.labels else codes
        if len(own) < MIN_IMAGES_TO_FIT:
            raise ConfigError(
                f"{len(own)} images of label {int(label)} in the store: too few to draw like them"
            )
        asked = labels == label if model.labels else torch.ones_like(labels, dtype=torch.bool)
        components = max(1, len(own) // (IMAGES_PER_LATENT * own.shape[1]))
        drawn[asked] = latent.codes_like(own, int(asked.sum()), components=components, seed=seed)
    codes_drawn = drawn.reshape(-1, *model.latent_shape)
    images = latent.decode(model, codes_drawn, labels if model.labels else None)
    caption = "Drawn from where the codes of stored images lie."
    return ImageGrid(_flat(images), _square(len(labels)), caption)


def reconstructions(model: Generative, known: RealImages) -> ImageGrid:
    """The images in one row, and below what is left of each after its way through the code."""
    if not model.encodes:
        known.codes(model)
    restored = (
        latent.reconstruct(model, known.images, known.labels)
        if model.labels
        else _through(model, known.images)
    )
    both = torch.cat([known.images, restored])
    caption = "Top: held-back images. Bottom: through the code and back."
    return ImageGrid(_flat(both), len(known.images), caption, RECONSTRUCTED)


def interpolations(
    model: Generative,
    ends: torch.Tensor,
    labels: torch.Tensor,
    steps: int,
    *,
    marking: str = RECONSTRUCTED,
) -> ImageGrid:
    """A row from each code of the first half to its partner in the second; labels by row.

    Straight where images have codes; else along a great circle, since random codes lie near a
    sphere, and the middle of a straight way, far inside it, is a code that was never drawn.
    """
    pairs = zip(*ends.chunk(2), strict=True)
    spherical = not model.encodes
    ways = torch.cat(
        [latent.interpolate(first, last, steps, spherical=spherical) for first, last in pairs]
    )
    repeated = labels.repeat_interleave(steps) if model.labels else None
    way = " along a great circle" if spherical else ""
    way += ", both of one label," if model.labels else ""
    caption = f"From one code (left) to another (right){way} in {steps} equal steps."
    return ImageGrid(_flat(latent.decode(model, ways, repeated)), steps, caption, marking)


def traversals(
    model: Generative,
    code: torch.Tensor,
    labels: torch.Tensor,
    order: list[int],
    steps: int,
    *,
    marking: str = RECONSTRUCTED,
) -> ImageGrid:
    """A row for each latent of `order`, from -3 to +3 sigma, the others as in `code`; label [1]."""
    moved = torch.cat([latent.traverse(code, n, steps=steps, span=SPAN) for n in order])
    repeated = labels.expand(len(moved)) if model.labels else None
    caption = (
        f"A row for each latent, the one that varies most first: {-SPAN:g} to {SPAN:+g} sigma, "
        "the others fixed."
    )
    return ImageGrid(_flat(latent.decode(model, moved, repeated)), steps, caption, marking)


def arithmetic(
    model: Generative, known: RealImages, attribute: Attribute, *, shown: int
) -> ImageGrid:
    """Codes of images without an attribute, plus 0 to 2 times the difference to those with it.

    The caption says how strong the attribute is in each column, where it can be measured.
    """
    codes, has = known.codes(model), torch.from_numpy(attribute.has)
    try:
        vector = latent.attribute_vector(codes, has)
    except ValueError as error:
        raise ConfigError(f"{attribute.name}: {error}") from error
    without = torch.nonzero(~has).flatten()
    without = without[torch.linspace(0, len(without) - 1, min(shown, len(without))).long()]
    shares = torch.linspace(0, 2, 5).view(-1, *[1] * (codes.ndim - 1))
    moved = torch.cat([codes[number] + shares * vector for number in without])
    labels = known.labels[without].repeat_interleave(5) if model.labels else None
    images = _flat(latent.decode(model, moved, labels))
    caption = (
        f"Codes of images without {attribute.name}, plus 0, 0.5, 1, 1.5 and 2 times its vector."
    )
    if attribute.measure is not None:
        strengths = np.array([attribute.measure(image) for image in images]).reshape(-1, 5)
        means = ", ".join(f"{mean:.3g}" for mean in np.nanmean(strengths, axis=0))
        caption = f"{caption} Mean of each column, {attribute.unit}: {means}."
    return ImageGrid(images, 5, caption, RECONSTRUCTED)


def latent_order(model: Generative, known: RealImages | None) -> list[int]:
    """Latents by how much their means vary over images; as they are numbered, without posterior."""
    if known is not None and isinstance(model.network, VAE):
        return latent.latent_use(model, known.images, known.labels_for(model)).by_variance()
    return list(range(math.prod(model.latent_shape)))


def chosen(images: StoredSlices, labels: NDArray[np.int64], count: int) -> RealImages:
    """Some images, evenly through the series, cut to the size of the smallest."""
    numbers = np.unique(np.linspace(0, len(images) - 1, count).astype(int)).tolist()
    found = [images[number] for number in numbers]
    rows, columns = np.min([image.shape for image in found], axis=0)
    stacked = np.stack([image[:rows, :columns] for image in found])
    return RealImages(torch.from_numpy(stacked)[:, None], torch.from_numpy(labels[numbers]))


def pairs_of_one_label(
    images: StoredSlices, labels: NDArray[np.int64], rows: int, *, label: int | None = None
) -> RealImages:
    """The first images of `rows` pairs, then their partners: each pair of one label, all in turn.

    What a conditional network draws is of the label it is asked for, so that both ends of a way
    must have it. label: this one alone. Raises ConfigError where no label has two images.
    """
    places = {int(one): np.nonzero(labels == one)[0] for one in np.unique(labels)}
    fit = [
        one for one, found in places.items() if len(found) > 1 and (label is None or one == label)
    ]
    if not fit:
        of = "one label" if label is None else f"label {label}"
        raise ConfigError(f"the images of held-back patients have no two of {of} to go between")
    asked = np.resize(fit, rows)
    turns = [int((asked[:row] == one).sum()) for row, one in enumerate(asked.tolist())]
    pairs = [
        (places[one][2 * turn % len(places[one])], places[one][(2 * turn + 1) % len(places[one])])
        for one, turn in zip(asked.tolist(), turns, strict=True)
    ]
    numbers = [first for first, _ in pairs] + [second for _, second in pairs]
    stacked = np.stack([images[int(number)] for number in numbers])
    return RealImages(torch.from_numpy(stacked)[:, None], torch.from_numpy(labels[numbers]))


def labels_asked(labels: NDArray[np.int64], count: int) -> torch.Tensor:
    """Every label in turn."""
    return torch.from_numpy(np.resize(np.unique(labels), count))


def starting_codes(
    model: Generative, known: RealImages | None, count: int, *, seed: int
) -> torch.Tensor:
    """An even number of codes: of the images, or random ones where there are no images."""
    if known is not None:
        codes = known.codes(model)
        return codes[: len(codes) // 2 * 2][:count]
    generator = torch.Generator().manual_seed(seed)
    return torch.randn((count, *model.latent_shape), generator=generator)


def _through(model: Generative, images: torch.Tensor) -> torch.Tensor:
    device = next(model.parameters()).device
    with torch.inference_mode():
        return torch.cat([model(image[None].to(device)).cpu() for image in images])


def _flat(images: torch.Tensor) -> NDArray[np.float32]:
    return images[:, 0].numpy()


def _square(count: int) -> int:
    return math.ceil(math.sqrt(count))
