"""What a segmentation is: which classes, on what working grid, learned from what patches.

Plain settings that a run's YAML holds. `pipeline.data.planning` finds the numbers that depend on
the data; whoever knows better writes other ones.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Any, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from pipeline.config.sections import Normalize, Positive, Strict
from pipeline.config.totalsegmentator import CLASSES
from pipeline.core.label_groups import values_of_groups
from pipeline.core.label_map import MAX_VALUE, LabelMap

#: A voxel of this class is not known: it neither teaches nor counts.
IGNORED = 255
#: A voxel of none of the classes that its label map lists, where that does not list all: it may be
#: of one that is not listed (Structures.unlisted).
NOT_LISTED = 254
BACKGROUND = 0

Probability = Annotated[float, Field(ge=0, le=1)]
NotNegative = Annotated[float, Field(ge=0)]
#: A structure of a label map: its name, in any case of letters, or its value.
Structure = str | Annotated[int, Field(ge=1, le=65535)]
Members = Annotated[list[Structure], Field(min_length=1)]
RangeHU = tuple[float, float]
Axis = Annotated[int, Field(ge=0, le=2)]
#: Where the working grid's slices, rows and columns run to (pipeline.data.working_grid), and the
#: letter of that axis by the letter of either of its ends.
WORKING_AXES = "SPL"
WORKING_AXIS = {"S": "S", "I": "S", "P": "P", "A": "P", "L": "L", "R": "L"}


class Augmentation(Strict):
    """How far a training patch may be taken from its original; 0 leaves a kind out.

    The ranges are half widths: a value of 0.2 for `scale` draws factors from 0.8 to 1.2.
    """

    #: Of working axes (slice, row, column) that patches may be mirrored along. Along columns
    #: left becomes right: leave it out where a class has a side.
    flip: tuple[Axis, ...] = ()
    #: In the plane of rows and columns.
    rotate_degrees: NotNegative = 15.0
    #: About the two other axes, in three dimensions.
    tilt_degrees: NotNegative = 5.0
    #: Factors from 1 - scale to 1 + scale.
    scale: Annotated[float, Field(ge=0, lt=1)] = 0.25
    #: The largest elastic displacement.
    elastic_voxels: NotNegative = 3.0
    #: Over how far that displacement is smooth.
    elastic_smooth_voxels: Positive = 6.0
    #: Each structure of the label map gets a contrast of its own, of this standard deviation:
    #: a scan without contrast agent then also stands for the phases with it.
    enhancement_hu: NotNegative = 30.0
    #: What contrast agent raises a class's median HU to, where it is lower: half of the patches get
    #: a part of it, from none to all, common to their classes but for half as much of their own.
    contrast_hu: dict[str, float] = Field(default_factory=dict)
    #: Gamma within the soft-tissue range, drawn from 1 / (1 + gamma) to 1 + gamma.
    gamma: NotNegative = 0.3
    #: Added to all of a patch.
    shift_hu: NotNegative = 15.0
    #: The standard deviation of white noise, at most.
    noise_hu: NotNegative = 30.0
    #: Blurred by a Gaussian of up to so many voxels.
    blur_voxels: NotNegative = 1.0
    #: Over how far that noise is smooth, at most, along each axis by a draw of its own: blobs, and
    #: the streaks of a low dose. 0 leaves it white.
    noise_smooth_voxels: NotNegative = 0.0
    #: The degradation's noise, times a factor from 0 to this.
    low_dose_scale: NotNegative = 1.0
    #: How often the degradation's noise is added at all.
    low_dose_probability: Probability = 1.0
    #: How often a patch becomes one of a scan that ends within it, from a quarter of its slices on:
    #: what lies beyond is the repeated rim, as at inference. In three dimensions.
    short_scan: Probability = 0.0


class Planning(Strict):
    """What training may take, in how many dimensions."""

    #: What training may take.
    memory_gib: Positive = 8.0
    #: Of the network.
    dimensions: Literal[2, 3] = 3


class Structures(Strict):
    """What a segmenter is to find, and how it learns."""

    #: Which of a series' label maps teach: files found beside it at ingest, of this kind
    #: (pipeline.labels.read), or what pipeline.core.masks finds by threshold.
    labels: Literal["mask", "seg", "rtstruct", "lidc", "body", "lungs"] = "mask"
    #: The structures of the label map that make up each class, by name or value. What no class
    #: lists is background. Class n of the network's output is the nth name, counted from 1.
    classes: Annotated[dict[str, Members], Field(min_length=1)]
    #: Structures that are not known: they neither teach nor count.
    ignored: tuple[Structure, ...] = ()
    #: What the values of a label map without names of its own are called, all of which its files
    #: then list (pipeline.config.totalsegmentator). A mask of the value 1 alone is not named so.
    label_names: Literal["totalsegmentator"] | None = None
    #: A class of which a label map lists no structure is not there (background), or was not
    #: labelled (unknown): it is then not measured, and background teaches the other classes alone.
    #: A class of several structures of which some are missing is unknown too, and so is what is
    #: listed of it; a structure that is named as the class is all of it.
    unlisted: Literal["background", "unknown"] = "background"
    #: What is found outside of the body, on the couch or in the corners, is background: the body
    #: of each slice by threshold, with arms and legs (pipeline.core.masks.patient_mask).
    within_body: bool = False
    #: Classes that are one connected piece in a patient: of what is found, the largest is kept.
    single_piece: list[str] = Field(default_factory=list)
    #: Patches centred on a class drawn at random, and not just anywhere in a volume.
    foreground: Probability = 0.75
    #: How training patches are changed at random.
    augment: Augmentation = Augmentation()
    #: Mirrored along these working axes at inference, and averaged.
    test_time_flips: tuple[Axis, ...] = ()
    #: Of neighbouring windows at inference.
    overlap: Annotated[float, Field(ge=0, lt=1)] = 0.5

    def named(self, labelmap: LabelMap) -> LabelMap:
        """A label map with the names of `label_names`, where it has none of its own.

        One whose only value is 1 is a mask of what its file does not say: it gets none.
        """
        own = any(name != f"label {value}" for value, name in labelmap.names.items())
        if self.label_names is None or own or set(labelmap.names) == {1}:
            return labelmap
        return replace(labelmap, names={**labelmap.names, **dict(enumerate(CLASSES, start=1))})

    def not_listed(self, labelmap: LabelMap) -> set[str]:
        """The classes that a label map says nothing or not all of, where those are unknown."""
        if self.unlisted == "background":
            return set()
        listed = self.named(labelmap).names
        known = {*listed, *(name.casefold() for name in listed.values())}

        def has(structure: Structure) -> bool:
            return (structure.casefold() if isinstance(structure, str) else structure) in known

        def is_whole(name: str, members: Members) -> bool:
            parts = [member for member in members if member != name]
            return (name in members and has(name)) or (bool(parts) and all(map(has, parts)))

        return {name for name, members in self.classes.items() if not is_whole(name, members)}

    @model_validator(mode="after")
    def _unambiguous(self) -> Self:
        listed = [*self.ignored, *(one for members in self.classes.values() for one in members)]
        twice = next((one for one in listed if listed.count(one) > 1), None)
        if twice is not None:
            raise ValueError(f"classes: {twice} is listed more than once")
        other = next((name for name in self.single_piece if name not in self.classes), None)
        if other is not None:
            raise ValueError(f"single_piece: {other} is none of the classes")
        other = next((name for name in self.augment.contrast_hu if name not in self.classes), None)
        if other is not None:
            raise ValueError(f"augment.contrast_hu: {other} is none of the classes")
        if len(self.classes) >= NOT_LISTED:
            raise ValueError(f"classes: {len(self.classes)} do not fit into 8 bits")
        return self


class Planned(Structures):
    """A segmentation whose grid, patch and grey ranges pipeline.data.planning is to find."""

    #: In place of spacing, patch and ranges, which are found from the data.
    plan: Planning


class Segmentation(Structures):
    """A segmentation with its grid, complete."""

    #: Of the working grid: slice, row, column.
    spacing_mm: tuple[Positive, Positive, Positive]
    #: Three sizes, or two for a network in two dimensions.
    patch: Annotated[list[Annotated[int, Field(ge=1)]], Field(min_length=2, max_length=3)]
    #: Each gives the network a channel: HU clipped to [low, high], which become -1 and 1.
    ranges_hu: Annotated[tuple[RangeHU, ...], Field(min_length=1)] = ((-1000.0, 1000.0),)
    #: Of a network from elsewhere: the clipped HU become (HU - centre) / scale instead.
    normalize_hu: Normalize | None = None
    #: Of a network from elsewhere: where its (slices,) rows and columns run to, each a letter of
    #: left, right, posterior, anterior, superior, inferior, such as RAS. By default SPL, or PL.
    axes: Annotated[str, Field(pattern=r"^[LRPASI]{2,3}$")] | None = None
    #: Of a network of nnU-Net: resampled, windowed and brought back as nnU-Net does it, by cubic
    #: splines and logits, with this spacing and overlap. In two dimensions slices stay where they
    #: lie, and the first number of spacing_mm is not used.
    as_nnunet: bool = False
    #: Sizes that the network takes divide by it.
    multiple: Annotated[int, Field(ge=1)] = 16

    @model_validator(mode="after")
    def _ranges_in_order(self) -> Self:
        if any(low >= high for low, high in self.ranges_hu):
            raise ValueError(f"ranges_hu: expected low < high in each, got {self.ranges_hu}")
        return self

    @model_validator(mode="after")
    def _every_axis_once(self) -> Self:
        named = sorted(WORKING_AXIS[letter] for letter in self.axes or "")
        if self.axes and named != sorted(WORKING_AXES[-self.dimensions :]):
            raise ValueError(
                f"axes: {self.axes} does not name each of {self.dimensions} directions once"
            )
        return self

    @property
    def dimensions(self) -> int:
        """Of the network: 2 or 3."""
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

    def table(self, labelmap: LabelMap) -> NDArray[np.uint8]:
        """The class number of each value of a label map: 0 background, 1 the first class,
        IGNORED not known. Raises ConfigError where two classes claim the same voxels."""
        groups: dict[str, list[Structure]] = {**self.classes, "": list(self.ignored)}
        table = np.zeros(MAX_VALUE + 1, dtype=np.uint8)
        found = values_of_groups(self.named(labelmap), groups)
        unknown = {"", *self.not_listed(labelmap)}
        for number, name in enumerate(groups, start=1):
            table[found[name]] = IGNORED if name in unknown else number
        return table

    def classes_of(self, labelmap: LabelMap) -> NDArray[np.uint8]:
        """A label map as class numbers."""
        return self.table(labelmap)[labelmap.labels]

    def labelmap_of(self, classes: NDArray[np.uint8], source: dict[str, Any]) -> LabelMap:
        """Class numbers as a label map whose structures are the classes."""
        return LabelMap(classes, dict(enumerate(self.classes, start=1)), source)


def planned_or_complete(section: Any) -> str:
    """Whether a `segmentation:` section is to be planned; the tag of its type."""
    planned = "plan" in section if isinstance(section, dict) else isinstance(section, Planned)
    return "planned" if planned else "complete"
