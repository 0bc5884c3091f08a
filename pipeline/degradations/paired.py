"""Pairs that somebody measured or drew: nothing is spoilt, both halves are in the store.

A stored pair is one image [2 x channels, rows, columns], the target's channels first
(pipeline.ingest.picture_pairs), so that a piece of one half is the same piece of the other.
"""

from __future__ import annotations

import numpy as np

from pipeline.core.types import Picture
from pipeline.degradations.base import Corruption


class PairTarget(Corruption):
    """Of a stored pair what the model is to give; a `restoration.wanted`."""

    def corrupted(self, image: Picture, generator: np.random.Generator) -> Picture:
        return image[: _half(image)]


class PairInput(Corruption):
    """Of a stored pair what the model is given; a `degradation`, or the first of a chain."""

    def corrupted(self, image: Picture, generator: np.random.Generator) -> Picture:
        return image[_half(image) :]


def _half(image: Picture) -> int:
    if len(image) % 2:
        raise ValueError(f"expected the channels of a pair, got {len(image)}")
    return len(image) // 2
