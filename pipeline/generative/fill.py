"""Regions of images made up by a generator: searched on its grid, blended on the image's own.

What is known keeps its values exactly. What is made up is likely at best, never measured: it is
for looking at a method, and for images that must have no hole, not for diagnosis.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from pipeline.core.errors import ConfigError, LdctError, NothingUsableError
from pipeline.core.types import Progress
from pipeline.core.units import Window
from pipeline.core.volume import Volume
from pipeline.data.images import resampled
from pipeline.generative import latent
from pipeline.generative.latent_search import (
    Holes,
    Search,
    best_of_pool,
    find_codes,
    find_sequence,
    poisson_blended,
)
from pipeline.ingest import regrid as geometry
from pipeline.models.adapters.generative import Generative
from pipeline.models.diffusion import Diffusion

Stack = NDArray[np.float32]
Region = NDArray[np.bool_]

#: A pixel of the generator's is known where so much of it is.
KNOWN_SHARE = 0.5
#: An image is unlike the generator's where the best that it draws explains less of the variance
#: of what is known, unless it misses that by no more than this, in the model's normalised values.
MIN_EXPLAINED, NEGLIGIBLE = 0.2, 0.1


@dataclass(frozen=True)
class Fill:
    """How codes are searched: moves of an image by itself, and of each of a sequence that follows.

    pool: random codes, the best of which is the start. group: frames of a sequence that are
    searched together, held to each other by `consistency` (pipeline.generative.latent_search).
    clip: a window at whose ends the generator's training images were cut off.
    """

    moves: int = 384
    follow: int = 128
    pool: int = 256
    group: int = 8
    consistency: float = 0.1
    seed: int = 0
    clip: Window | None = None

    def __post_init__(self) -> None:
        if min(self.moves, self.follow, self.pool, self.group) < 1:
            raise ConfigError("a search takes at least one move, from a pool of at least one code")

    def facts(self) -> dict[str, Any]:
        """The search's settings, for a report."""
        names = ("moves", "follow", "pool", "group", "consistency", "seed")
        return {name: getattr(self, name) for name in names}


@dataclass(frozen=True)
class Filled:
    """Images [count, rows, columns] without holes. slices: those that had one, from 0, and of
    each the loss that was reached and the share of the known pixels' variance that is explained.
    """

    images: Stack
    slices: list[int]
    losses: list[float]
    explained: list[float]

    def facts(self) -> dict[str, Any]:
        """For a report; slices count from 1, as in a viewer."""
        rows = zip(self.slices, self.losses, self.explained, strict=True)
        keys = ("slice", "loss", "explained")
        return {
            "slices": [
                dict(zip(keys, (n + 1, round(loss, 4), round(share, 3)), strict=True))
                for n, loss, share in rows
            ]
        }


def require_generator(model: Generative) -> tuple[int, int]:
    """The size of its images; raises ConfigError for a model whose codes cannot be searched."""
    rows, columns = model.output_shape[-2:]
    name = type(model.network).__name__
    if not model.has_prior or min(rows, columns) < 1:
        raise ConfigError(f"{name} has no prior over codes of one size: there is none to search")
    if isinstance(model.network, Diffusion):
        raise ConfigError(f"{name} draws an image in many steps: a search takes one that has one")
    model.latent_shape  # noqa: B018  (raises where codes have no fixed shape)
    return rows, columns


def filled(
    model: Generative,
    images: Stack,
    region: Region,
    fill: Fill,
    *,
    sequence: bool = False,
    progress: Progress = lambda images: None,
) -> Filled:
    """Images [count, rows, columns], in the model's units, made up where `region` says so.

    The image that the generator draws for the code that fits the known pixels best is brought to
    the image's own grid, and there its gradients meet the known pixels (Perez et al. 2003). In a
    sequence an image's search begins at its neighbour's code. Raises NothingUsableError for an
    empty region, LdctError for an image that has nothing else, and for images that are unlike the
    generator's.
    """
    size = require_generator(model)
    where = np.flatnonzero(region.any(axis=(1, 2)))
    if not len(where):
        raise NothingUsableError("no pixel to make up: nothing to do")
    seen = [_on_model_grid(images[number], ~region[number], size, fill.clip) for number in where]
    small, known = (torch.from_numpy(np.stack(part))[:, None] for part in zip(*seen, strict=True))
    _require_known(known, where)
    holes, start = _initial_codes(model, small, known, fill)
    found = _searched(holes, start, fill, sequence=sequence, progress=progress)
    with torch.no_grad():
        drawn = model.in_hu(holes.drawn(found[0].to(holes.target.device))).cpu()
    explained = _explained(drawn, small, known, model.scale)
    output = np.array(images, np.float32)
    for number, image in zip(where, drawn[:, 0].numpy(), strict=True):
        larger = resampled(image, images.shape[1:])
        output[number] = poisson_blended(larger, images[number], ~region[number])
    return Filled(output, where.tolist(), found[1].tolist(), explained)


def _require_known(known: torch.Tensor, where: NDArray[np.intp]) -> None:
    for number, there in zip(where, known, strict=True):
        if not there.any():
            raise LdctError(
                f"slice {number + 1}: all of it, or nearly so, would be made up: no pixel of it is "
                "known"
            )


def _on_model_grid(
    image: Stack, known: Region, size: tuple[int, int], clip: Window | None
) -> tuple[Stack, Region]:
    """An image and what is known of it on the generator's grid; nothing of the region gets in."""
    share = resampled(known.astype(np.float32), size)
    there = share >= KNOWN_SHARE
    values = resampled(np.where(known, image, np.float32(0)), size)
    small = np.divide(values, share, out=np.zeros_like(values), where=there)
    return small if clip is None else small.clip(clip.low_hu, clip.high_hu), there


def _initial_codes(
    model: Generative, images: torch.Tensor, known: torch.Tensor, fill: Fill
) -> tuple[Holes, torch.Tensor]:
    """Where the search begins: of each image the best of a pool, and the label of that code,
    where the network takes one."""
    tried = []
    for label in range(max(1, model.labels)):
        labels = torch.full((len(images),), label) if model.labels else None
        holes = Holes(model, images, known, labels=labels)
        codes = best_of_pool(holes, fill.pool, torch.Generator().manual_seed(fill.seed))
        with torch.no_grad():
            misfit = holes.misfit(holes.drawn(codes), Search.structure)
        tried.append((misfit, codes, holes))
    if not model.labels:
        return tried[0][2], tried[0][1]
    best = torch.stack([misfit for misfit, _, _ in tried]).argmin(dim=0)
    codes = torch.stack([codes for _, codes, _ in tried])[
        best, torch.arange(len(best), device=best.device)
    ]
    return Holes(model, images, known, labels=best), codes


def _searched(
    holes: Holes, start: torch.Tensor, fill: Fill, *, sequence: bool, progress: Progress
) -> tuple[torch.Tensor, torch.Tensor]:
    """Codes and losses: along a sequence, or of every image by itself."""
    alone = Search(iterations=fill.moves)
    if sequence:
        follow = Search(iterations=fill.follow, consistency=fill.consistency)
        found = find_sequence(
            holes, start[:1], alone, follow=follow, group=fill.group, progress=progress
        )
        return found.codes, found.losses
    each = []
    for number in range(len(start)):
        part = slice(number, number + 1)
        each.append(find_codes(holes.part(part), start[part], alone))
        progress(1)
    return torch.cat([found.codes for found in each]), torch.cat([found.losses for found in each])


def _explained(
    drawn: torch.Tensor, images: torch.Tensor, known: torch.Tensor, scale: float
) -> list[float]:
    """Of each image the share of the known pixels' variance; raises LdctError where it is so small
    over all of them that the generator draws other images than these."""
    weight = known.double()
    count = weight.sum(dim=(1, 2, 3), keepdim=True)
    squared_error = ((drawn - images).square() * weight).sum(dim=(1, 2, 3))
    mean = (images * weight).sum(dim=(1, 2, 3), keepdim=True) / count
    spread = ((images - mean).square() * weight).sum(dim=(1, 2, 3))
    share = float(1 - squared_error.sum() / spread.sum().clamp(min=1e-12))
    missed = float((squared_error.sum() / count.sum()).sqrt()) / scale
    if share < MIN_EXPLAINED and missed > NEGLIGIBLE:
        raise LdctError(
            "the images are unlike the generator's: the best that it draws explains "
            f"{max(share, 0):.0%} of what is known, at least {MIN_EXPLAINED:.0%} is needed; "
            "take a generator that learnt from such images"
        )
    return (1 - squared_error / spread.clamp(min=1e-12)).tolist()


def filled_gaps(model: Generative, volume: Volume, fill: Fill) -> tuple[Volume, list[int], Filled]:
    """A volume whose missing slices are made up, their numbers from 0, and the search's figures.

    A gap is where slices of an even grid are not there (pipeline.ingest.regrid). The codes of the
    slices beside it are found, and what the generator draws on the straight way between them is
    met by both slices: blending as in `filled`, along the one axis. Made up slices stay masked,
    as not measured. Raises NothingUsableError where there is no gap.
    """
    require_generator(model)
    whole = geometry.fill_gaps(volume)
    made = [n for n in range(len(whole.image_hu)) if not whole.valid[n].any()]
    if len(whole.image_hu) == len(volume.image_hu) or not made:
        raise NothingUsableError(
            "no slice is missing inside: the positions show no gap of whole steps; nothing to do"
        )
    there = np.setdiff1d(np.arange(len(whole.image_hu)), made)
    after = np.searchsorted(there, made)
    beside = np.unique([after - 1, after])
    holes, found, figures = _inverted(model, whole.image_hu[there[beside]], fill)
    place = {int(number): position for position, number in enumerate(there[beside])}
    for number, end in zip(made, after, strict=True):
        ends = int(there[end - 1]), int(there[end])
        share = (number - ends[0]) / (ends[1] - ends[0])
        first, last = (place[end] for end in ends)
        way = [found[first], torch.lerp(found[first], found[last], share), found[last]]
        nearest = first if share <= 0.5 else last
        labels = None if holes.labels is None else holes.labels[[first, nearest, last]]
        drawn = latent.decode(model, torch.stack(way), labels)[:, 0].numpy()
        start, middle, stop = (resampled(image, volume.image_hu.shape[1:]) for image in drawn)
        off = middle - np.float32(1 - share) * start - np.float32(share) * stop
        whole.image_hu[number] += off * (whole.valid[ends[0]] & whole.valid[ends[1]])
    slices = there[beside].tolist()
    return whole, made, replace(figures, images=whole.image_hu, slices=slices)


def _inverted(model: Generative, images: Stack, fill: Fill) -> tuple[Holes, torch.Tensor, Filled]:
    """Codes of whole images, from the encoder's where there is one, and the search's figures."""
    size = require_generator(model)
    all_of_it = np.ones(images.shape[1:], dtype=bool)
    seen = np.stack([_on_model_grid(image, all_of_it, size, fill.clip)[0] for image in images])
    small = torch.from_numpy(seen)[:, None]
    known = torch.ones_like(small, dtype=torch.bool)
    holes, codes = _initial_codes(model, small, known, fill)
    if model.encodes:
        codes = latent.encode(model, small, holes.labels).to(codes)
    found = find_codes(holes, codes, Search(iterations=fill.follow))
    drawn = latent.decode(model, found.codes, holes.labels)
    explained = _explained(drawn, small, known, model.scale)
    return holes, found.codes, Filled(images, [], found.losses.tolist(), explained)
