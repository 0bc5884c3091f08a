"""Series with metal, and as they are stored."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from helpers.dicom import write_series
from helpers.fill import SIDE, drawn, some_codes, waves

TIMES = 3


METAL, PADDING = 3000, -2000


ROW, COLUMN = np.indices((TIMES * SIDE, TIMES * SIDE))


DISC = np.hypot(ROW - 20, COLUMN - 30) < 4


def stored(count: int) -> NDArray[np.int16]:
    """HU that the generator could have drawn, as they are stored."""
    codes = some_codes(1) + 0.1 * some_codes(count, seed=5)
    return np.rint(drawn(waves(), codes, TIMES) + 1024).astype(np.int16)


def series_of(images: NDArray[np.int16], folder: Path, *, without: tuple[int, ...] = ()) -> Path:
    def put(dataset: Any, index: int) -> None:
        dataset.Rows, dataset.Columns = images.shape[1:]
        dataset.PixelData = images[index].tobytes()

    for index, path in enumerate(write_series(folder, len(images), edit=put)):
        if index in without:
            path.unlink()
    return folder


def with_metal(count: int = 4) -> NDArray[np.int16]:
    images = stored(count)
    images[1:3, DISC] = METAL + 1024
    return images
