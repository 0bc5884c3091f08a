"""The base of all degradations: y = H(x) + n for images of any kind.

Called with a Volume and a generator they return the degraded image; `degrade` does the same to
any array.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.config.component import build
from pipeline.config.sections import Component
from pipeline.core.types import Picture
from pipeline.core.volume import Volume


class Degradation(ABC):
    """One way to degrade an image.

    reach: how many pixels around a piece of an image its degraded version depends on; None: on
    all of the image, so that pieces are cut from degraded images. scale: by how much each side
    of the image becomes smaller. hides: whether pixels become NaN, which means unknown.
    """

    reach: int | None = 0
    scale: int = 1
    hides: bool = False

    @abstractmethod
    def degrade(
        self, image: NDArray[np.float32], generator: np.random.Generator
    ) -> NDArray[np.float32]:
        """The degraded image, of the same shape and units unless the class says otherwise."""

    def channels(self, count: int) -> int:
        """How many channels the degraded image of an image with `count` channels has."""
        return count

    def __call__(self, volume: Volume, generator: np.random.Generator) -> NDArray[np.float32]:
        return self.degrade(volume.image_hu, generator)


class GaussianNoise(Degradation):
    """White noise of standard deviation `sigma`, in the image's own units."""

    def __init__(self, sigma: float) -> None:
        if sigma < 0:
            raise ValueError(f"sigma must not be negative, got {sigma}")
        self.sigma = sigma

    def degrade(
        self, image: NDArray[np.float32], generator: np.random.Generator
    ) -> NDArray[np.float32]:
        """image + sigma n, n white and normal."""
        noise = generator.standard_normal(image.shape, dtype=np.float32)
        return image + np.float32(self.sigma) * noise


class MaskedPixels(Degradation):
    """A share of the pixels, chosen at random, replaced by `fill` (Vincent et al., ICML 2008)."""

    def __init__(self, share: float, *, fill: float = 0.0) -> None:
        if not 0 <= share < 1:
            raise ValueError(f"share must lie in [0, 1), got {share}")
        self.share, self.fill = share, fill

    def degrade(
        self, image: NDArray[np.float32], generator: np.random.Generator
    ) -> NDArray[np.float32]:
        """`fill` in a share of the pixels, drawn for each channel by itself."""
        hidden = generator.random(image.shape, dtype=np.float32) < self.share
        return np.where(hidden, np.float32(self.fill), image)


Shape = tuple[int, ...]


@dataclass(frozen=True)
class Operator:
    """A linear H for images of one shape, with its transpose: <H x, y> = <x, adjoint y>.

    shape: of H x.
    """

    forward: Callable[[Picture], Picture]
    adjoint: Callable[[Picture], Picture]
    shape: Shape


class Linear(Degradation):
    """y = H x. What is random in H is drawn first and applied second."""

    @abstractmethod
    def operator(self, shape: Shape, generator: np.random.Generator) -> Operator:
        """H for images of `shape`."""

    def degrade(self, image: Picture, generator: np.random.Generator) -> Picture:
        """H x for the H that `operator` draws."""
        return self.operator(image.shape, generator).forward(image)


class Chain(Linear):
    """One degradation after the other; each part is {"target", "args"}, as in a configuration.

    Linear where all parts are: `operator` raises TypeError for others.
    """

    def __init__(self, parts: Sequence[dict[str, Any]]) -> None:
        if not parts:
            raise ValueError("a chain needs at least one part")
        self.parts: list[Degradation] = [
            build(Component.model_validate(part), key="degradation.args.parts", base=Degradation)
            for part in parts
        ]
        reach: int | None = 0
        for part in reversed(self.parts):
            # Counted in pixels of the part's own input.
            reach = None if reach is None or part.reach is None else reach * part.scale + part.reach
        self.reach = reach
        self.scale = int(np.prod([part.scale for part in self.parts]))
        self.hides = any(part.hides for part in self.parts)

    def channels(self, count: int) -> int:
        """Those left after the last part."""
        for part in self.parts:
            count = part.channels(count)
        return count

    def degrade(self, image: Picture, generator: np.random.Generator) -> Picture:
        """Each part's result goes into the next."""
        for part in self.parts:
            image = part.degrade(image, generator)
        return image

    def operator(self, shape: Shape, generator: np.random.Generator) -> Operator:
        """The product of the parts' operators; TypeError where a part is not linear."""
        drawn = []
        for part in self.parts:
            if not isinstance(part, Linear):
                raise TypeError(f"{type(part).__name__} is not linear: it has no adjoint")
            drawn.append(part.operator(shape, generator))
            shape = drawn[-1].shape

        def forward(image: Picture) -> Picture:
            for one in drawn:
                image = one.forward(image)
            return image

        def adjoint(degraded: Picture) -> Picture:
            for one in reversed(drawn):
                degraded = one.adjoint(degraded)
            return degraded

        return Operator(forward, adjoint, shape)
