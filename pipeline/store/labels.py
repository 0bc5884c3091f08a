"""The label map that a stored series is trained on and tested against."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from pipeline.core.label_map import LabelMap
from pipeline.core.masks import body_mask, lung_mask
from pipeline.core.volume import Volume
from pipeline.store.store import Store


def _body(volume: Volume) -> NDArray[np.bool_]:
    return np.stack([body_mask(np.asarray(plane)) for plane in volume.image_hu])


def _lungs(volume: Volume) -> NDArray[np.bool_]:
    return lung_mask(np.asarray(volume.image_hu), volume.spacing_mm)


#: Label maps that need no file: found by threshold and fill, by name.
BY_THRESHOLD: dict[str, Callable[[Volume], NDArray[np.bool_]]] = {"body": _body, "lungs": _lungs}


#: Increase `rule` when pipeline.core.masks changes: stores then make their masks again.
RULE = {"kind": "threshold", "rule": 2}


def has_labels(store: Store, key: str, source: str) -> bool:
    """Whether a stored series has label maps of this source, or can get them."""
    return source in BY_THRESHOLD or store.has_labels(key, source)


def stored_labels(store: Store, key: str, source: str) -> LabelMap:
    """A stored series' label map; one by threshold is made once and kept while RULE stays the same.

    Raises NothingUsableError where there is none.
    """
    if source in BY_THRESHOLD and not _by_this_rule(store, key, source):
        volume = store.load(key)
        found = BY_THRESHOLD[source](volume) & volume.valid
        store.add_labels(key, source, LabelMap(found.astype(np.uint8), {1: source}, dict(RULE)))
    return store.load_labels(key, source)


def _by_this_rule(store: Store, key: str, source: str) -> bool:
    return store.has_labels(key, source) and store.load_labels(key, source).source == RULE
