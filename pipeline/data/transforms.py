"""The transforms of a pair of patches between the store and the network: MONAI, from config."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
from monai.data import get_track_meta, set_track_meta
from monai.transforms import (
    Compose,
    MapTransform,
    RandFlipd,
    Randomizable,
    RandomizableTransform,
    RandRotate90d,
    RandSpatialCropd,
)

from pipeline.config.sections import Data
from pipeline.config.transforms import PAIR


def training_transforms(settings: Data, named: Sequence[MapTransform] = ()) -> Compose:
    """Crop, turn, flip and vary the noise of {"input", "target"}, each [1, rows, columns]; then
    the transforms that the run names (pipeline.data.monai_transforms).

    Patches that are not square are flipped but not turned, so that they keep their shape.
    """
    square = settings.patch[0] == settings.patch[1]
    turns = [
        RandRotate90d(PAIR, prob=0.75 if square else 0.0),
        RandFlipd(PAIR, prob=0.5, spatial_axis=0),
        RandFlipd(PAIR, prob=0.5, spatial_axis=1),
    ]
    return Compose(
        [
            RandSpatialCropd(PAIR, settings.patch, random_size=False),
            *(turns if settings.augment else []),
            RandScaleNoised(settings.noise_scale),
            *named,
        ]
    )


def transformed(transforms: Compose, data: Any, *, seed: int) -> Any:
    """What MONAI's transforms make of `data`; every random choice follows from `seed`.

    data: an array or tensor [channels, rows, columns], or a mapping of them, as the transforms
    take it. They share one random state: MONAI would seed one for each, which takes longer than
    to crop and rotate a patch.
    """
    state = np.random.RandomState(np.random.PCG64(seed))
    for transform in transforms.transforms:
        if isinstance(transform, Randomizable):
            transform.set_random_state(state=state)
    with plain_tensors():
        return transforms(data)


def draw_seed(generator: np.random.Generator) -> int:
    """A seed for `transformed`."""
    return int(generator.integers(2**31))


@contextmanager
def plain_tensors() -> Iterator[None]:
    """MONAI's transforms return tensors without metadata for the duration of the block.

    The position of a voxel is kept by Volume and WorkingGrid; MONAI's copy of it would take
    longer than the crop. The switch (`set_track_meta`) is global to the process: it is put back.
    """
    before = get_track_meta()
    set_track_meta(False)
    try:
        yield
    finally:
        set_track_meta(before)


class RandScaleNoised(RandomizableTransform, MapTransform):
    """Scale what the degradation added, input - target, by a random factor of a range.

    One model then meets more than one noise level. Noise varies within a patient too, so a
    range also covers thinner and thicker bodies than the training set has.
    """

    def __init__(self, factor_range: tuple[float, float]) -> None:
        RandomizableTransform.__init__(self, prob=1.0)
        MapTransform.__init__(self, PAIR)
        self.factor_range = factor_range

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        self.randomize(None)
        factor = self.R.uniform(*self.factor_range)
        target = data["target"]
        return {**data, "input": target + (data["input"] - target) * factor}
