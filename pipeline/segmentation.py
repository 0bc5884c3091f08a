"""What a segmentation is: which classes, on what working grid, learned from what patches.

Plain settings that a run's YAML holds. `pipeline.planning` finds the numbers that depend on the
data; whoever knows better writes other ones.
"""

from __future__ import annotations

from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from pipeline.settings import Positive, Strict

#: A voxel of this class is not known: it neither teaches nor counts.
IGNORED = 255
BACKGROUND = 0

Probability = Annotated[float, Field(ge=0, le=1)]
NotNegative = Annotated[float, Field(ge=0)]
RangeHU = tuple[float, float]
Axis = Annotated[int, Field(ge=0, le=2)]


class Augmentation(Strict):
    """How far a training patch may be taken from its original; 0 leaves a kind out.

    The ranges are half widths: a value of 0.2 for `scale` draws factors from 0.8 to 1.2.
    """

    #: Of working axes (slice, row, column) that patches may be mirrored along. Along columns
    #: left becomes right: leave it out where a class has a side.
    flip: tuple[Axis, ...] = ()
    rotate_degrees: NotNegative = 15.0
    #: About the two other axes, in three dimensions.
    tilt_degrees: NotNegative = 5.0
    scale: Annotated[float, Field(ge=0, lt=1)] = 0.25
    #: Elastic displacement at most, and how far it is smooth, in voxels.
    elastic_voxels: NotNegative = 3.0
    elastic_smooth_voxels: Positive = 6.0
    #: Each structure of the label map gets a contrast of its own, of this standard deviation:
    #: a scan without contrast agent then also stands for the phases with it.
    enhancement_hu: NotNegative = 30.0
    #: Gamma within the soft-tissue range, drawn from 1 / (1 + gamma) to 1 + gamma.
    gamma: NotNegative = 0.3
    shift_hu: NotNegative = 15.0
    noise_hu: NotNegative = 30.0
    #: Blurred by a Gaussian of up to so many voxels.
    blur_voxels: NotNegative = 1.0
    #: The degradation's noise, times a factor from 0 to this.
    low_dose_scale: NotNegative = 1.0


class Segmentation(Strict):
    """Classes, the working grid and the patches.

    classes: the values of the label map that make up each class. What no class lists is
    background; `ignored` values are not known. Class n of the network's output is the nth name,
    counted from 1. spacing_mm is (slice, row, column). patch has three sizes, or two for a
    network in two dimensions.
    """

    classes: Annotated[dict[str, list[Annotated[int, Field(ge=1, le=65535)]]], Field(min_length=1)]
    ignored: tuple[Annotated[int, Field(ge=0, le=65535)], ...] = ()
    spacing_mm: tuple[Positive, Positive, Positive]
    patch: Annotated[list[Annotated[int, Field(ge=1)]], Field(min_length=2, max_length=3)]
    #: Patches centred on a class drawn at random, and not just anywhere in a volume.
    foreground: Probability = 0.75
    augment: Augmentation = Augmentation()
    #: Each gives the network a channel: HU clipped to [low, high], which become -1 and 1.
    ranges_hu: Annotated[tuple[tuple[float, float], ...], Field(min_length=1)] = (
        (-1000.0, 1000.0),
    )
    #: Mirrored along these working axes at inference, and averaged.
    test_time_flips: tuple[Axis, ...] = ()
    #: Of neighbouring windows at inference.
    overlap: Annotated[float, Field(ge=0, lt=1)] = 0.5

    @model_validator(mode="after")
    def _unambiguous(self) -> Segmentation:
        listed = [*self.ignored, *(value for values in self.classes.values() for value in values)]
        twice = sorted({value for value in listed if listed.count(value) > 1})
        if twice:
            raise ValueError(f"classes: label {twice[0]} is listed more than once")
        empty = [name for name, values in self.classes.items() if not values]
        if empty:
            raise ValueError(f"classes: {empty[0]} lists no label")
        if len(self.classes) >= IGNORED:
            raise ValueError(f"classes: {len(self.classes)} do not fit into 8 bits")
        if any(low >= high for low, high in self.ranges_hu):
            raise ValueError(f"ranges_hu: expected low < high in each, got {self.ranges_hu}")
        return self

    @property
    def dimensions(self) -> int:
        return len(self.patch)

    @property
    def channels(self) -> int:
        """Of the network's output: the classes and the background."""
        return len(self.classes) + 1

    @property
    def patch_voxels(self) -> tuple[int, int, int]:
        """The patch as (slices, rows, columns); one slice in two dimensions."""
        slices, rows, columns = [1, *self.patch][-3:]
        return slices, rows, columns

    def classes_of(self, labels: NDArray[np.integer]) -> NDArray[np.uint8]:
        """A label map as class numbers: 0 background, 1 the first class, IGNORED not known."""
        table = np.zeros(65536, dtype=np.uint8)
        for number, values in enumerate(self.classes.values(), start=1):
            table[values] = number
        table[list(self.ignored)] = IGNORED
        return table[labels]
