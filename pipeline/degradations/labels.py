"""Label maps and edges of images: the input or the target of a translation."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from skimage import feature  # loaded at its first use

from pipeline.core.types import Picture
from pipeline.degradations.base import Degradation
from pipeline.degradations.blur import GaussianBlur
from pipeline.degradations.pictures import LUMA, WHITE


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


class ImageToEdges(Degradation):
    """Thin edges (Canny, IEEE TPAMI 1986, as scikit-image has it): WHITE on 0, in one channel.

    Of the luma of three channels. sigma: of the smoothing, in pixels. threshold: of the gradient's
    magnitude, in grey levels. There is one threshold, not Canny's two, so that an edge in a piece
    of a picture is one in the whole of it too.
    """

    def __init__(self, *, sigma: float = 1.5, threshold: float = 20.0) -> None:
        if not (sigma > 0 and threshold > 0):
            raise ValueError(f"sigma and threshold must be above 0, got {sigma}, {threshold}")
        self.sigma, self.threshold = sigma, threshold
        # scikit-image smooths as far as 4 sigma; then the gradient, its neighbours and the rim.
        self.reach = int(4 * sigma + 0.5) + 3

    def channels(self, count: int) -> int:
        """1; raises ValueError for another number than 1 or 3."""
        if count not in (1, 3):
            raise ValueError(f"expected 1 or 3 channels, got {count}")
        return 1

    def degrade(self, image: Picture, generator: np.random.Generator) -> Picture:
        """[1, rows, columns] of [1 or 3, rows, columns]: WHITE on edges, else 0."""
        self.channels(len(image))
        luma = image[0] if len(image) == 1 else np.tensordot(LUMA, image, axes=1)
        limit = self.threshold
        edges = feature.canny(luma, self.sigma, low_threshold=limit, high_threshold=limit)
        return np.where(edges, np.float32(WHITE), np.float32(0))[None]
