"""From what the data are like to a working spacing, a patch, a network's depth and grey ranges.

The rules are nnU-Net's (Isensee et al., Nature Methods 2021, supplementary note 2). `plan` is a
pure function of the fingerprint and the memory; it returns plain settings, which are written into
the run, where they can be changed.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.config.names import current_path
from pipeline.config.sections import Component
from pipeline.config.segmentation import IGNORED, Planned, Segmentation
from pipeline.config.task_runs import SegmentRun
from pipeline.core.errors import ConfigError
from pipeline.data.working_grid import SpacingMm, WorkingGrid
from pipeline.store.labels import stored_labels
from pipeline.store.store import Store

#: Slices this much farther apart than pixels make an image anisotropic.
ANISOTROPY = 3.0
#: A level is added while it leaves so many voxels along an axis.
MIN_FEATURE_MAP = 4
#: Axes are halved together while their spacings differ by less than this.
EVEN_ENOUGH = 2.0
#: A patch should show this share of a median volume, or the spacing grows until it does.
COVERAGE = 0.25
SPACING_GROWTH = 1.03
#: Fully filled memory leaves nothing for the data and the system.
USABLE = 0.8
#: Feature maps of one size that training keeps on each side of the network, with their
#: gradients: measured on MONAI's DynUNet, see benchmarks/segment.py --memory.
KEPT_MAPS = 14
BYTES = 4
PERCENTILES = (0.5, 99.5)


@dataclass(frozen=True)
class Fingerprint:
    """What planning needs to know of the training data.

    spacings_mm and shapes: (slice, row, column) of each volume, on the patient's axes.
    foreground_hu: the percentiles PERCENTILES of HU within the classes, over all volumes.
    """

    spacings_mm: Sequence[SpacingMm]
    shapes: Sequence[tuple[int, int, int]]
    foreground_hu: tuple[float, float]


def foreground_range_hu(samples: Sequence[NDArray[np.float32]]) -> tuple[float, float]:
    """PERCENTILES of voxels in the classes, pooled over the volumes."""
    low, high = np.percentile(np.concatenate(samples), PERCENTILES)
    return float(low), float(high)


@dataclass(frozen=True)
class Plan:
    """Settings of a segmentation that follow from the data.

    strides: by which (slice, row, column) each level of the network is smaller than the one
    above; the first level's are 1. features: of each level.
    """

    spacing_mm: SpacingMm
    patch: tuple[int, ...]
    strides: tuple[tuple[int, ...], ...]
    features: tuple[int, ...]
    ranges_hu: tuple[tuple[float, float], ...]
    batch: int

    @property
    def levels(self) -> int:
        """How many sizes the network works at."""
        return len(self.strides)

    def segmentation(self) -> dict[str, Any]:
        """For `segmentation:` of a run, beside its classes."""
        return {
            "spacing_mm": [round(mm, 4) for mm in self.spacing_mm],
            "patch": list(self.patch),
            "ranges_hu": [list(range_hu) for range_hu in self.ranges_hu],
        }

    def model(self) -> dict[str, Any]:
        """For `model:` of a run: MONAI's DynUNet of these levels. Axes are convolved where
        they are about as finely sampled as the others."""
        strides = [list(stride) for stride in self.strides]
        return {
            "target": "monai.networks.nets.DynUNet",
            "args": {
                "kernel_size": [list(kernel) for kernel in self._kernels()],
                "strides": strides,
                "upsample_kernel_size": strides[1:],
                "filters": list(self.features),
            },
        }

    def _kernels(self) -> list[tuple[int, ...]]:
        spacing = np.array(self.spacing_mm[-len(self.patch) :])
        kernels = []
        for stride in self.strides:
            spacing = spacing * stride
            kernels.append(tuple(3 if s < EVEN_ENOUGH * spacing.min() else 1 for s in spacing))
        return kernels


def plan(
    fingerprint: Fingerprint,
    *,
    memory_gib: float,
    dimensions: int = 3,
    channels: int = 2,
    first_features: int = 32,
    max_features: int = 320,
    batch: int = 2,
) -> Plan:
    """The finest working grid and the largest patch that fit.

    The target spacing is the median, along a much coarser axis its 10th percentile. The patch
    starts as the median volume and shrinks along its relatively longest axis until a network as
    deep as the patch allows fits into `memory_gib` with `batch` patches. If the patch then shows
    less than a quarter of the median volume, the spacing grows, finest axes first, until it
    does: nnU-Net's low-resolution configuration. channels: of the network's output. Raises
    ConfigError where nothing fits.
    """
    if memory_gib <= 0 or dimensions not in (2, 3):
        raise ConfigError(
            f"planning needs memory_gib > 0 and 2 or 3 dimensions, got {memory_gib}, {dimensions}"
        )
    budget = _Budget(USABLE * memory_gib * 2**30 / BYTES, first_features, max_features, channels)
    spacing_mm = target_spacing(fingerprint.spacings_mm)
    while True:
        whole = _median_shape(fingerprint, spacing_mm)[-dimensions:]
        patch = _fitting_patch(whole, spacing_mm[-dimensions:], budget, batch)
        shown = math.prod(min(p, n) / n for p, n in zip(patch, whole, strict=True))
        if dimensions == 2 or shown >= COVERAGE:
            break
        spacing_mm = _coarser(spacing_mm)
    strides = _strides(patch, spacing_mm[-dimensions:])
    return Plan(
        spacing_mm=spacing_mm,
        patch=patch,
        strides=strides,
        features=budget.features(len(strides)),
        ranges_hu=(_rounded(fingerprint.foreground_hu),),
        batch=batch,
    )


@dataclass(frozen=True)
class _Budget:
    """How many values may be kept, and how wide levels are."""

    values: float
    first_width: int
    max_width: int
    channels: int

    def features(self, levels: int) -> tuple[int, ...]:
        return tuple(min(self.first_width * 2**level, self.max_width) for level in range(levels))

    def needed(self, patch: tuple[int, ...], strides: tuple[tuple[int, ...], ...]) -> float:
        """Values kept for one patch: feature maps of every level, and the class scores."""
        voxels = float(math.prod(patch))
        needed = KEPT_MAPS / 2 * self.channels * voxels
        for stride, features in zip(strides, self.features(len(strides)), strict=True):
            voxels /= math.prod(stride)
            needed += KEPT_MAPS * features * voxels
        return needed


def target_spacing(spacings_mm: Sequence[SpacingMm]) -> SpacingMm:
    """The median along each axis; along one that is ANISOTROPY times as coarse as the others,
    the 10th percentile, as resampling costs least where slices are thin already."""
    all_mm = np.array(spacings_mm)
    median = np.median(all_mm, axis=0)
    worst = int(np.argmax(median))
    others = np.delete(median, worst)
    if median[worst] > ANISOTROPY * others.max():
        median[worst] = max(np.percentile(all_mm[:, worst], 10), others.max())
    slice_mm, row_mm, column_mm = median.tolist()
    return slice_mm, row_mm, column_mm


def _median_shape(fingerprint: Fingerprint, spacing_mm: SpacingMm) -> tuple[int, ...]:
    """The median volume's size in voxels of this spacing."""
    sizes_mm = np.array(fingerprint.spacings_mm) * np.array(fingerprint.shapes)
    return tuple(max(1, round(n)) for n in np.median(sizes_mm, axis=0) / spacing_mm)


def _fitting_patch(
    whole: tuple[int, ...], spacing_mm: tuple[float, ...], budget: _Budget, batch: int
) -> tuple[int, ...]:
    """The median volume, shrunk until `batch` of them fit; divisible by the strides."""
    patch = _divisible(whole, spacing_mm)
    while batch * budget.needed(patch, _strides(patch, spacing_mm)) > budget.values:
        strides = np.prod(_strides(patch, spacing_mm), axis=0)
        longest = int(np.argmax([p / n for p, n in zip(patch, whole, strict=True)]))
        smaller = list(patch)
        smaller[longest] -= int(strides[longest])
        if smaller[longest] < MIN_FEATURE_MAP:
            raise ConfigError("planning: no patch fits into memory_gib; give more, or a batch of 1")
        patch = _divisible(tuple(smaller), spacing_mm)
    return patch


def _divisible(sizes: tuple[int, ...], spacing_mm: tuple[float, ...]) -> tuple[int, ...]:
    """Sizes rounded down to what the strides that they allow divide."""
    factors = np.prod(_strides(sizes, spacing_mm), axis=0)
    return tuple(max(1, n // f) * f for n, f in zip(sizes, factors.tolist(), strict=True))


def _strides(patch: tuple[int, ...], spacing_mm: tuple[float, ...]) -> tuple[tuple[int, ...], ...]:
    """Halvings from level to level: of the axes that are still long enough and fine enough."""
    size, spacing = np.array(patch, float), np.array(spacing_mm, float)
    strides = [(1,) * len(patch)]
    while True:
        long_enough = size // 2 >= MIN_FEATURE_MAP
        if not long_enough.any():
            return tuple(strides)
        fine_enough = spacing < EVEN_ENOUGH * spacing[long_enough].min()
        halved = np.where(long_enough & fine_enough, 2, 1)
        size, spacing = size / halved, spacing * halved
        strides.append(tuple(int(n) for n in halved))


def _coarser(spacing_mm: SpacingMm) -> SpacingMm:
    """One step: axes much finer than the coarsest first, then all together."""
    finest_first = [mm for mm in spacing_mm if mm < max(spacing_mm) / EVEN_ENOUGH]
    slice_mm, row_mm, column_mm = (
        mm * SPACING_GROWTH if mm in finest_first or not finest_first else mm for mm in spacing_mm
    )
    return slice_mm, row_mm, column_mm


def _rounded(range_hu: tuple[float, float]) -> tuple[float, float]:
    low, high = range_hu
    return float(math.floor(low)), float(max(math.ceil(high), math.floor(low) + 1))


#: At most so many of the voxels within the classes of a volume are sampled for its grey values.
SAMPLES = 100_000


def planned(store: Store, keys: list[str], config: SegmentRun) -> SegmentRun:
    """The run with its segmentation complete, and a network of as many levels as the patch
    allows where the model is a DynUNet without arguments; unchanged where nothing is left to
    planning."""
    section = config.segmentation
    if not isinstance(section, Planned):
        return config
    found = plan(
        fingerprint(store, keys, section),
        memory_gib=section.plan.memory_gib,
        dimensions=section.plan.dimensions,
        channels=len(section.classes) + 1,
        batch=config.train.batch,
    )
    chosen = section.model_dump(exclude={"plan"}) | found.segmentation()
    update: dict[str, Any] = {"segmentation": Segmentation.model_validate(chosen)}
    network = Component.model_validate(found.model())
    if current_path(config.model.target) == network.target and not config.model.args:
        update["model"] = config.model.model_copy(update={"args": network.args})
    return config.model_copy(update=update)


def fingerprint(store: Store, keys: list[str], section: Planned) -> Fingerprint:
    """Spacings and shapes on the patient's axes, and HU within the classes."""
    spacings, shapes, samples = [], [], []
    # Its spacing is not asked for: any will do to name the classes.
    settings = Segmentation(
        **section.model_dump(exclude={"plan"}), spacing_mm=(1.0, 1.0, 1.0), patch=[1, 1]
    )
    for key in keys:
        volume = store.load(key)
        order = WorkingGrid.of(volume, (1.0, 1.0, 1.0)).order
        spacings.append(tuple(volume.spacing_mm[axis] for axis in order))
        shapes.append(tuple(volume.image_hu.shape[axis] for axis in order))
        classes = settings.classes_of(stored_labels(store, key, section.labels))
        inside = np.asarray(volume.image_hu)[(classes > 0) & (classes != IGNORED)]
        samples.append(inside[:: max(1, len(inside) // SAMPLES)])
    return Fingerprint(spacings, shapes, foreground_range_hu(samples))  # type: ignore[arg-type]
