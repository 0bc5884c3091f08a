"""Label maps of images: the input or the target of a translation."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from pipeline.core.types import Picture
from pipeline.degradations.base import Degradation
from pipeline.degradations.blur import GaussianBlur


class ImageToLabels(Degradation):
    """Classes by the value of the smoothed image; a pixel's value is that of its class.

    edges: where a class ends and the next begins, ascending, in grey levels or HU. values: one
    for each class, one more than edges. sigma: of the smoothing, in pixels, so that classes are
    regions and no texture.
    """

    def __init__(self, edges: Sequence[float], values: Sequence[float], *, sigma: float) -> None:
        if len(values) != len(edges) + 1 or any(low >= high for low, high in pairwise(edges)):
            raise ValueError(
                f"expected ascending edges and one value more, got {list(edges)}, {list(values)}"
            )
        self.edges = np.array(edges, dtype=np.float32)
        self.values = np.array(values, dtype=np.float32)
        self.blur = GaussianBlur(sigma)
        self.reach = self.blur.reach

    def degrade(self, image: Picture, generator: np.random.Generator) -> Picture:
        """The value of each pixel's class; float32 of the image's shape."""
        return self.values[np.digitize(self.blur.degrade(image, generator), self.edges)]
