"""What denoising changed, slice by slice: which slices to look at first."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.core.masks import body_mask
from pipeline.core.types import Json
from pipeline.review.planes import Planes

#: Side of a block in pixels. Noise averages out over a block; a change that does not is structure.
BLOCK = 8
#: A case is flagged above these: mean change of the body in a slice, and of one block in it.
MEAN_LIMIT_HU = 2.0
BLOCK_LIMIT_HU = 25.0


@dataclass(frozen=True)
class SliceChange:
    """Denoised minus original within the body of one slice, in HU; None where nothing is measured.

    mean_hu: its mean. sd_hu: its standard deviation, mostly the noise that was removed. block_hu:
    the largest absolute mean over a block of 8 x 8 pixels: structure that changed. fault: why the
    slice cannot be read.
    """

    slice: int
    mean_hu: float | None = None
    sd_hu: float | None = None
    block_hu: float | None = None
    fault: str | None = None

    def to_dict(self) -> Json:
        """As the page reads it: only slices that cannot be read have `fault`."""
        found = asdict(self)
        if self.fault is None:
            del found["fault"]
        return found


def slice_change(original: Planes, denoised: Planes, number: int) -> SliceChange:
    """Measure what changed in one slice. Raises Unreadable where either slice cannot be read."""
    before_hu, valid = original.slice_hu(number)
    after_hu, also_valid = denoised.slice_hu(number)
    body = body_mask(np.where(valid, before_hu, -1000)) & valid & also_valid
    if not body.any():
        return SliceChange(number)
    change = after_hu - before_hu
    inside = change[body]
    return SliceChange(
        slice=number,
        mean_hu=round(float(inside.mean()), 2),
        sd_hu=round(float(inside.std()), 2),
        block_hu=round(_max_block_hu(change, body), 1),
    )


def _max_block_hu(change: NDArray[np.float32], body: NDArray[np.bool_]) -> float:
    rows, columns = (side // BLOCK for side in change.shape)
    if not rows or not columns:
        return 0.0
    blocks = (rows, BLOCK, columns, BLOCK)
    cropped = (slice(rows * BLOCK), slice(columns * BLOCK))
    means = np.abs(change[cropped].reshape(blocks).mean(axis=(1, 3)))
    whole = body[cropped].reshape(blocks).all(axis=(1, 3))
    return float(means[whole].max()) if whole.any() else 0.0


def flags_of(changes: list[SliceChange]) -> list[str]:
    """Warnings for the reader: the largest mean and block change of a case, if above its limit."""
    flags = []
    for name, limit_hu, text in (
        ("mean_hu", MEAN_LIMIT_HU, "mean change of a slice"),
        ("block_hu", BLOCK_LIMIT_HU, "a block of 8 x 8 pixels changed by"),
    ):
        measured = [(getattr(change, name), change.slice) for change in changes]
        found = [(value, number) for value, number in measured if value is not None]
        value_hu, number = max(found, key=lambda each: abs(each[0]), default=(0.0, 0))
        if abs(value_hu) > limit_hu:
            flags.append(f"{text} {value_hu:+.1f} HU in slice {number + 1}, limit {limit_hu:g}")
    return flags
