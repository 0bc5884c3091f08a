"""How near the texture of each answer comes to the target's, over pieces of all pictures."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from pipeline.core.json_numbers import Figures, JsonRecord
from pipeline.core.types import Picture
from pipeline.metrics.texture import Corner, Features, corners, texture_distance, texture_features

#: Fewer pieces have no spread to speak of.
MIN_PIECES = 8
#: Of the controls that are the target made worse, in pixels and grey levels.
BLUR_SIGMA, NOISE_SIGMA = 1.5, 25.0
OTHER_PIECES = "other pieces of the target"
BLURRED = f"target blurred, sigma {BLUR_SIGMA:g}"
NOISY = f"target with noise, sigma {NOISE_SIGMA:g}"


class TextureFigures(JsonRecord):
    """Frechet distances (pipeline.metrics.texture) to the pieces of the target, over all pictures.

    frechet: of each answer, by name. controls: of what is known to be near or far: the target's
    own pieces half a side away, the target blurred, and with noise. Both are empty where there are
    fewer than MIN_PIECES.
    """

    side_pixels: int
    pieces: int
    within_holes: bool
    frechet: Figures
    controls: Figures


class TextureMeasure:
    """Collects the features of pieces, picture by picture."""

    def __init__(self, side: int) -> None:
        self.side, self.within_holes = side, False
        self.answers: dict[str, list[Features]] = defaultdict(list)
        self.controls: dict[str, list[Features]] = defaultdict(list)
        self.real: list[Features] = []

    def add(
        self,
        answers: Mapping[str, Picture],
        target: Picture,
        *,
        unknown: NDArray[np.bool_] | None = None,
    ) -> None:
        """Answers and target of a picture [channels, rows, columns], in grey levels. unknown:
        [rows, columns], True in holes, within which the pieces then lie."""
        self.within_holes = self.within_holes or unknown is not None
        size = (target.shape[1], target.shape[2])
        places = corners(size, self.side, within=unknown)
        if not places:
            return
        self.real.append(texture_features(target, places, self.side))
        for name, answer in answers.items():
            self.answers[name].append(texture_features(answer, places, self.side))
        shifted = [_shifted(place, size, self.side) for place in places]
        self.controls[OTHER_PIECES].append(texture_features(target, shifted, self.side))
        for name, worse in _made_worse(target).items():
            self.controls[name].append(texture_features(worse, places, self.side))

    def figures(self) -> TextureFigures:
        """Over all pictures that were added."""
        pieces = sum(len(features) for features in self.real)
        return TextureFigures(
            side_pixels=self.side,
            pieces=pieces,
            within_holes=self.within_holes,
            frechet=self._distances(self.answers) if pieces >= MIN_PIECES else {},
            controls=self._distances(self.controls) if pieces >= MIN_PIECES else {},
        )

    def _distances(self, found: Mapping[str, list[Features]]) -> Figures:
        real = np.concatenate(self.real)
        return {name: texture_distance(np.concatenate(of), real) for name, of in found.items()}


def _shifted(place: Corner, size: tuple[int, int], side: int) -> Corner:
    """Half a side further on, or back at the ends."""
    row, column = (
        at + side // 2 if at + side + side // 2 <= whole else max(0, at - side // 2)
        for at, whole in zip(place, size, strict=True)
    )
    return row, column


def _made_worse(target: Picture) -> dict[str, Picture]:
    """The target blurred, and with noise that is the same for every run."""
    noise = np.random.default_rng(0).standard_normal(target.shape) * NOISE_SIGMA
    blurred = gaussian_filter(target, (0, BLUR_SIGMA, BLUR_SIGMA))
    return {BLURRED: blurred, NOISY: np.clip(target + noise, 0, 255).astype(np.float32)}
