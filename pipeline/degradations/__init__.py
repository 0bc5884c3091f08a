"""What spoils an image, y = H(x) + n, for every task: seeded, composable, most with an adjoint.

Images are [..., rows, columns]: channels of a picture or slices of a series come first. Each
class is a `target:` of a run's `degradation`. White noise and single masked pixels are in
pipeline.corruptions, noise of a low dose in pipeline.physics.lowdose.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.components import build
from pipeline.corruptions import Corruption
from pipeline.settings import Component

Image = NDArray[np.float32]
Shape = tuple[int, ...]


@dataclass(frozen=True)
class Operator:
    """A linear H for images of one shape, with its transpose: <H x, y> = <x, adjoint y>.

    shape: of H x.
    """

    forward: Callable[[Image], Image]
    adjoint: Callable[[Image], Image]
    shape: Shape


class Linear(Corruption):
    """y = H x. What is random in H is drawn first and applied second."""

    @abstractmethod
    def operator(self, shape: Shape, generator: np.random.Generator) -> Operator:
        """H for images of `shape`."""

    def corrupted(self, image: Image, generator: np.random.Generator) -> Image:
        return self.operator(image.shape, generator).forward(image)


class Chain(Linear):
    """One degradation after the other; each part is {"target", "args"}, as in a configuration.

    Linear where all parts are: `operator` raises TypeError for others.
    """

    def __init__(self, parts: Sequence[dict[str, Any]]) -> None:
        if not parts:
            raise ValueError("a chain needs at least one part")
        self.parts: list[Corruption] = [
            build(Component.model_validate(part), key="degradation.args.parts", base=Corruption)
            for part in parts
        ]
        reach: int | None = 0
        for part in reversed(self.parts):
            # Counted in pixels of the part's own input.
            reach = None if reach is None or part.reach is None else reach * part.scale + part.reach
        self.reach = reach
        self.scale = int(np.prod([part.scale for part in self.parts]))
        self.hides = any(part.hides for part in self.parts)

    def channels(self, given: int) -> int:
        for part in self.parts:
            given = part.channels(given)
        return given

    def corrupted(self, image: Image, generator: np.random.Generator) -> Image:
        for part in self.parts:
            image = part.corrupted(image, generator)
        return image

    def operator(self, shape: Shape, generator: np.random.Generator) -> Operator:
        drawn = []
        for part in self.parts:
            if not isinstance(part, Linear):
                raise TypeError(f"{type(part).__name__} is not linear: it has no adjoint")
            drawn.append(part.operator(shape, generator))
            shape = drawn[-1].shape

        def forward(image: Image) -> Image:
            for one in drawn:
                image = one.forward(image)
            return image

        def adjoint(degraded: Image) -> Image:
            for one in reversed(drawn):
                degraded = one.adjoint(degraded)
            return degraded

        return Operator(forward, adjoint, shape)
