"""Pixels that are not known: NaN in the degraded image, in all channels at once."""

from __future__ import annotations

import math
from abc import abstractmethod

import numpy as np
from numpy.typing import NDArray

from pipeline.core.types import Picture
from pipeline.degradations.base import Linear, Operator, Shape

KnownPixels = NDArray[np.bool_]


class Hole(Linear):
    """H keeps what is known. `operator` puts 0 in the holes, `degrade` NaN, from which a network
    knows where they are.
    """

    hides = True

    @abstractmethod
    def known(self, size: tuple[int, int], generator: np.random.Generator) -> KnownPixels:
        """[rows, columns], False in the holes."""

    def operator(self, shape: Shape, generator: np.random.Generator) -> Operator:
        """Multiplication by the mask of known pixels, which is its own transpose."""
        known = self.known((shape[-2], shape[-1]), generator)

        def masked(image: Picture) -> Picture:
            return np.where(known, image, np.float32(0))

        return Operator(masked, masked, shape)

    def degrade(self, image: Picture, generator: np.random.Generator) -> Picture:
        """The image with NaN in the holes, at the same pixels of all channels."""
        known = self.known((image.shape[-2], image.shape[-1]), generator)
        return np.where(known, image, np.float32(np.nan))


class BoxHole(Hole):
    """A rectangle anywhere, its sides `side` of the image's."""

    def __init__(self, side: float = 0.4) -> None:
        self.side = _share(side)

    def known(self, size: tuple[int, int], generator: np.random.Generator) -> KnownPixels:
        """All but one rectangle, anywhere in the image with equal chance."""
        known = np.ones(size, dtype=bool)
        box = [max(1, round(self.side * whole)) for whole in size]
        top, left = (int(generator.integers(w - b + 1)) for w, b in zip(size, box, strict=True))
        known[top : top + box[0], left : left + box[1]] = False
        return known


class SquareHoles(Hole):
    """Squares of `side` pixels anywhere, until `share` of the image is hidden; at least one.

    The side is the same in a piece of an image as in the whole of it, but at most half of the
    shorter side, so that something is known.
    """

    def __init__(self, side: int = 64, *, share: float = 0.15) -> None:
        if side < 1:
            raise ValueError(f"side must be at least 1 pixel, got {side}")
        self.side, self.share = side, _share(share)

    def known(self, size: tuple[int, int], generator: np.random.Generator) -> KnownPixels:
        """All but the squares; they stop once they cover `share` of the image."""
        known = np.ones(size, dtype=bool)
        side = min(self.side, max(1, min(size) // 2))
        while np.mean(~known) < self.share:
            top, left = (int(generator.integers(whole - side + 1)) for whole in size)
            known[top : top + side, left : left + side] = False
        return known


class FreeFormHole(Hole):
    """Strokes of a brush that turns at random, until `share` of the image is hidden.

    After Yu et al., ICCV 2019. width: of the brush in pixels, the same in a piece of an image
    as in the whole of it.
    """

    def __init__(self, share: float = 0.2, *, width: float = 8.0) -> None:
        if not width >= 1:
            raise ValueError(f"width must be at least 1 pixel, got {width}")
        self.share, self.width = _share(share), width

    def known(self, size: tuple[int, int], generator: np.random.Generator) -> KnownPixels:
        """All but the strokes; they stop once they cover `share` of the image."""
        radius = self.width / 2
        rows, columns = np.ogrid[: size[0], : size[1]]
        known = np.ones(size, dtype=bool)
        place, angle = generator.uniform(0, size), generator.uniform(0, 2 * math.pi)
        while np.mean(~known) < self.share:
            known &= np.hypot(rows - place[0], columns - place[1]) > radius
            angle += generator.normal(0, 0.5)
            place = place + radius * np.array([math.sin(angle), math.cos(angle)])
            if (place < 0).any() or (place >= size).any() or generator.random() < 0.02:
                place, angle = generator.uniform(0, size), generator.uniform(0, 2 * math.pi)
        return known


class MissingLines(Hole):
    """A share of the rows, chosen at random."""

    def __init__(self, share: float = 0.25) -> None:
        self.share = _share(share)

    def known(self, size: tuple[int, int], generator: np.random.Generator) -> KnownPixels:
        """All but a share of the rows, exactly, rounded to whole rows."""
        rows = generator.permutation(size[0]) >= round(self.share * size[0])
        return np.broadcast_to(rows[:, None], size).copy()


class MissingPixels(Hole):
    """Each pixel with the chance `share`."""

    def __init__(self, share: float = 0.5) -> None:
        self.share = _share(share)

    def known(self, size: tuple[int, int], generator: np.random.Generator) -> KnownPixels:
        """Each pixel known with the chance 1 - share, independently."""
        return generator.random(size) >= self.share


def _share(share: float) -> float:
    if not 0 < share < 1:
        raise ValueError(f"a share must lie in (0, 1), got {share}")
    return share
