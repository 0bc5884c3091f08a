"""From stored series and their label maps to training patches, by number."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from monai.transforms import MapTransform
from numpy.typing import NDArray
from torch.utils.data import Dataset

from pipeline.config.names import digest
from pipeline.config.segmentation import BACKGROUND, IGNORED, NOT_LISTED, Segmentation
from pipeline.core.errors import NothingUsableError
from pipeline.core.label_map import LabelMap
from pipeline.data.segmentation_transforms import OUTSIDE, patch_with_rim, segmentation_transforms
from pipeline.data.transforms import draw_seed, transformed
from pipeline.data.working_grid import WorkingGrid
from pipeline.store.store import Store

#: Of a class in a volume, so many voxels at most are kept to centre patches on.
CENTRES = 20_000


@dataclass(frozen=True)
class Labelled:
    """A series on its working grid, [slices, rows, columns].

    labels: the label map's values, before they are made into classes; table: the class number
    of each value. noise_hu: what the degradation added, if there is one. not_listed: whether
    background may be of classes that the label map does not list.
    """

    image_hu: NDArray[np.float32]
    labels: NDArray[np.integer]
    table: NDArray[np.uint8]
    noise_hu: NDArray[np.float32] | None = None
    not_listed: bool = False

    @property
    def classes(self) -> NDArray[np.uint8]:
        """The class number of each voxel, uint8, or IGNORED."""
        return self.table[self.labels]


def cache_working(
    store: Store,
    key: str,
    labelmap: LabelMap,
    settings: Segmentation,
    *,
    degraded: str | None = None,
) -> None:
    """Keep a stored series and its labels on the working grid, where they are not there yet.

    degraded: the digest of the cached series after its degradation, whose noise training will
    add again.
    """
    volume = store.load(key)
    grid = WorkingGrid.of(volume, settings.spacing_mm)
    image_hu = grid.to_working(volume.image_hu)
    made: dict[str, Callable[[], NDArray]] = {
        _working_digest(settings, "image"): lambda: image_hu,
        _working_digest(settings, labelmap.digest): lambda: grid.labels_to_working(labelmap.labels),
    }
    if degraded is not None:
        noisy = store.load_degraded(key, degraded)
        made[_working_digest(settings, degraded)] = lambda: grid.to_working(noisy) - image_hu
    for name, make in made.items():
        if not store.degraded_path(key, name).exists():
            store.save_degraded(key, name, make())


def load_working(
    store: Store,
    key: str,
    labelmap: LabelMap,
    settings: Segmentation,
    *,
    degraded: str | None = None,
) -> Labelled:
    """What cache_working kept, memory-mapped."""

    def kept(what: str) -> NDArray:
        return store.load_degraded(key, _working_digest(settings, what))

    return Labelled(
        image_hu=kept("image"),
        labels=kept(labelmap.digest),
        table=settings.table(labelmap),
        noise_hu=None if degraded is None else kept(degraded),
        not_listed=bool(settings.not_listed(labelmap)),
    )


def _working_digest(settings: Segmentation, what: str) -> str:
    return digest(["working grid", list(settings.spacing_mm), what])


class LabelPatches(Dataset):
    """`length` random patches {"input": HU float32, "target": class numbers uint8}, each
    [1, (slices,) rows, columns] of `settings.patch`.

    Item i is a function of the seed and i alone. A patch is centred on a voxel of a class, or
    anywhere, as `settings.foreground` says. For the first the class, then a volume that shows it,
    then the voxel are drawn uniformly: volumes that are labelled for few classes do not take
    their share from those that are labelled for many. For the second the volume is. Outside of a
    volume its rim is repeated, and the class is IGNORED. named: transforms that the run names,
    after those of the settings.
    """

    def __init__(
        self,
        volumes: list[Labelled],
        settings: Segmentation,
        *,
        seed: int,
        length: int,
        named: Sequence[MapTransform] = (),
    ) -> None:
        self.volumes = volumes
        self.settings = settings
        self.seed = seed
        self.length = length
        self.transforms = segmentation_transforms(settings, named)
        self.cut = patch_with_rim(settings)
        self.contrast = [_contrast_hu(volume, settings) for volume in volumes]
        centres = [_centres(volume, settings) for volume in volumes]
        #: By class: the volumes that show it, each with places to centre a patch on.
        self.shown: list[list[tuple[int, NDArray[np.int64]]]] = [
            [(place, of[number]) for place, of in enumerate(centres) if number in of]
            for number in sorted({number for of in centres for number in of})
        ]
        if not self.shown:
            raise NothingUsableError("no volume of the training shows any of the classes")

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, item: int) -> dict[str, torch.Tensor]:
        if not 0 <= item < self.length:
            raise IndexError(item)
        generator = np.random.default_rng((self.seed, item))
        number, centre = self._centre(generator)
        cut = self._cut(self.volumes[number], centre)
        if self.settings.augment.contrast_hu:
            cut["contrast"] = self.contrast[number]
        patch = transformed(self.transforms, cut, seed=draw_seed(generator))
        labels = patch["labels"].numpy().round().astype(np.int64)
        outside = labels == OUTSIDE
        target = self.volumes[number].table[labels.clip(0)]
        if self.volumes[number].not_listed:
            target[target == BACKGROUND] = NOT_LISTED
        target[outside] = IGNORED
        return {"input": patch["input"].float().contiguous(), "target": torch.from_numpy(target)}

    def _centre(self, generator: np.random.Generator) -> tuple[int, NDArray[np.int64]]:
        """A volume's number and the voxel in it that a patch is centred on."""
        if generator.random() < self.settings.foreground:
            showing = self.shown[generator.integers(len(self.shown))]
            number, flat = showing[generator.integers(len(showing))]
            shape = self.volumes[number].image_hu.shape
            chosen = flat[generator.integers(len(flat))]
            return number, np.array(np.unravel_index(chosen, shape))
        number = int(generator.integers(len(self.volumes)))
        return number, generator.integers(self.volumes[number].image_hu.shape)

    def _cut(self, volume: Labelled, centre: NDArray[np.int64]) -> dict[str, torch.Tensor]:
        """The patch with its rim; labels are OUTSIDE where the volume is not."""
        places = [c - n // 2 + np.arange(n) for c, n in zip(centre, self.cut, strict=True)]
        shape = volume.image_hu.shape
        inside = [p.clip(0, n - 1) for p, n in zip(places, shape, strict=True)]
        beyond = np.logical_or.outer(
            np.logical_or.outer(places[0] != inside[0], places[1] != inside[1]),
            places[2] != inside[2],
        )
        where = np.ix_(*inside)
        cut = {
            "input": np.asarray(volume.image_hu[where], dtype=np.float32),
            "labels": np.where(beyond, OUTSIDE, volume.labels[where].astype(np.float32)),
        }
        if volume.noise_hu is not None:
            cut["noise"] = np.asarray(volume.noise_hu[where], dtype=np.float32)
        drop = 0 if self.settings.dimensions == 3 else slice(None)
        return {
            name: torch.from_numpy(array.astype(np.float32))[None]
            if drop == 0
            else torch.from_numpy(array.astype(np.float32))
            for name, array in cut.items()
        }


def _centres(volume: Labelled, settings: Segmentation) -> dict[int, NDArray[np.int64]]:
    """For each class that a volume shows, flat indices of its voxels, evenly thinned out."""
    classes = volume.classes
    found = {number: np.flatnonzero(classes == number) for number in range(1, settings.channels)}
    return {
        number: flat[:: -(-len(flat) // CENTRES)] for number, flat in found.items() if len(flat)
    }


def _contrast_hu(volume: Labelled, settings: Segmentation) -> torch.Tensor:
    """What contrast agent adds to each value of a label map: up to the HU that the settings say
    from the median of its class in this volume."""
    added = np.zeros(len(volume.table), np.float32)
    if settings.augment.contrast_hu:
        image_hu, classes = np.asarray(volume.image_hu), volume.classes
        for number, name in enumerate(settings.classes, start=1):
            seen_hu = image_hu[classes == number]
            if name in settings.augment.contrast_hu and len(seen_hu):
                rise_hu = settings.augment.contrast_hu[name] - float(np.median(seen_hu))
                added[volume.table == number] = max(0.0, rise_hu)
    return torch.from_numpy(added)
