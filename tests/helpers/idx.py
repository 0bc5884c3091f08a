"""IDX files of images that a test knows."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path

import numpy as np
from numpy.typing import NDArray


def idx_bytes(values: NDArray[np.uint8]) -> bytes:
    """The file of these values."""
    header = struct.pack(f">HBB{values.ndim}I", 0, 8, values.ndim, *values.shape)
    return header + values.tobytes()


def idx_folder(folder: Path, *, training: int = 60, test: int = 20, side: int = 6) -> Path:
    """A data set in the publisher's four files: image n of both together has the label n % 10,
    and n as the level of all its pixels."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, numbers in (
        ("train", np.arange(training, dtype=np.uint8)),
        ("t10k", np.arange(training, training + test, dtype=np.uint8)),
    ):
        images = np.broadcast_to(numbers[:, None, None], (len(numbers), side, side))
        packed = gzip.compress(idx_bytes(np.ascontiguousarray(images)))
        (folder / f"{name}-images-idx3-ubyte.gz").write_bytes(packed)
        labels = gzip.compress(idx_bytes(numbers % 10))
        (folder / f"{name}-labels-idx1-ubyte.gz").write_bytes(labels)
    return folder
