"""What happens to a patch and its labels between the working grid and the network.

MONAI's transforms on {"input": HU, "labels": structures, "noise": HU}, each [1, (slices,) rows,
columns]; what MONAI lacks for CT is here. What is random is drawn from the generator that the data
set gives them for each item (pipeline.data.transforms.transformed).
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import torch
from monai.transforms import (
    Compose,
    GaussianSmooth,
    MapTransform,
    RandAffined,
    RandFlipd,
    RandGaussianNoised,
    RandGaussianSmoothd,
    Randomizable,
    RandShiftIntensityd,
    RandSmoothDeformd,
    SpatialPad,
)

from pipeline.config.segmentation import Augmentation, Segmentation

IMAGES = ("input", "labels")
MODES = ("bilinear", "nearest")
#: The range in which gamma bends the grey scale: fat to contrasted vessels.
SOFT_TISSUE_HU = (-200.0, 300.0)
ENHANCEMENT_EDGE_VOXELS = 0.7
#: How often contrast agent is added.
CONTRAST_PROBABILITY = 0.5
#: How often plain noise is added.
NOISE_PROBABILITY = 0.5
#: Of a patch's slices a short scan has this part at least.
SHORTEST_SCAN = 0.25
#: The label of what lies outside of the scan.
OUTSIDE = -1


def segmentation_transforms(settings: Segmentation, named: Sequence[MapTransform] = ()) -> Compose:
    """Noise of a lower dose, then the place, then contrast, grey scale and plain noise; then the
    transforms that the run names (pipeline.data.monai_transforms), and where the scan ends.

    Takes patches of `patch_with_rim` and gives patches of `settings.patch`.
    """
    augment = settings.augment
    return Compose(
        [
            RandNoiseFieldd(augment.low_dose_scale, augment.low_dose_probability),
            *_places(settings),
            RandEnhancementd(augment.enhancement_hu),
            RandGammad(augment.gamma, SOFT_TISSUE_HU),
            RandShiftIntensityd("input", augment.shift_hu, prob=1.0),
            RandGaussianSmoothd("input", *[(0.0, max(augment.blur_voxels, 1e-6))] * 3, prob=0.3),
            _plain_noise(augment),
            *named,
            *([RandShortScand(augment.short_scan)] if settings.dimensions == 3 else []),
        ]
    )


def _plain_noise(augment: Augmentation) -> MapTransform:
    if augment.noise_smooth_voxels:
        return RandSmoothNoised(augment.noise_hu, augment.noise_smooth_voxels)
    return RandGaussianNoised("input", prob=NOISE_PROBABILITY, std=augment.noise_hu)


def _places(settings: Segmentation) -> list[MapTransform]:
    augment, patch = settings.augment, settings.patch
    three = len(patch) == 3
    turn, tilt = (math.radians(d) for d in (augment.rotate_degrees, augment.tilt_degrees))
    moves: list[MapTransform] = [
        RandAffined(
            IMAGES,
            spatial_size=patch,
            prob=1.0,
            # About the slice axis first; in two dimensions there is no other.
            rotate_range=(turn, tilt, tilt) if three else turn,
            scale_range=[augment.scale] * len(patch),
            mode=MODES,
            padding_mode="border",
        )
    ]
    if augment.elastic_voxels:
        knots = [1 + math.ceil(n / augment.elastic_smooth_voxels) for n in patch]
        moves.append(
            RandSmoothDeformd(
                IMAGES,
                spatial_size=patch,
                rand_size=knots,
                prob=0.5,
                field_mode="trilinear" if three else "bilinear",
                align_corners=True,
                # In halves of the patch's largest size.
                def_range=2 * augment.elastic_voxels / max(patch),
                grid_mode=MODES,
                grid_align_corners=True,
            )
        )
    axes = [axis - 3 + len(patch) for axis in augment.flip]
    return moves + [RandFlipd(IMAGES, prob=0.5, spatial_axis=axis) for axis in axes if axis >= 0]


def patch_with_rim(settings: Segmentation) -> tuple[int, int, int]:
    """The (slices, rows, columns) to cut out, so that a scaled and turned patch is inside."""
    slices, rows, columns = settings.patch_voxels
    augment = settings.augment
    turn, tilt = (math.radians(d) for d in (augment.rotate_degrees, augment.tilt_degrees))
    grow = 1 + augment.scale
    wide = [n + math.sin(turn) * other for n, other in ((rows, columns), (columns, rows))]
    high = slices + math.sin(tilt) * max(rows, columns) if settings.dimensions == 3 else 1
    deep = math.ceil(high * grow) if settings.dimensions == 3 else 1
    return deep, math.ceil(wide[0] * grow), math.ceil(wide[1] * grow)


class RandNoiseFieldd(Randomizable, MapTransform):
    """Add the patch's "noise", what a low dose would add, times a factor from 0 to `max_factor`;
    to a share of the patches, `probability`."""

    def __init__(self, max_factor: float, probability: float = 1.0) -> None:
        MapTransform.__init__(self, "input")
        self.max_factor = max_factor
        self.probability = probability

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        patch = dict(data)
        noise = patch.pop("noise", None)
        factor = float(self.R.uniform(0, self.max_factor))
        if self.probability < 1 and self.R.uniform() >= self.probability:
            return patch
        if noise is not None:
            patch["input"] = patch["input"] + noise * factor
        return patch


class RandSmoothNoised(Randomizable, MapTransform):
    """Add noise of a standard deviation from 0 to `deviation_hu`, to half of the patches.

    It is smoothed by a Gaussian whose width along each axis is drawn from 0 to `max_voxels`: noise
    of full resolution that was averaged on a working grid is not white, and that of few photons
    lies in streaks.
    """

    def __init__(self, deviation_hu: float, max_voxels: float) -> None:
        MapTransform.__init__(self, "input")
        self.deviation_hu = deviation_hu
        self.max_voxels = max_voxels

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        if self.R.uniform() >= NOISE_PROBABILITY:
            return dict(data)
        image_hu = data["input"]
        deviation = float(self.R.uniform(0, self.deviation_hu))
        widths = self.R.uniform(0, self.max_voxels, image_hu.ndim - 1).tolist()
        white = torch.as_tensor(self.R.standard_normal(image_hu.shape), dtype=torch.float32)
        noise = GaussianSmooth(widths)(white)
        return {**data, "input": image_hu + noise * (deviation / noise.std().clamp(min=1e-6))}


class RandShortScand(Randomizable, MapTransform):
    """Make a share of the patches, `probability`, what inference sees of a scan that is too short
    for one.

    Some neighbouring slices are kept, moved to the middle, and their first and last repeated
    around them; the labels there are OUTSIDE.
    """

    def __init__(self, probability: float) -> None:
        MapTransform.__init__(self, IMAGES)
        self.probability = probability

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        if not self.probability or self.R.uniform() >= self.probability:
            return dict(data)
        depth = data["input"].shape[1]
        count = int(self.R.randint(max(1, round(SHORTEST_SCAN * depth)), depth + 1))
        first = int(self.R.randint(depth - count + 1))
        image, labels = (data[name][:, first : first + count] for name in IMAGES)
        whole = (depth, -1, -1)
        return {
            **data,
            "input": SpatialPad(whole, mode="edge")(image),
            "labels": SpatialPad(whole, mode="constant", value=OUTSIDE)(labels),
        }


class RandEnhancementd(Randomizable, MapTransform):
    """Brighten or darken every structure of "labels" by a value of its own.

    The values are normal with a standard deviation that is itself drawn, from 0 to twice
    `deviation_hu`, so that patches nearly as they were and strongly contrasted ones both occur.
    After SynthSeg's idea (Billot et al., Medical Image Analysis 2023) that a network which has
    seen every contrast needs none in particular. "contrast", where a patch has it, is what contrast
    agent adds to each structure, by its value: a part of it is added to a share of the patches,
    CONTRAST_PROBABILITY.
    """

    def __init__(self, deviation_hu: float) -> None:
        MapTransform.__init__(self, "input")
        self.deviation_hu = deviation_hu
        self.edge = GaussianSmooth(ENHANCEMENT_EDGE_VOXELS)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        patch = dict(data)
        labels, contrast = patch["labels"], patch.pop("contrast", None)
        count = int(labels.max()) + 1
        deviation = self.R.uniform(0, 2 * self.deviation_hu)
        offsets = torch.as_tensor(deviation * self.R.standard_normal(count), dtype=torch.float32)
        if contrast is not None and self.R.uniform() < CONTRAST_PROBABILITY:
            parts = self.R.uniform() * self.R.uniform(0.5, 1.5, count)
            offsets += contrast[:count] * torch.as_tensor(parts, dtype=torch.float32)
        offsets[0] = 0  # what is in no structure: air, fat, clothes and couch
        patch["input"] = patch["input"] + self.edge(offsets[labels.long().clamp(min=0)])
        return patch


class RandGammad(Randomizable, MapTransform):
    """Bend the grey scale within [low, high] HU by a gamma; what lies outside stays as it is."""

    def __init__(self, max_factor: float, range_hu: tuple[float, float]) -> None:
        MapTransform.__init__(self, "input")
        self.max_factor = max_factor
        self.low, self.high = range_hu

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        reach = math.log1p(self.max_factor)
        gamma = math.exp(self.R.uniform(-reach, reach))
        image_hu = data["input"]
        inside = image_hu.clamp(self.low, self.high)
        unit = (inside - self.low) / (self.high - self.low)
        bent = self.low + (self.high - self.low) * unit.pow(gamma)
        return {**data, "input": image_hu - inside + bent}
