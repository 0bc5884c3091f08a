"""Stored pictures and slices as a restorer sees them, and what became of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.config import RunConfig
from pipeline.dataset import degradation_digest
from pipeline.models.restorer import restoration_of, wanted_of
from pipeline.store import Store

Picture = NDArray[np.float32]


@dataclass(frozen=True)
class Place:
    """Where a picture lies in the store: all slices of a series, or one."""

    key: str
    slices: slice


class StoredPictures:
    """Pictures by number, each [channels, rows, columns]: whole series, or the slices of CT."""

    def __init__(self, store: Store, keys: Sequence[str], config: RunConfig) -> None:
        self.store, self.config, self.wanted = store, config, wanted_of(config)
        is_series = restoration_of(config).source == "series"
        # Memory-mapped: of a large picture only the piece that is drawn is read.
        self.images = {key: store.load(key).image_hu for key in keys}
        self.places = [
            Place(key, slice(first, first + 1) if is_series else slice(None))
            for key in keys
            for first in range(len(self.images[key]) if is_series else 1)
        ]

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, number: int) -> Picture:
        place = self.places[number]
        return np.asarray(self.images[place.key][place.slices], dtype=np.float32)

    def target(self, number: int) -> Picture:
        """What the model is to give: the picture, or what the run wants of it."""
        picture = self[number]
        if self.wanted is None:
            return picture
        return self.wanted.corrupted(picture, np.random.default_rng(number))

    def degraded(self, number: int) -> Picture:
        """What became of the picture, as `degrade_store` has cached it."""
        place, digest = self.places[number], degradation_digest(self.config, 0)
        cached = self.store.load_degraded(place.key, digest)
        return np.array(cached[place.slices], dtype=np.float32)

    def patient(self, number: int) -> str:
        return str(self.store.record(self.places[number].key)["patient"])


def matching(target: Picture, degraded: Picture, scale: int) -> Picture:
    """The part of the target that the degraded picture shows: whole pixels of it alone."""
    rows, columns = (scale * side for side in degraded.shape[-2:])
    return target[..., :rows, :columns]
