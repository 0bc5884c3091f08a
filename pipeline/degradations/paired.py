"""Measured or drawn pairs: nothing is simulated, both halves are in the store.

A stored pair is one image [2 x channels, rows, columns], the target's channels first
(pipeline.ingest.picture_pairs), so that a piece of one half is the same piece of the other.
"""

from __future__ import annotations

import numpy as np

from pipeline.core.types import Picture
from pipeline.degradations.base import Degradation


class PairTarget(Degradation):
    """The half of a stored pair that is the model's target; a `restoration.wanted`."""

    def degrade(self, image: Picture, generator: np.random.Generator) -> Picture:
        """The first half of the channels [channels, rows, columns]; ValueError if odd."""
        return image[: _half(image)]


class PairInput(Degradation):
    """The half of a stored pair that is the input; a `degradation`, or the first of a chain."""

    def degrade(self, image: Picture, generator: np.random.Generator) -> Picture:
        """The second half of the channels [channels, rows, columns]; ValueError if odd."""
        return image[_half(image) :]


def _half(image: Picture) -> int:
    if len(image) % 2:
        raise ValueError(f"expected the channels of a pair, got {len(image)}")
    return len(image) // 2
