"""Figures as JSON can hold them: it has neither infinity nor NaN."""

from __future__ import annotations

import math
from typing import Any, SupportsFloat


def finite(figure: SupportsFloat) -> float | None:
    """A figure as a plain float; None for infinity (PSNR of an exact image) and NaN."""
    number = float(figure)
    return number if math.isfinite(number) else None


def finite_tree(tree: Any) -> Any:
    """The same mapping, list or value, with None for each float that is not finite."""
    if isinstance(tree, dict):
        return {key: finite_tree(value) for key, value in tree.items()}
    if isinstance(tree, list | tuple):
        return [finite_tree(value) for value in tree]
    return finite(tree) if isinstance(tree, float) else tree
