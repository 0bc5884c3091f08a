"""What a denoising autoencoder has to undo: y = H(x) + n for images of any kind.

Degradations as every task knows them: called with a Volume and a generator, they give the
degraded image. `corrupted` does the same to any array.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import numpy as np
from numpy.typing import NDArray

from pipeline.volume import Volume


class Corruption(ABC):
    """One way to spoil an image.

    reach: pixels beyond a piece of an image that what becomes of the piece depends on; None:
    all of the image, so that pieces are cut from spoilt images. scale: the image has so many
    times the pixels, along each side, that are left of it. hides: whether pixels become NaN,
    not known.
    """

    reach: int | None = 0
    scale: int = 1
    hides: bool = False

    @abstractmethod
    def corrupted(
        self, image: NDArray[np.float32], generator: np.random.Generator
    ) -> NDArray[np.float32]:
        """The spoilt image, of the same shape and units unless the class says otherwise."""

    def channels(self, given: int) -> int:
        """How many are left of `given` channels."""
        return given

    def __call__(self, volume: Volume, generator: np.random.Generator) -> NDArray[np.float32]:
        return self.corrupted(volume.image_hu, generator)


class GaussianNoise(Corruption):
    """White noise of standard deviation `sigma`, in the image's own units."""

    def __init__(self, sigma: float) -> None:
        if sigma < 0:
            raise ValueError(f"sigma must not be negative, got {sigma}")
        self.sigma = sigma

    def corrupted(
        self, image: NDArray[np.float32], generator: np.random.Generator
    ) -> NDArray[np.float32]:
        noise = generator.standard_normal(image.shape, dtype=np.float32)
        return image + np.float32(self.sigma) * noise


class MaskedPixels(Corruption):
    """A share of the pixels, chosen at random, replaced by `fill` (Vincent et al., ICML 2008)."""

    def __init__(self, share: float, *, fill: float = 0.0) -> None:
        if not 0 <= share < 1:
            raise ValueError(f"share must lie in [0, 1), got {share}")
        self.share, self.fill = share, fill

    def corrupted(
        self, image: NDArray[np.float32], generator: np.random.Generator
    ) -> NDArray[np.float32]:
        hidden = generator.random(image.shape, dtype=np.float32) < self.share
        return np.where(hidden, np.float32(self.fill), image)
