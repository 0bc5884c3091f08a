"""Digits, faces and photographs that come with scikit-learn and scikit-image, as training images.

They show on data that everybody has what a method does, before CT. Patches of one photograph
must stay on one side of the split.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.config.restoration import CHANNELS, Colour
from pipeline.core.types import Picture
from pipeline.core.volume import Volume
from pipeline.ingest.ingest import IngestedSeries, IngestReport, Progress
from pipeline.store.store import Store

#: Colour pictures that come with scikit-image, by the names of its functions, and scikit-learn;
#: none needs a download. "motorcycle" is the left picture of a stereo pair.
COLOUR_PICTURES = (
    *("astronaut", "cat", "coffee", "hubble_deep_field", "immunohistochemistry"),
    *("motorcycle", "retina", "rocket", "china.jpg", "flower.jpg"),
)
#: Those of scikit-image in grey.
GREY_PICTURES = ("brick", "camera", "coins", "grass", "gravel", "moon")
#: The photographs among these, in the order of their labels in a store.
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
#: Of small pictures, of which a run holds back some.
SHEETS = 10
#: The labels of `faces`.
NO_FACE, FACE = 0, 1


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
        order = self._order()
        held_back = max(1, round(TEST_SHARE * len(self)))
        return self._chosen(np.sort(order[held_back:])), self._chosen(np.sort(order[:held_back]))

    def sheets(self, count: int) -> list[Pictures]:
        """As many parts of about one size, in the order of a hash of the pictures' names."""
        return [self._chosen(part) for part in np.array_split(self._order(), count)]

    def _order(self) -> NDArray[np.intp]:
        return np.argsort([hashlib.sha256(name.encode()).hexdigest() for name in self.names])

    def _chosen(self, which: NDArray[np.intp]) -> Pictures:
        return Pictures(
            [self.images[number] for number in which.tolist()],
            self.labels[which],
            tuple(self.names[number] for number in which.tolist()),
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


def faces() -> Pictures:
    """100 faces (label FACE) and 100 other pieces of photographs (NO_FACE), 25 x 25, grey levels 0
    to 255: scikit-image's part of Labeled Faces in the Wild (Huang et al. 2007)."""
    from skimage.data import lfw_subset

    images = list((lfw_subset() * 255).astype(np.float32))
    labels = np.repeat([FACE, NO_FACE], len(images) // 2)
    names = tuple(f"face {number}" for number in range(len(images)))
    return Pictures(images, labels.astype(np.int64), names, white=255.0)


@dataclass(frozen=True)
class Bundled:
    """Pictures that come with a library: how they are read, and in how many sheets."""

    read: Callable[[], Pictures]
    sheets: int


BUNDLED = {
    "digits": Bundled(digits, SHEETS),
    "faces": Bundled(faces, SHEETS),
    "photographs": Bundled(photographs, len(PHOTOGRAPHS)),
}


def store_pictures(name: str, store: Store, progress: Progress) -> IngestReport:
    """Store those of BUNDLED that have this name as series that a run can split and learn from.

    A series is a sheet of pictures of one size, and a patient of its own: `digits-0` to
    `digits-9`, or one photograph each. Values are grey levels in place of HU, a pixel is 1 mm,
    and the provenance has the labels. progress: called with (step, done, total).
    """
    sheets = BUNDLED[name].read().sheets(BUNDLED[name].sheets)
    report = IngestReport(Path())
    for number, sheet in enumerate(sheets):
        key = f"{name}-{number}"
        store_sheet(sheet, store, report, source=name, key=key, patient=key)
        progress("storing pictures", number + 1, len(sheets))
    return report


def store_sheet(
    pictures: Pictures, store: Store, report: IngestReport, *, source: str, key: str, patient: str
) -> None:
    """Add a sheet of pictures of one size to the store as a series, and to the report."""
    is_new = store.add(_as_volume(pictures, source), key=key, patient=patient)
    description: dict[str, object] = {"Manufacturer": source}
    report.series.append(IngestedSeries(key, patient, len(pictures), is_new, description))


def _as_volume(pictures: Pictures, name: str) -> Volume:
    images = np.stack(pictures.images)
    return Volume(
        image_hu=images,
        valid=np.ones(images.shape, dtype=bool),
        affine_lps=np.eye(4),
        slice_origins_mm=np.arange(len(images))[:, None] * np.array([0.0, 0.0, 1.0]),
        provenance={
            "source": name,
            "warnings": [],
            "evenly_spaced": True,
            "labels": pictures.labels.tolist(),
        },
    )


def bundled_names(colour: Colour) -> tuple[str, ...]:
    """The bundled pictures that a run of this colour can use; colour pictures are also used in
    grey."""
    return COLOUR_PICTURES if CHANNELS[colour] == 3 else (*COLOUR_PICTURES, *GREY_PICTURES)


def bundled_picture(name: str) -> Picture:
    """The levels of a picture that comes with a library, [1 or 3, rows, columns]."""
    from skimage import data
    from sklearn.datasets import load_sample_image

    if name.endswith(".jpg"):
        pixels = load_sample_image(name)
    elif name == "motorcycle":
        pixels = data.stereo_motorcycle()[0]
    else:
        pixels = getattr(data, name)()
    levels = np.asarray(pixels, dtype=np.float32)
    return levels[None] if levels.ndim == 2 else np.moveaxis(levels, -1, 0)
