"""What happens to ordinary pictures [channels, rows, columns]: colour lost, JPEG, age."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence

import numpy as np
from PIL import Image as PillowImage

from pipeline.core.types import Picture
from pipeline.degradations.base import Degradation, Linear, Operator, Shape
from pipeline.degradations.blur import GaussianBlur

#: ITU-R BT.709 luma, as scikit-image's rgb2gray has it.
LUMA = (0.2125, 0.7154, 0.0721)
WHITE = 255.0


class Grey(Linear):
    """One channel left of several: their weighted sum. In Lab [1, 0, 0] keeps the lightness."""

    def __init__(self, weights: Sequence[float] = LUMA) -> None:
        self.weights = np.array(weights, dtype=np.float32)

    def channels(self, count: int) -> int:
        """1; raises ValueError for another number than there are weights."""
        if count != len(self.weights):
            raise ValueError(f"expected {len(self.weights)} channels, got {count}")
        return 1

    def operator(self, shape: Shape, generator: np.random.Generator) -> Operator:
        """The weighted sum over channels [..., channels, rows, columns]."""
        self.channels(shape[-3])
        weights = self.weights[:, None, None]
        return Operator(
            lambda image: (weights * image).sum(axis=-3, keepdims=True),
            lambda degraded: weights * degraded,
            (*shape[:-3], 1, *shape[-2:]),
        )


class Jpeg(Degradation):
    """JPEG and back at a Pillow `quality` of 1 to 95, for 1 or 3 channels of 0 to 255."""

    reach = 16  # blocks of 8, in colour of 16, count from the corner of the file

    def __init__(self, quality: int) -> None:
        if not 1 <= quality <= 95:
            raise ValueError(f"quality must lie in [1, 95], got {quality}")
        self.quality = quality

    def degrade(self, image: Picture, generator: np.random.Generator) -> Picture:
        """Compressed and expanded; ValueError for another number of channels than 1 or 3."""
        levels = np.clip(np.rint(image), 0, WHITE).astype(np.uint8)
        if levels.ndim != 3 or len(levels) not in (1, 3):
            raise ValueError(f"JPEG takes pictures of 1 or 3 channels, got shape {image.shape}")
        last = levels[0] if len(levels) == 1 else np.moveaxis(levels, 0, -1)
        file = io.BytesIO()
        PillowImage.fromarray(last).save(file, "JPEG", quality=self.quality)
        back = np.asarray(PillowImage.open(file), dtype=np.float32)
        return back[None] if back.ndim == 2 else np.moveaxis(back, -1, 0).copy()


class OldPhotograph(Degradation):
    """A print that has aged: less contrast, blur, grain, scratches and dust; levels 0 to 255.

    fading: the most contrast that may be lost, as a share. scratches: how many there may be
    for 256 x 256 pixels; half of them light, half dark.
    """

    def __init__(
        self,
        *,
        fading: float = 0.4,
        blur_sigma: float = 0.8,
        grain: float = 6.0,
        scratches: int = 4,
    ) -> None:
        if not 0 <= fading < 1:
            raise ValueError(f"fading must lie in [0, 1), got {fading}")
        self.fading, self.grain, self.scratches = fading, grain, scratches
        self.blur = GaussianBlur(blur_sigma)
        self.reach = self.blur.reach

    def degrade(self, image: Picture, generator: np.random.Generator) -> Picture:
        """Blurred, faded, with grain, scratches and dust, clipped to [0, 255]."""
        faded = self._faded(self.blur.degrade(image, generator), generator)
        grain = generator.standard_normal(image.shape[-2:], dtype=np.float32)
        aged = faded + np.float32(self.grain) * grain
        area = image.shape[-2] * image.shape[-1] / 256**2
        for _ in range(generator.poisson(self.scratches * area)):
            length = generator.uniform(20, 150)
            _scratch(aged, length, generator.uniform(0.6, 1.4), generator)
        for _ in range(generator.poisson(self.scratches * area)):
            _scratch(aged, 1, generator.uniform(0.8, 2.5), generator)
        return np.clip(aged, 0, WHITE)

    def _faded(self, image: Picture, generator: np.random.Generator) -> Picture:
        kept = np.float32(1 - generator.uniform(0, self.fading))
        paper = np.float32(generator.uniform(0.5, 0.8) * WHITE)
        return paper + kept * (image - paper)


def _scratch(image: Picture, length: float, radius: float, generator: np.random.Generator) -> None:
    """Draw a straight scratch, or a speck, into `image` in place, soft at its rim."""
    rows, columns = np.ogrid[: image.shape[-2], : image.shape[-1]]
    middle = generator.uniform(0, image.shape[-2:])
    angle = generator.uniform(0, math.pi)
    down, right = rows - middle[0], columns - middle[1]
    along = down * math.sin(angle) + right * math.cos(angle)
    across = down * math.cos(angle) - right * math.sin(angle)
    distance = np.hypot(across, np.maximum(np.abs(along) - length / 2, 0))
    cover = np.clip(radius + 0.5 - distance, 0, 1).astype(np.float32)
    level = np.float32(generator.uniform(0.85, 1) if generator.random() < 0.5 else 0.1) * WHITE
    image += cover * (level - image)
