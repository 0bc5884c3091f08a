"""IDX files, the form of MNIST, EMNIST, KMNIST and Fashion-MNIST: images and a label for each.

http://yann.lecun.com/exdb/mnist: two zero bytes, the type (8: unsigned bytes), the number of
dimensions, the size of each as a big-endian 32-bit number, and then the values, rows first.
"""

from __future__ import annotations

import gzip
import re
import struct
import zlib
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BufferedIOBase
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.core.errors import NothingUsableError

UNSIGNED_BYTES = 8
IMAGES, LABELS = "images", "labels"
DIMENSIONS = {IMAGES: 3, LABELS: 1}
#: EMNIST's largest part has 547 MB.
MAX_BYTES, MAX_SIDE = 2**30, 1024
CHUNK = 2**20
TRAINING, TEST = "train", "t10k"
#: As the publishers name them: `train-images-idx3-ubyte.gz`, also with a dot before idx, with
#: `test` for `t10k`, and with the data set's name in front.
NAME = re.compile(r".*?(?P<side>train|t10k|test)-(?P<what>images|labels)[-.]idx[13]-ubyte(\.gz)?")


@dataclass(frozen=True)
class LabelledImages:
    """Grey levels 0 to 255 [images, rows, columns], and the label of each image [images]."""

    images: NDArray[np.uint8]
    labels: NDArray[np.uint8]


def find_idx(folder: Path) -> dict[str, dict[str, Path]]:
    """The files in `folder`, by side (TRAINING, TEST) and then by IMAGES and LABELS.

    Raises NothingUsableError where there is no training part, where images lack labels or labels
    images, and where a file is there twice, as of two data sets.
    """
    found: dict[str, dict[str, Path]] = defaultdict(dict)
    for path in sorted(folder.iterdir()) if folder.is_dir() else []:
        if (name := NAME.fullmatch(path.name)) is None:
            continue
        side = TRAINING if name["side"] == TRAINING else TEST
        if name["what"] in found[side]:
            raise NothingUsableError(
                f"{path} and {found[side][name['what']].name} are both {name['what']} of one side: "
                "leave one data set in the folder, each file packed or unpacked"
            )
        found[side][name["what"]] = path
    if TRAINING not in found:
        raise NothingUsableError(
            f"{folder} has no IDX files of a training side: put train-images-idx3-ubyte.gz and "
            "train-labels-idx1-ubyte.gz there"
        )
    for files in found.values():
        if len(files) == 1:
            [(what, path)] = files.items()
            raise NothingUsableError(
                f"{path} has no {LABELS if what == IMAGES else IMAGES} beside it: put them there"
            )
    return found


def read_pair(images: Path, labels: Path) -> LabelledImages:
    """Raises NothingUsableError, with the file's name, where they are no IDX files, are cut off or
    too long, or do not belong together."""
    levels, classes = read_idx(images, IMAGES), read_idx(labels, LABELS)
    if len(levels) != len(classes):
        raise NothingUsableError(
            f"{images} has {len(levels)} images and {labels.name} {len(classes)} labels: they are "
            "not of one data set"
        )
    return LabelledImages(levels, classes)


def read_idx(path: Path, what: str) -> NDArray[np.uint8]:
    """The images [images, rows, columns] or labels [labels] of one file, packed by gzip or not.

    Never reads more than the header says, nor more than MAX_BYTES, so that a small packed file
    cannot fill the memory. Raises NothingUsableError, with the file's name.
    """
    with _opened(path) as stream:
        sizes = _sizes(path, what, stream)
        expected = int(np.prod(sizes, dtype=np.int64))
        values = bytearray()
        while len(values) <= expected and (
            chunk := stream.read(min(CHUNK, expected + 1 - len(values)))
        ):
            values += chunk
    if len(values) != expected:
        fault = "is cut off" if len(values) < expected else "has more than that behind them"
        raise NothingUsableError(
            f"{path}: its header says {expected} bytes of {what}, and it {fault}; fetch it again"
        )
    return np.frombuffer(values, dtype=np.uint8).reshape(sizes)


def _sizes(path: Path, what: str, stream: BufferedIOBase) -> tuple[int, ...]:
    dimensions = DIMENSIONS[what]
    magic = struct.pack(">HBB", 0, UNSIGNED_BYTES, dimensions)
    header = stream.read(len(magic) + 4 * dimensions)
    if header[: len(magic)] != magic or len(header) < len(magic) + 4 * dimensions:
        raise NothingUsableError(
            f"{path} is no IDX file of {what}: it begins with {header[:4].hex() or 'nothing'}, not "
            f"{magic.hex()}; fetch it again"
        )
    sizes = struct.unpack(f">{dimensions}I", header[len(magic) :])
    if not all(sizes) or any(side > MAX_SIDE for side in sizes[1:]):
        raise NothingUsableError(
            f"{path}: its header says {' x '.join(map(str, sizes))}; sides of 1 to {MAX_SIDE} "
            "pixels are read"
        )
    if int(np.prod(sizes, dtype=object)) > MAX_BYTES:
        raise NothingUsableError(
            f"{path}: its header says {' x '.join(map(str, sizes))}, and at most {MAX_BYTES} bytes "
            "are read; use a part of the data set"
        )
    return sizes


@contextmanager
def _opened(path: Path) -> Iterator[BufferedIOBase]:
    """The file's bytes, unpacked where its name says that they are packed."""
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as stream:
            yield stream
    except (EOFError, zlib.error, OSError) as error:
        raise NothingUsableError(
            f"{path} cannot be read ({type(error).__name__}); fetch it again"
        ) from error
