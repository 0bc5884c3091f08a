"""Resampling as nnU-Net v2 does it (resample_data_or_seg_to_shape), value for value.

Cubic splines for images, linear interpolation for scores; where a voxel is more than three times
as long as wide, slices are resampled each by itself and the long axis by its nearest neighbours.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Spacing = tuple[float, ...]
Shape = tuple[int, ...]

#: From which ratio of its longest side to its shortest a voxel counts as long.
LONG = 3.0
IMAGE_ORDER, SCORE_ORDER = 3, 1


def resampled_shape(shape: Shape, spacing_mm: Spacing, wanted_mm: Spacing) -> Shape:
    """How many voxels of the wanted spacing cover the same extent."""
    each = zip(shape, spacing_mm, wanted_mm, strict=True)
    return tuple(round(have / want * n) for n, have, want in each)


def resampled(
    image: NDArray, shape: Shape, *, spacing_mm: Spacing, wanted_mm: Spacing, order: int
) -> NDArray:
    """An image of three axes in another shape, in its own dtype; calculated in float64.

    spacing_mm, wanted_mm: before and after, which decide whether an axis is treated by itself.
    """
    if image.shape == shape:
        return image
    axis = long_axis(spacing_mm, wanted_mm)
    values = image.astype(np.float64, copy=False)
    if axis is None:
        return _resized(values, shape, order).astype(image.dtype)
    within = shape[:axis] + shape[axis + 1 :]
    slices = [_resized(one, within, order) for one in np.moveaxis(values, axis, 0)]
    stacked = np.stack(slices, axis=axis)
    return stacked.take(_nearest(image.shape[axis], shape[axis]), axis=axis).astype(image.dtype)


def long_axis(spacing_mm: Spacing, wanted_mm: Spacing) -> int | None:
    """The axis along which voxels are long, before or else after resampling; None without."""
    for spacing in (spacing_mm, wanted_mm):
        if max(spacing) / min(spacing) > LONG:
            longest = [n for n, size in enumerate(spacing) if max(spacing) / size == 1]
            return longest[0] if len(longest) == 1 else None
    return None


def _resized(image: NDArray, shape: Shape, order: int) -> NDArray:
    from skimage.transform import resize  # takes a second to import

    return resize(image, shape, order, mode="edge", anti_aliasing=False)


def _nearest(count: int, wanted: int) -> NDArray[np.intp]:
    """Which of `count` slices each of the wanted ones is, as map_coordinates of order 0 has it."""
    places = count / wanted * (np.arange(wanted) + 0.5) - 0.5
    return np.floor(places.clip(0, count - 1) + 0.5).astype(np.intp)
