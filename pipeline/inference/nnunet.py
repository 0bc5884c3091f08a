"""A network of nnU-Net v2 over a volume, step by step as nnUNetPredictor does it.

What is 0 HU all around is cut off, HU are normalised, then resampled by cubic splines; windows are
blended as logits with Gaussian weights, in half precision; logits go back by linear interpolation,
and the highest one is the class (Isensee et al., Nature Methods 2021). A network from elsewhere so
gives what its authors' program gives; our own way over a volume (pipeline.inference.segment)
differs in each of these steps.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import chain, combinations, product

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional

from pipeline.config.segmentation import WORKING_AXES, WORKING_AXIS, Segmentation
from pipeline.core.errors import LdctError
from pipeline.core.types import Progress
from pipeline.core.volume import Volume
from pipeline.data.working_grid import WorkingGrid
from pipeline.inference.nnunet_resampling import (
    IMAGE_ORDER,
    SCORE_ORDER,
    Shape,
    Spacing,
    resampled,
    resampled_shape,
)
from pipeline.models.adapters.segmenter import SegmentationModel

#: The Gaussian's standard deviation as a part of the window, and its highest weight.
SIGMA, HIGHEST = 1 / 8, 10

Box = tuple[slice, ...]


def segment_as_nnunet(
    model: SegmentationModel,
    volume: Volume,
    settings: Segmentation,
    *,
    progress: Progress = lambda slices: None,
) -> NDArray[np.uint8]:
    """Class numbers of each voxel, uint8 in the volume's shape, 0 the background.

    Raises LdctError where the model gives another number of classes, or values that are not
    numbers.
    """
    place = _Place.of(volume, settings)
    own = np.zeros(place.shape, dtype=np.uint8)
    if place.box is not None:
        best: NDArray | None = None
        found = np.zeros(tuple(part.stop - part.start for part in place.box), dtype=np.uint8)
        for number, logits in enumerate(_class_logits(model, volume, settings, place, progress)):
            if best is None:
                best = logits
                continue
            higher = logits > best
            best[higher] = logits[higher]
            found[higher] = number
        own[place.box] = found
    return np.where(volume.valid, place.back(own), np.uint8(0))


def class_probabilities(
    model: SegmentationModel, volume: Volume, settings: Segmentation
) -> NDArray[np.float32]:
    """Probabilities [classes, *the volume's shape], the background first; 1 for it where the
    volume is cut off. They take four bytes a class and voxel: for tests."""
    place = _Place.of(volume, settings)
    own = np.zeros((settings.channels, *place.shape), dtype=np.float32)
    own[0] = 1
    if place.box is not None:
        each = list(_class_logits(model, volume, settings, place, lambda slices: None))
        logits = torch.from_numpy(np.stack(each)).float()
        own[(slice(None), *place.box)] = logits.softmax(dim=0).numpy()
    return np.stack([place.back(one) for one in own])


@dataclass(frozen=True)
class _Place:
    """Where the network's own axes lie in a volume, and what of them is not cut off.

    order, mirrored: the volume's axis that each of the network's runs along, and against which
    sense. box: None where all of the volume is 0 HU.
    """

    order: tuple[int, ...]
    mirrored: tuple[int, ...]
    spacing_mm: Spacing
    shape: Shape
    box: Box | None

    @classmethod
    def of(cls, volume: Volume, settings: Segmentation) -> _Place:
        """A network of two dimensions sees slices, and moves along them."""
        grid = WorkingGrid.of(volume, settings.spacing_mm)
        own = (settings.axes or WORKING_AXES)[-settings.dimensions :]
        own = own if settings.dimensions == 3 else f"{WORKING_AXES[0]}{own}"
        working = [WORKING_AXES.index(WORKING_AXIS[letter]) for letter in own]
        order = tuple(grid.order[axis] for axis in working)
        mirrored = tuple(
            n
            for n, (letter, axis) in enumerate(zip(own, working, strict=True))
            if grid.mirrored[axis] != (letter not in WORKING_AXES)
        )
        spacing_mm = tuple(float(volume.spacing_mm[axis]) for axis in order)
        shape = tuple(volume.image_hu.shape[axis] for axis in order)
        box = _box(np.flip(volume.image_hu.transpose(order), mirrored))
        return cls(order, mirrored, spacing_mm, shape, box)

    def own(self, array: NDArray) -> NDArray:
        """An array of the volume along the network's axes, cut."""
        assert self.box is not None
        return np.flip(array.transpose(self.order), self.mirrored)[self.box]

    def back(self, own: NDArray) -> NDArray:
        """An uncut array along the network's axes, in the volume's."""
        return np.ascontiguousarray(np.flip(own, self.mirrored).transpose(np.argsort(self.order)))


def _box(image_hu: NDArray[np.float32]) -> Box | None:
    """Around all that is not 0."""
    parts = []
    for axis in range(image_hu.ndim):
        others = tuple(n for n in range(image_hu.ndim) if n != axis)
        there = np.flatnonzero((image_hu != 0).any(axis=others))
        if not len(there):
            return None
        parts.append(slice(int(there[0]), int(there[-1]) + 1))
    return tuple(parts)


def _class_logits(
    model: SegmentationModel,
    volume: Volume,
    settings: Segmentation,
    place: _Place,
    progress: Progress,
) -> Iterator[NDArray[np.float16]]:
    """Of one class after the other, in the shape of the box."""
    (low_hu, high_hu), *_ = settings.ranges_hu
    hu = torch.from_numpy(np.ascontiguousarray(place.own(volume.image_hu), dtype=np.float32))
    image = model.units(hu, low_hu, high_hu).numpy()
    wanted_mm = _wanted_mm(settings, place)
    shape = resampled_shape(image.shape, place.spacing_mm, wanted_mm)
    working = resampled(
        image, shape, spacing_mm=place.spacing_mm, wanted_mm=wanted_mm, order=IMAGE_ORDER
    )
    done = _Done(len(volume.image_hu), progress)
    members = getattr(model.network, "members", [model.network])
    logits: torch.Tensor | None = None
    for number, member in enumerate(members):
        part = _of_windows(member, working, settings, partial(done.at, number, len(members)))
        logits = part if logits is None else logits.add_(part)
    assert logits is not None
    if len(members) > 1:
        logits /= len(members)
    if not torch.isfinite(logits).all():
        raise LdctError("the model's output holds values that are not numbers; nothing was kept")
    for one in logits.numpy():
        yield resampled(
            one, image.shape, spacing_mm=wanted_mm, wanted_mm=place.spacing_mm, order=SCORE_ORDER
        ).copy()


def _wanted_mm(settings: Segmentation, place: _Place) -> Spacing:
    """Along the network's axes; a network of two dimensions takes slices where they lie."""
    own = (settings.axes or WORKING_AXES)[-settings.dimensions :]
    wanted = [settings.spacing_mm[WORKING_AXES.index(WORKING_AXIS[letter])] for letter in own]
    return tuple(wanted) if settings.dimensions == 3 else (place.spacing_mm[0], *wanted)


def _of_windows(
    network: nn.Module,
    image: NDArray[np.float32],
    settings: Segmentation,
    progress: Callable[[float], None],
) -> torch.Tensor:
    """Logits [classes, *image's shape] in half precision on the CPU, as nnU-Net keeps them."""
    device = next((weights.device for weights in network.parameters()), torch.device("cpu"))
    # Bit for bit as nnU-Net's, whose weights are laid out so.
    network.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    patch, mirrored = _own_patch(settings), _own_flips(settings)
    before, padding = _padding(image.shape, patch)
    padded = functional.pad(torch.from_numpy(np.ascontiguousarray(image))[None], padding)
    total = torch.zeros((settings.channels, *padded.shape[1:]), dtype=torch.half)
    weight = torch.zeros(padded.shape[1:], dtype=torch.half)
    gaussian = _gaussian(patch)
    windows = list(_windows(padded.shape[1:], patch, settings.overlap))
    with torch.inference_mode():
        for number, window in enumerate(windows, start=1):
            tile = padded[(slice(None), *window)][None].clone().to(device)
            scores = _mirrored_mean(network, tile, mirrored, settings.channels).cpu()
            scores *= gaussian
            total[(slice(None), *window)] += scores
            weight[window] += gaussian
            progress(number / len(windows))
        torch.div(total, weight, out=total)
    inside = (slice(n, n + size) for n, size in zip(before, image.shape, strict=True))
    return total[(slice(None), *inside)]


def _own_patch(settings: Segmentation) -> Shape:
    """The window along the network's own axes."""
    working = WORKING_AXES[-settings.dimensions :]
    own = settings.axes or working
    return tuple(settings.patch[working.index(WORKING_AXIS[letter])] for letter in own)


def _own_flips(settings: Segmentation) -> tuple[int, ...]:
    own = settings.axes or WORKING_AXES[-settings.dimensions :]
    flipped = {WORKING_AXES[axis] for axis in settings.test_time_flips}
    return tuple(n for n, letter in enumerate(own) if WORKING_AXIS[letter] in flipped)


def _padding(shape: Shape, patch: Shape) -> tuple[list[int], list[int]]:
    """What lies before the image on each axis, and torch's list, last axis first."""
    patch = (*shape[: len(shape) - len(patch)], *patch)
    missing = [max(0, window - size) for size, window in zip(shape, patch, strict=True)]
    before = [n // 2 for n in missing]
    pairs = [(first, n - first) for first, n in zip(before, missing, strict=True)]
    return before, [n for pair in reversed(pairs) for n in pair]


def _windows(shape: Shape, patch: Shape, overlap: float) -> Iterator[tuple[slice | int, ...]]:
    """Where the windows lie, spread evenly; of a network of two dimensions slice by slice."""
    sizes = shape[len(shape) - len(patch) :]
    starts = [_starts(n, window, overlap) for n, window in zip(sizes, patch, strict=True)]
    outer = [range(n) for n in shape[: len(shape) - len(patch)]]
    for index in product(*outer, *starts):
        inner = index[len(outer) :]
        parts = (slice(n, n + window) for n, window in zip(inner, patch, strict=True))
        yield (*index[: len(outer)], *parts)


def _starts(size: int, window: int, overlap: float) -> list[int]:
    steps = int(np.ceil((size - window) / (window * (1 - overlap)))) + 1
    step = (size - window) / (steps - 1) if steps > 1 else 0
    return [int(np.round(step * n)) for n in range(steps)]


def _gaussian(patch: Shape) -> torch.Tensor:
    from scipy.ndimage import gaussian_filter

    middle = np.zeros(patch)
    middle[tuple(n // 2 for n in patch)] = 1
    weights = gaussian_filter(middle, [n * SIGMA for n in patch], 0, mode="constant", cval=0)
    weights /= weights.max() / HIGHEST
    half = torch.from_numpy(weights).to(torch.half)
    half[half == 0] = half[half != 0].min()  # none may divide by 0
    return half


def _mirrored_mean(
    network: nn.Module, tile: torch.Tensor, mirrored: tuple[int, ...], channels: int
) -> torch.Tensor:
    """The mean logits [channels, *window] of a window and its mirrored ones."""
    axes = [2 + axis for axis in mirrored]
    flips = list(chain.from_iterable(combinations(axes, n) for n in range(len(axes) + 1)))
    total: torch.Tensor | None = None
    for flip in flips:
        scores = network(tile.flip(flip)).flip(flip)
        if scores.shape != (1, channels, *tile.shape[2:]):
            raise LdctError(
                f"the model gave {tuple(scores.shape)} where "
                f"{(1, channels, *tile.shape[2:])} was expected"
            )
        total = scores if total is None else total.add_(scores)
    assert total is not None
    return (total / len(flips))[0]


class _Done:
    """Says as slices of the volume how much of the windows is done."""

    def __init__(self, slices: int, progress: Progress) -> None:
        self.slices, self.progress, self.said = slices, progress, 0

    def at(self, fold: int, folds: int, share: float) -> None:
        """That a share of one fold's windows is done."""
        now = int((fold + share) / folds * self.slices + 1e-9)
        self.progress(now - self.said)
        self.said = now
