"""Holes filled by search: the code whose image fits what is known (Yeh et al., CVPR 2017).

Stage 1 is any generator of the task generate; stage 2, here, moves a code down the gradient of
data, structure and prior losses. Two speed-ups (Lahiri et al., 2019): begin at the best of a
pool of codes, and give a frame its neighbour's code. Images are in the model's units, HU or grey
levels; losses in its normalised values, so that weights mean the same for every model.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage, sparse
from scipy.sparse.linalg import spsolve

from pipeline.models.adapters.base import HUModel

#: (normalised images, codes) -> how unlikely each is, [batch].
Prior = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


def normal_prior(images: torch.Tensor, codes: torch.Tensor) -> torch.Tensor:
    """What the standard normal density of codes has against each: its mean square."""
    return codes.flatten(1).square().mean(dim=1)


@dataclass(frozen=True)
class Search:
    """Weights of the losses, and how codes move. The data loss has weight 1.

    consistency: in a sequence, the weight of the difference of neighbours. until: a search
    ends once every image's loss is there.
    """

    iterations: int = 1000
    lr: float = 0.05
    structure: float = 0.1
    prior: float = 0.003
    consistency: float = 0.0
    until: float | None = None
    prior_of: Prior = field(default=normal_prior, repr=False)


@dataclass(frozen=True)
class SearchResult:
    """Codes [count, *latent_shape], each one's loss [count], and what the search took."""

    codes: torch.Tensor
    losses: torch.Tensor
    iterations: int
    seconds: float


class Holes:
    """Images [count, 1, rows, columns] with holes, as a search sees them.

    known: bool of the same shape. Known pixels near a hole count more (Yeh et al., eq. 3): by
    the share of unknown ones among the `window` x `window` around them. labels: what a
    conditional network takes with each image, [count].
    """

    def __init__(
        self,
        model: HUModel,
        images: torch.Tensor,
        known: torch.Tensor,
        *,
        window: int = 7,
        labels: torch.Tensor | None = None,
    ) -> None:
        if images.shape != known.shape or images.ndim != 4:
            raise ValueError(
                f"expected known pixels for images [count, 1, rows, columns], got "
                f"{tuple(known.shape)} for {tuple(images.shape)}"
            )
        if not known.flatten(1).any(dim=1).all():
            raise ValueError("an image without a known pixel says nothing of its code")
        self.model, self.network = model.eval(), model.network
        device = next(model.parameters()).device
        self.known = known.to(device)
        self.labels = None if labels is None else labels.to(device)
        filled = torch.where(known, images, torch.zeros_like(images)).to(device)
        self.target = torch.where(self.known, model.normalised(filled), filled)
        holes = (~known).float().numpy()
        near = torch.from_numpy(ndimage.uniform_filter(holes, (0, 0, window, window)))
        weight = torch.where(known, near, 0.0)
        # Without a hole in reach, and far from one, everything known counts a little.
        weight = torch.where(known, weight + 0.01, 0.0).to(device)
        self.weight = weight / weight.flatten(1).sum(dim=1).view(-1, 1, 1, 1)

    def drawn(self, codes: torch.Tensor) -> torch.Tensor:
        """Normalised images of codes, with their gradient; one image's label is for all codes."""
        network: Any = self.network
        labels = () if self.labels is None else (self.labels.expand(len(codes)),)
        return network.decode(codes, *labels).float()

    def misfit(self, drawn: torch.Tensor, structure: float) -> torch.Tensor:
        """Data and structure loss [count] of normalised images: L1 of values and of gradients."""
        data = ((drawn - self.target).abs() * self.weight).flatten(1).sum(dim=1)
        return data + structure * sum(self._gradient_misfit(drawn, axis) for axis in (2, 3))

    def _gradient_misfit(self, drawn: torch.Tensor, axis: int) -> torch.Tensor:
        both = self.known.narrow(axis, 1, self.known.shape[axis] - 1) & self.known.narrow(
            axis, 0, self.known.shape[axis] - 1
        )
        weight = self.weight.narrow(axis, 1, self.known.shape[axis] - 1) * both
        difference = (drawn.diff(dim=axis) - self.target.diff(dim=axis)).abs()
        return (difference * weight).flatten(1).sum(dim=1)

    def losses(self, codes: torch.Tensor, search: Search) -> torch.Tensor:
        """All parts [count]; consistency is between an image and the one before it."""
        drawn = self.drawn(codes)
        found = self.misfit(drawn, search.structure) + search.prior * search.prior_of(drawn, codes)
        if search.consistency and len(codes) > 1:
            difference = (drawn[1:] - drawn[:-1]).square().flatten(1).mean(dim=1)
            found = found + search.consistency * torch.cat([difference[:1] * 0, difference])
        return found

    def part(self, which: slice) -> Holes:
        """The same of some of the images."""
        chosen = object.__new__(Holes)
        chosen.model, chosen.network = self.model, self.network
        chosen.known, chosen.target = self.known[which], self.target[which]
        chosen.weight = self.weight[which]
        chosen.labels = None if self.labels is None else self.labels[which]
        return chosen


def random_start(holes: Holes, generator: torch.Generator) -> torch.Tensor:
    """A code from the prior for each image."""
    network: Any = holes.network
    codes = torch.randn((len(holes.target), *network.latent_shape), generator=generator)
    return codes.to(holes.target.device)


@torch.no_grad()
def best_of_pool(
    holes: Holes, pool: int, generator: torch.Generator, *, structure: float = 0.1
) -> torch.Tensor:
    """For each image the code of the least data and structure loss among `pool` random ones.

    The pool is drawn once and shared by all images.
    """
    network: Any = holes.network
    codes = torch.randn((pool, *network.latent_shape), generator=generator)
    codes = codes.to(holes.target.device)
    labels = [0] * len(holes.target) if holes.labels is None else holes.labels.tolist()
    drawn: dict[int, torch.Tensor] = {}
    chosen = []
    for number, label in enumerate(labels):
        one = holes.part(slice(number, number + 1))
        if label not in drawn:
            drawn[label] = one.drawn(codes)
        chosen.append(codes[one.misfit(drawn[label], structure).argmin()])
    return torch.stack(chosen)


def find_codes(holes: Holes, start: torch.Tensor, search: Search) -> SearchResult:
    """Move codes from `start` by Adam, with a rate that falls to 0 as a cosine.

    Without consistency, images do not influence each other. Of every image the best code that
    was seen is kept.
    """
    codes = start.detach().clone().requires_grad_(True)
    optimiser = torch.optim.Adam([codes], lr=search.lr)
    # L1's gradient does not shrink near the answer: steps of one length would oscillate.
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, search.iterations)
    best, lowest = start.clone(), torch.full((len(start),), torch.inf, device=start.device)
    began, done = time.perf_counter(), 0
    # The last codes are evaluated too, without another step.
    for done in range(search.iterations + 1):
        losses = holes.losses(codes, search)
        better = losses.detach() < lowest
        best[better], lowest[better] = codes.detach()[better], losses.detach()[better]
        if done == search.iterations or (search.until is not None and lowest.max() <= search.until):
            break
        (gradient,) = torch.autograd.grad(losses.sum(), codes)
        codes.grad = gradient
        optimiser.step()
        schedule.step()
    return SearchResult(best.cpu(), lowest.cpu(), done, time.perf_counter() - began)


def find_sequence(
    holes: Holes,
    first: torch.Tensor,
    search: Search,
    *,
    follow: Search,
    group: int = 1,
    progress: Callable[[int], None] = lambda frames: None,
) -> SearchResult:
    """Codes of frames, each group of which begins where the group before it ended.

    first: where the first frame's search begins, [1, *latent_shape]. search: of the first frame,
    follow: of each group of `group` frames, whose consistency counts within it.
    """
    whole = find_codes(holes.part(slice(0, 1)), first, search)
    codes, losses = [whole.codes], [whole.losses]
    iterations, seconds = whole.iterations, whole.seconds
    progress(1)
    for start in range(1, len(holes.target), group):
        frames = holes.part(slice(start, start + group))
        before = codes[-1][-1:].to(holes.target.device)
        found = find_codes(frames, before.expand(len(frames.target), *before.shape[1:]), follow)
        codes.append(found.codes)
        losses.append(found.losses)
        iterations, seconds = iterations + found.iterations, seconds + found.seconds
        progress(len(frames.target))
    return SearchResult(torch.cat(codes), torch.cat(losses), iterations, seconds)


def pasted(
    drawn: NDArray[np.float32], image: NDArray[np.float32], known: NDArray[np.bool_]
) -> NDArray[np.float32]:
    """What is known as it is, and what was drawn in the holes; all [rows, columns]."""
    return np.where(known, image, drawn)


def poisson_blended(
    drawn: NDArray[np.float32], image: NDArray[np.float32], known: NDArray[np.bool_]
) -> NDArray[np.float32]:
    """The gradients of what was drawn, in the holes, met by what is known at their rim.

    Perez et al., SIGGRAPH 2003; all [rows, columns]. A hole that reaches the image's edge is
    free there.
    """
    holes = ~known
    if not holes.any():
        return image.astype(np.float32)
    count = int(holes.sum())
    number = np.full(known.shape, -1)
    number[holes] = np.arange(count)
    diagonal, right = np.zeros(count), np.zeros(count)
    joined: list[NDArray[np.int64]] = []
    for own, beside in _neighbours(known.shape):
        here = holes[own]
        numbers, others = number[own][here], number[beside][here]
        diagonal[numbers] += 1
        step = drawn[own].astype(np.float64) - drawn[beside]
        right[numbers] += (step + np.where(known[beside], image[beside], 0))[here]
        inside = others >= 0
        joined.append(np.stack([numbers[inside], others[inside]]))
    rows, columns = np.concatenate(joined, axis=1)
    matrix = sparse.diags_array(diagonal) - sparse.coo_array(
        (np.ones(len(rows)), (rows, columns)), shape=(count, count)
    )
    blended = image.astype(np.float64)
    blended[holes] = spsolve(matrix.tocsc(), right)
    return blended.astype(np.float32)


def _neighbours(shape: tuple[int, ...]) -> Iterator[tuple[Any, Any]]:
    """Slices of an image and of what lies beside it, to each of the four sides."""
    rows, columns = shape
    for down, across in ((1, 0), (0, 1)):
        low = slice(0, rows - down), slice(0, columns - across)
        high = slice(down, rows), slice(across, columns)
        yield low, high
        yield high, low
