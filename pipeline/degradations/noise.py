"""Noise whose size is drawn, or depends on the image. Of one size: base.GaussianNoise."""

from __future__ import annotations

import numpy as np

from pipeline.core.types import Picture
from pipeline.degradations.base import Degradation


class GaussianNoiseRange(Degradation):
    """White noise of a standard deviation drawn for each image, uniformly in [low, high].

    In the image's own units. A network that learned from it needs no sigma (blind).
    """

    def __init__(self, low: float, high: float) -> None:
        if not 0 <= low < high:
            raise ValueError(f"expected 0 <= low < high, got {low} and {high}")
        self.low, self.high = low, high

    def degrade(self, image: Picture, generator: np.random.Generator) -> Picture:
        """image + sigma n, n white and normal, one sigma for all of the image."""
        sigma = np.float32(generator.uniform(self.low, self.high))
        return image + sigma * generator.standard_normal(image.shape, dtype=np.float32)


class PoissonNoise(Degradation):
    """Quanta counted: the value `white` means `quanta` of them, and 0 none.

    Values below 0 count as 0. The variance of a value v is v * white / quanta.
    """

    def __init__(self, quanta: float, *, white: float = 255.0) -> None:
        if not (quanta > 0 and white > 0):
            raise ValueError(f"quanta and white must be positive, got {quanta} and {white}")
        self.quanta, self.white = quanta, white

    def degrade(self, image: Picture, generator: np.random.Generator) -> Picture:
        """Counts drawn for each pixel, scaled back to the image's units."""
        expected = np.clip(image, 0, None) * (self.quanta / self.white)
        return (generator.poisson(expected) * (self.white / self.quanta)).astype(np.float32)


class SaltAndPepper(Degradation):
    """A share of the pixels, half of them `white` and half `black`, in all channels at once."""

    def __init__(self, share: float, *, black: float = 0.0, white: float = 255.0) -> None:
        if not 0 <= share <= 1:
            raise ValueError(f"share must lie in [0, 1], got {share}")
        self.share, self.black, self.white = share, black, white

    def degrade(self, image: Picture, generator: np.random.Generator) -> Picture:
        """The image with `white` and `black` pixels, the same in all channels."""
        drawn = generator.random(image.shape[-2:], dtype=np.float32)
        salted = np.where(drawn < self.share / 2, np.float32(self.white), image)
        is_pepper = (drawn >= self.share / 2) & (drawn < self.share)
        return np.where(is_pepper, np.float32(self.black), salted)


class Speckle(Degradation):
    """Multiplied noise: v (1 + n), n normal of standard deviation `sigma`."""

    def __init__(self, sigma: float) -> None:
        if sigma < 0:
            raise ValueError(f"sigma must not be negative, got {sigma}")
        self.sigma = sigma

    def degrade(self, image: Picture, generator: np.random.Generator) -> Picture:
        """image (1 + sigma n), n white and normal."""
        noise = generator.standard_normal(image.shape, dtype=np.float32)
        return image * (1 + np.float32(self.sigma) * noise)
