"""The transforms of a pair of patches between the store and the network: MONAI, from config."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.config.sections import Data
from pipeline.config.transforms import PAIR

if TYPE_CHECKING:  # MONAI takes seconds to import
    from monai.transforms import Compose, MapTransform


def training_transforms(settings: Data, named: Sequence[MapTransform] = ()) -> Compose:
    """Crop, turn, flip and vary the noise of {"input", "target"}, each [1, rows, columns]; then
    the transforms that the run names (pipeline.data.monai_transforms).

    Patches that are not square are flipped but not turned, so that they keep their shape.
    """
    # MONAI takes seconds to import
    from monai.transforms import Compose, RandFlipd, RandRotate90d, RandSpatialCropd

    from pipeline.data.noise_scale_transform import RandScaleNoised

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
    from monai.transforms import Randomizable  # MONAI takes seconds to import

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
    from monai.data import get_track_meta, set_track_meta  # MONAI takes seconds to import

    before = get_track_meta()
    set_track_meta(False)
    try:
        yield
    finally:
        set_track_meta(before)
