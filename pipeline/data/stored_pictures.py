"""Stored pictures and slices as a restorer sees them, and their degraded versions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from PIL import Image as PillowImage

from pipeline.config.task_runs import RestoreRun
from pipeline.core.errors import NothingUsableError
from pipeline.core.types import Picture
from pipeline.data.images import Images
from pipeline.degradations.digest import degradation_digest
from pipeline.models.adapters.restorer import target_of
from pipeline.store.store import Store

#: Smaller pictures kept in memory: in colour, of 512 pixels, 0.4 gigabytes.
PICTURES_KEPT = 128


@dataclass(frozen=True)
class Place:
    """Where a picture lies in the store: all slices of a series, or one."""

    key: str
    slices: slice


class StoredPictures:
    """Pictures by number, each [channels, rows, columns]: whole series, or the slices of CT."""

    def __init__(self, store: Store, keys: Sequence[str], config: RestoreRun) -> None:
        self.store, self.config, self.make_target = store, config, target_of(config)
        settings = config.restoration
        self.neighbours = settings.neighbours
        # Memory-mapped: of a large picture only the piece that is drawn is read.
        self.images = {key: store.load(key).image_hu for key in keys}
        self.places = [
            Place(key, slice(first, first + 1) if settings.is_stack else slice(None))
            for key in keys
            for first in range(len(self.images[key]) if settings.is_stack else 1)
        ]

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, number: int) -> Picture:
        place = self.places[number]
        return np.asarray(self.images[place.key][place.slices], dtype=np.float32)

    def target(self, number: int) -> Picture:
        """What the model is to return: the picture, or what `restoration.target` makes of it."""
        picture = self[number]
        if self.make_target is None:
            return picture
        return self.make_target.degrade(picture, np.random.default_rng(number))

    def degraded(self, number: int) -> Picture:
        """The degraded picture, as `degrade_store` has cached it."""
        place, digest = self.places[number], degradation_digest(self.config, 0)
        cached = self.store.load_degraded(place.key, digest)
        return np.array(cached[place.slices], dtype=np.float32)

    def model_input(self, number: int) -> Picture:
        """The degraded picture, with its neighbours where the run asks for them."""
        if self.neighbours is None:
            return self.degraded(number)
        place = self.places[number]
        cached = self.store.load_degraded(place.key, degradation_digest(self.config, 0))
        return beside(cached, place.slices.start, self.neighbours)

    def begins(self, number: int) -> bool:
        """Whether it is the first of its sequence."""
        return number == 0 or self.places[number - 1].key != self.places[number].key

    def patient(self, number: int) -> str:
        """The pseudonym of the picture's patient."""
        return str(self.store.record(self.places[number].key).patient)


class SmallerPictures:
    """Each picture once for each of `sides`, its longer side at most that, but of no fewer pixels
    than a patch."""

    def __init__(self, pictures: Images, sides: Sequence[int], patch: tuple[int, int]) -> None:
        self.pictures, self.sides, self.patch = pictures, tuple(sides), patch
        self._kept = lru_cache(PICTURES_KEPT)(self._smaller)

    def __len__(self) -> int:
        return len(self.pictures) * len(self.sides)

    def __getitem__(self, number: int) -> Picture:
        return self._kept(number)

    def _smaller(self, number: int) -> Picture:
        picture = self.pictures[number // len(self.sides)]
        side, size = self.sides[number % len(self.sides)], picture.shape[-2:]
        least = max(part / whole for part, whole in zip(self.patch, size, strict=True))
        scale = min(1.0, max(side / max(size), least))
        return picture if scale == 1 else smaller(picture, scale)


def smaller(picture: Picture, scale: float) -> Picture:
    """[channels, rows, columns] of `scale` times the rows and columns, by Lanczos's kernel.

    Photographs that were made smaller have it, or a sharper one, behind them; a linear one would
    make them softer. Levels stay within the picture's own.
    """
    rows, columns = (max(1, round(scale * side)) for side in picture.shape[-2:])
    planes = [
        PillowImage.fromarray(plane).resize((columns, rows), PillowImage.Resampling.LANCZOS)
        for plane in np.asarray(picture, dtype=np.float32)
    ]
    return np.stack([np.asarray(plane) for plane in planes]).clip(picture.min(), picture.max())


class StoredSteps:
    """Two places in a row of stored sequences, and their neighbours, as one image of channels."""

    def __init__(self, pictures: StoredPictures) -> None:
        self.pictures = pictures
        self.numbers = [n for n in range(len(pictures)) if not pictures.begins(n)]
        if not self.numbers:
            raise NothingUsableError("no sequence of the training side has two places in a row")

    def __len__(self) -> int:
        return len(self.numbers)

    def __getitem__(self, number: int) -> Picture:
        second, places = self.numbers[number], self.pictures.places
        place, reach = places[second], self.pictures.neighbours or 0
        image = self.pictures.images[place.key]
        before = beside(image, place.slices.start - 1, reach)
        after = beside(image, place.slices.start, reach)
        return np.concatenate([before, after[-1:]])


def beside(images: Picture, middle: int, reach: int) -> Picture:
    """[2 reach + 1, rows, columns] around `middle`; beyond the ends the last image again."""
    places = np.clip(np.arange(middle - reach, middle + reach + 1), 0, len(images) - 1)
    return np.asarray(images[places], dtype=np.float32)


def matching(target: Picture, degraded: Picture, scale: int) -> Picture:
    """The part of the target that the degraded picture shows: whole pixels of it alone."""
    rows, columns = (scale * side for side in degraded.shape[-2:])
    return target[..., :rows, :columns]
