"""Names for the arrays that every folder passes on."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

#: An image or a volume in HU, float32: [rows, columns] or [slices, rows, columns].
ImageHU = NDArray[np.float32]
#: A picture in grey levels or colours, float32: [..., rows, columns], channels first.
Picture = NDArray[np.float32]
#: A JSON object: what `--json` prints and report.json holds, and what is read back from there.
Json = dict[str, Any]
#: Called with the number of slices (or images) that are done since the last call.
Progress = Callable[[int], None]


class ProgressBar(Protocol):
    """Shows how far a piece of work is."""

    def advance(self, units: int) -> None:
        """So many more are done."""

    def count(self, done: int, total: int) -> None:
        """So many of so many are done."""

    def show(self, what: str, done: int, total: int) -> None:
        """The same, of a part that has a name."""


class OpenProgress(Protocol):
    """Opens a progress bar for as long as the context lasts."""

    def __call__(
        self, name: str, *, unit: str = "", total: int | None = None
    ) -> AbstractContextManager[ProgressBar]:
        """name: of the work; unit: of what is counted; total: None where it is not known yet."""
