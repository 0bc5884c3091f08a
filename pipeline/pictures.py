"""Pictures that come with libraries, for the general case: digits and photographs.

They show on data that everybody has what a method does, before CT. Grey levels are named by
their range; who draws patches from a picture keeps the picture on one side of the split.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

#: Photographs of scikit-image's own folder, no download: textures and stereo partners left out.
PHOTOGRAPHS = (
    "astronaut",
    "camera",
    "cat",
    "coffee",
    "coins",
    "hubble_deep_field",
    "moon",
    "retina",
    "rocket",
)
TEST_SHARE = 0.2


@dataclass(frozen=True)
class Pictures:
    """Grey pictures, each [rows, columns] in float32 from 0 to `white`, with label and name."""

    images: Sequence[NDArray[np.float32]]
    labels: NDArray[np.int64]
    names: tuple[str, ...]
    white: float

    def __len__(self) -> int:
        return len(self.images)

    def split(self) -> tuple[Pictures, Pictures]:
        """(training, test): a fifth, at least one, in the order of a hash of their names."""
        order = np.argsort([hashlib.sha256(name.encode()).hexdigest() for name in self.names])
        held_back = np.zeros(len(self), dtype=bool)
        held_back[order[: max(1, round(TEST_SHARE * len(self)))]] = True
        return self._chosen(~held_back), self._chosen(held_back)

    def _chosen(self, which: NDArray[np.bool_]) -> Pictures:
        numbers = np.flatnonzero(which).tolist()
        return Pictures(
            [self.images[n] for n in numbers],
            self.labels[numbers],
            tuple(self.names[n] for n in numbers),
            self.white,
        )


def digits() -> Pictures:
    """1797 handwritten digits, 8 x 8, grey levels 0 to 16 (UCI Optical Recognition, test part)."""
    from sklearn.datasets import load_digits

    found = load_digits()
    names = tuple(f"digit {number}" for number in range(len(found.target)))
    images = list(found.images.astype(np.float32))
    return Pictures(images, found.target.astype(np.int64), names, white=16.0)


def photographs() -> Pictures:
    """Nine photographs in grey levels 0 to 255 (ITU-R BT.709 luma), each its own label."""
    from skimage import color, data

    images = []
    for name in PHOTOGRAPHS:
        picture = getattr(data, name)()
        grey = color.rgb2gray(picture) * 255 if picture.ndim == 3 else picture
        images.append(grey.astype(np.float32))
    return Pictures(images, np.arange(len(images)), PHOTOGRAPHS, white=255.0)
