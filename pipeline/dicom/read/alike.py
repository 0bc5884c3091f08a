"""Which values of an attribute are the same one: numbers by tolerance, texts by their words.

Decimal strings (DS, PS3.5 6.2) write one number in many ways: 120, 120.0 and 1.2e2. Values are
never rounded for this: on either side of a rounding border, the smallest difference would count.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np
from numpy.typing import NDArray

#: Numbers nearer than this are one value of an attribute whose unit says nothing finer.
SAME_NUMBER = 1e-3


def clusters(values: NDArray[np.float64], tolerance: float) -> NDArray[np.int64]:
    """The cluster's number, from 0 by size, of each of the values [n].

    Clusters are further than `tolerance` apart, and neighbours within one are not.
    """
    order = np.argsort(values, kind="stable")
    found = np.empty(len(values), np.int64)
    found[order] = np.concatenate(([0], np.cumsum(np.diff(values[order]) > tolerance)))
    return found


def text_of(value: object) -> str:
    """An attribute's value as it was written; several are joined as DICOM joins them."""
    if value is None or isinstance(value, str):
        return value or ""
    return "\\".join(map(str, value)) if hasattr(value, "__iter__") else str(value)


def same_texts(values: Sequence[object]) -> list[str]:
    """Each value's words: in lower case, without the blanks around them (PS3.5 6.2)."""
    return ["\\".join(map(str.strip, text_of(v).casefold().split("\\"))) for v in values]


def same_values(values: Sequence[object], tolerance: float = SAME_NUMBER) -> list[Hashable]:
    """Equal results for the same values: of numbers their cluster's, of others their words."""
    texts = same_texts(values)
    numbers = {text: number for text in set(texts) if (number := number_of(text)) is not None}
    if not numbers:
        return list(texts)
    found = clusters(np.array(list(numbers.values())), tolerance)
    cluster_of: dict[str, Hashable] = dict(zip(numbers, found.tolist(), strict=True))
    return [cluster_of.get(text, text) for text in texts]


def number_of(text: str) -> float | None:
    """The finite number that a text writes; None for another text."""
    try:
        number = float(text)
    except ValueError:
        return None
    return number if np.isfinite(number) else None
