"""Whole images as training items: pictures, or slices of the store at a size of their own."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.functional import interpolate
from torch.utils.data import Dataset

from pipeline.config.generation import Jitter, LabelName
from pipeline.core.errors import ConfigError
from pipeline.core.masks import body_mask
from pipeline.core.units import TISSUE_RANGES_HU, Window
from pipeline.data.transforms import draw_seed, transformed
from pipeline.degradations.base import Degradation
from pipeline.store.store import Store

if TYPE_CHECKING:  # MONAI takes seconds to import
    from monai.transforms import Compose, Randomizable

#: A slice shows lungs where so large a part of the body is lung by its HU.
LUNG_SHARE = 0.05
MASK_SIZE = (512, 512)
WITHOUT_LUNGS, WITH_LUNGS = 0, 1
#: Resampled slices kept in memory: at 128 x 128 a quarter of a gigabyte.
SLICES_KEPT = 4096


class Images(Protocol):
    """Images by number, each [rows, columns] or [channels, rows, columns] in float32."""

    def __len__(self) -> int: ...

    def __getitem__(self, number: int, /) -> NDArray[np.float32]: ...


class ImageItems(Dataset):
    """`length` items {"input", "target", "label"}; item i is a function of the seed and i alone.

    images: in HU or grey levels, each as likely as any other. augment changes the target,
    degradation what becomes of it as the input; without one, both are equal. With `patch`, an
    item is a random piece of that size, degraded with a margin of as many pixels as the degradation
    depends on. `make_target` makes the target of the image, in place of itself.
    """

    def __init__(
        self,
        images: Images,
        labels: Sequence[int] | NDArray[np.int64],
        *,
        seed: int,
        length: int,
        degradation: Degradation | None = None,
        augment: Compose | None = None,
        patch: tuple[int, int] | None = None,
        make_target: Degradation | None = None,
    ) -> None:
        if len(images) != len(labels) or not len(images):
            raise ValueError(
                f"expected a label for each image, got {len(labels)} for {len(images)} images"
            )
        self.images, self.labels, self.seed, self.length = images, labels, seed, length
        self.degradation, self.augment, self.patch = degradation, augment, patch
        self.make_target = make_target

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, item: int) -> dict[str, torch.Tensor]:
        if not 0 <= item < self.length:
            raise IndexError(item)
        generator = np.random.default_rng((self.seed, item))
        number = int(generator.integers(len(self.images)))
        image = self.images[number]
        margin = self._margin(image.shape[-2:])
        target = _piece(image, self.patch, margin, generator)
        if self.augment is not None:
            target = np.asarray(transformed(self.augment, target, seed=draw_seed(generator)))
        seen = target
        if self.degradation is not None:
            seen = _inside(self.degradation.degrade(target, generator), margin // self.scale)
        if self.make_target is not None:
            target = self.make_target.degrade(target, generator)
        target = _inside(target, margin)
        return {
            "input": torch.from_numpy(np.array(seen, dtype=np.float32)),
            "target": torch.from_numpy(np.array(target, dtype=np.float32)),
            "label": torch.tensor(int(self.labels[number])),
        }

    @property
    def scale(self) -> int:
        """By how much the input's sides are smaller than the target's."""
        return 1 if self.degradation is None else self.degradation.scale

    def _margin(self, size: tuple[int, ...]) -> int:
        """Pixels around a piece, equally many on all sides, a multiple of the scale."""
        parts = [part for part in (self.degradation, self.make_target) if part is not None]
        reach = max((part.reach or 0 for part in parts), default=0)
        if self.patch is None or not reach:
            return 0
        needed = -(-reach // self.scale) * self.scale
        spare = min(whole - part for whole, part in zip(size, self.patch, strict=True))
        return min(needed, max(0, spare // 2) // self.scale * self.scale)


def _piece(
    image: NDArray[np.float32],
    patch: tuple[int, int] | None,
    margin: int,
    generator: np.random.Generator,
) -> NDArray[np.float32]:
    """[channels, rows, columns]"""
    image = image if image.ndim == 3 else image[None]
    if patch is None:
        return image
    sides = np.array(patch) + 2 * margin
    spare = np.array(image.shape[1:]) - sides
    if spare.min() < 0:
        raise ValueError(f"a patch of {patch} is larger than an image of {image.shape[1:]}")
    row, column = generator.integers(spare + 1)
    return image[:, row : row + sides[0], column : column + sides[1]]


def _inside(image: NDArray[np.float32], margin: int) -> NDArray[np.float32]:
    rows, columns = image.shape[-2:]
    return image[..., margin : rows - margin, margin : columns - margin]


def jitter(settings: Jitter) -> Compose | None:
    """What a configuration asks for; None where that is nothing.

    A few hundred slices of a few patients then become many, of many builds; beyond the image its
    rim is repeated.
    """
    from monai.transforms import Compose, RandAffine, RandFlip  # MONAI takes seconds to import

    moves: list[Randomizable] = []
    if settings.mirror:
        moves.append(RandFlip(prob=0.5, spatial_axis=1))
    if settings.turn_degrees or settings.zoom or settings.shift_pixels:
        moves.append(
            RandAffine(
                prob=1.0,
                rotate_range=math.radians(settings.turn_degrees),
                scale_range=(settings.zoom, settings.zoom),
                translate_range=(settings.shift_pixels, settings.shift_pixels),
                padding_mode="border",
            )
        )
    return Compose(moves) if moves else None


class StoredSlices:
    """Slices of stored series in HU, resampled to `size` when they are first asked for.

    The whole field of view becomes the image, so that a pixel's size differs from series to
    series. Without a size they are as stored; with `clip`, cut off at the ends of that window.
    `patients` and `places` have each slice's patient and (series, number in it); `labels` those
    that the pictures were stored with, else nothing.
    """

    def __init__(
        self,
        store: Store,
        keys: Sequence[str],
        size: tuple[int, int] | None,
        *,
        clip: Window | None = None,
    ) -> None:
        volumes = {key: store.load(key) for key in keys}
        self.places = [(key, n) for key, v in volumes.items() for n in range(len(v.image_hu))]
        patients = {key: str(store.record(key).patient) for key in keys}
        self.patients = [patients[key] for key, _ in self.places]
        self.labels = [n for v in volumes.values() for n in v.provenance.get("labels", ())]

        def read(number: int) -> NDArray[np.float32]:
            key, place = self.places[number]
            image_hu = np.asarray(volumes[key].image_hu[place], dtype=np.float32)
            image_hu = image_hu if size is None else resampled(image_hu, size)
            return image_hu if clip is None else image_hu.clip(clip.low_hu, clip.high_hu)

        self._slice = lru_cache(SLICES_KEPT)(read)

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, number: int) -> NDArray[np.float32]:
        if not 0 <= number < len(self):
            raise IndexError(number)
        return self._slice(number)


def resampled(image: NDArray[np.float32], size: tuple[int, int]) -> NDArray[np.float32]:
    """[..., rows, columns] at another size: linear, low-passed where pixels become fewer."""
    planes = torch.from_numpy(np.array(image, dtype=np.float32)).reshape(-1, 1, *image.shape[-2:])
    scaled = interpolate(planes, size, mode="bilinear", antialias=True, align_corners=False)
    return scaled.reshape(*image.shape[:-2], *size).numpy()


def lung_share(image_hu: NDArray[np.float32]) -> float:
    """How much of the body in a slice is lung by its HU; 0 for a slice without a body.

    The body's mask is made for slices of 512 x 512: in coarser ones its wall is too thin.
    """
    fine_hu = resampled(image_hu, MASK_SIZE)
    body_hu = fine_hu[body_mask(fine_hu)]
    low, high = TISSUE_RANGES_HU["lung"]
    return float(np.mean((body_hu >= low) & (body_hu <= high))) if body_hu.size else 0.0


def labels_of(images: StoredSlices, kind: LabelName) -> NDArray[np.int64]:
    """A label for each image; raises ConfigError where there is none of that kind."""
    if kind == "lungs":
        return lung_labels(images)
    if kind == "given" and len(images.labels) != len(images):
        raise ConfigError("generation.label: given, but these images came without labels")
    return np.array(images.labels if kind == "given" else [0] * len(images), dtype=np.int64)


def lung_labels(images_hu: Images) -> NDArray[np.int64]:
    """WITH_LUNGS or WITHOUT_LUNGS of each slice, by its HU."""
    shares = [lung_share(images_hu[number]) for number in range(len(images_hu))]
    return np.where(np.array(shares) >= LUNG_SHARE, WITH_LUNGS, WITHOUT_LUNGS).astype(np.int64)
