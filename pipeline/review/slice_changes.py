"""What denoising changed, slice by slice: which slices to look at first."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.core.masks import body_mask
from pipeline.review.planes import Planes

#: Noise averages out over a block of so many pixels a side; what does not is structure.
BLOCK = 8
#: Beyond these a case is flagged: mean change of a slice's body, and of one block in it.
MEAN_LIMIT_HU = 2.0
BLOCK_LIMIT_HU = 25.0


def slice_change(original: Planes, denoised: Planes, number: int) -> dict[str, Any]:
    """Denoised minus original within the body of one slice, in HU.

    mean_hu: its mean; sd_hu: its standard deviation, mostly the noise that was taken away;
    block_hu: the largest mean over a block of 8 x 8 pixels, in size: structure that changed.
    Raises Unreadable where either slice cannot be read.
    """
    before_hu, valid = original.slice_hu(number)
    after_hu, also_valid = denoised.slice_hu(number)
    body = body_mask(np.where(valid, before_hu, -1000)) & valid & also_valid
    if not body.any():
        return {"slice": number, "mean_hu": None, "sd_hu": None, "block_hu": None}
    change = after_hu - before_hu
    inside = change[body]
    return {
        "slice": number,
        "mean_hu": round(float(inside.mean()), 2),
        "sd_hu": round(float(inside.std()), 2),
        "block_hu": round(_largest_block(change, body), 1),
    }


def _largest_block(change: NDArray[np.float32], body: NDArray[np.bool_]) -> float:
    rows, columns = (side // BLOCK for side in change.shape)
    if not rows or not columns:
        return 0.0
    blocks = (rows, BLOCK, columns, BLOCK)
    cropped = (slice(rows * BLOCK), slice(columns * BLOCK))
    means = np.abs(change[cropped].reshape(blocks).mean(axis=(1, 3)))
    whole = body[cropped].reshape(blocks).all(axis=(1, 3))
    return float(means[whole].max()) if whole.any() else 0.0


def flags_of(changes: list[dict[str, Any]]) -> list[str]:
    """What of these a reader is warned of."""
    measured = [change for change in changes if change["mean_hu"] is not None]
    flags = []
    for name, limit, told in (
        ("mean_hu", MEAN_LIMIT_HU, "mean change of a slice"),
        ("block_hu", BLOCK_LIMIT_HU, "a block of 8 x 8 pixels changed by"),
    ):
        worst = max(measured, key=lambda change: abs(change[name]), default=None)
        if worst and abs(worst[name]) > limit:
            flags.append(
                f"{told} {worst[name]:+.1f} HU in slice {worst['slice'] + 1}, limit {limit:g}"
            )
    return flags
