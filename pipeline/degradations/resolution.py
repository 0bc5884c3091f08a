"""Fewer pixels."""

from __future__ import annotations

from functools import lru_cache
from typing import Literal

import numpy as np
import torch
from torch.nn.functional import interpolate

from pipeline.core.types import Picture
from pipeline.degradations.base import Linear, Operator, Shape

#: How far a pixel of the smaller image depends on pixels beyond its own area, in its own pixels.
_SUPPORT = {"bicubic": 2, "area": 0}


class Downsample(Linear):
    """Every side divided by `scale`: bicubic with a low pass (as Pillow), or means of blocks.

    Rows and columns beyond a multiple of `scale` are left out.
    """

    def __init__(self, scale: int, *, method: Literal["bicubic", "area"] = "bicubic") -> None:
        if scale < 2:
            raise ValueError(f"scale must be at least 2, got {scale}")
        if method not in _SUPPORT:
            raise ValueError(f"method must be bicubic or area, got {method}")
        self.scale, self.method = scale, method
        self.reach = _SUPPORT[method] * scale

    def operator(self, shape: Shape, generator: np.random.Generator) -> Operator:
        """One matrix for the rows and one for the columns; shape [..., rows // scale, ...]."""
        rows, columns = (_weights(side, self.scale, self.method) for side in shape[-2:])
        smaller = (*shape[:-2], len(rows), len(columns))
        return Operator(
            lambda image: (rows @ image @ columns.T).astype(np.float32, copy=False),
            lambda degraded: (rows.T @ degraded @ columns).astype(np.float32, copy=False),
            smaller,
        )


@lru_cache(maxsize=32)
def _weights(side: int, scale: int, method: str) -> Picture:
    """[side // scale, side]: what each pixel left is made of."""
    if side < scale:
        raise ValueError(f"an image of {side} pixels a side has none left at 1/{scale}")
    left = side // scale
    unit = torch.eye(left * scale)[None, None]
    size = (left, left * scale)
    if method == "area":
        found = interpolate(unit, size, mode="area")
    else:
        found = interpolate(unit, size, mode="bicubic", antialias=True, align_corners=False)
    weights = np.zeros((left, side), dtype=np.float32)
    weights[:, : left * scale] = found[0, 0].numpy()
    return weights
