"""The functional groups of an Enhanced CT Image's frame, from the frame as a CT Image.

PS3.3 A.38.1.4 lists the groups, C.7.6.16.2 and C.8.15.3 define them. Those of the acquisition,
required of original images alone, ask for more than a CT Image holds, and are left out. Values
are copied as they were read: highdicom's classes for some of the groups write decimals in another
form.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from pydicom.datadict import tag_for_keyword
from pydicom.dataset import Dataset
from pydicom.tag import BaseTag

from pipeline.core.errors import LdctError
from pipeline.dicom.read.compare_elements import same_element
from pipeline.dicom.read.raw_elements import RawDataset
from pipeline.dicom.read.slice_requirements import has_window, is_empty, optional_number

Code = tuple[str, str, str]

#: Attributes that a group takes as they are, where the image has them.
COPIED = {
    "PixelMeasuresSequence": ("PixelSpacing", "SliceThickness"),
    "PlanePositionSequence": ("ImagePositionPatient",),
    "PlaneOrientationSequence": ("ImageOrientationPatient",),
    "DerivationImageSequence": (
        "DerivationDescription",
        "DerivationCodeSequence",
        "SourceImageSequence",
    ),
    "IrradiationEventIdentificationSequence": ("IrradiationEventUID",),
}
#: Attributes without which there is no Enhanced CT Image, and that nothing else stands for.
REQUIRED = ("SliceThickness", "PixelSpacing", "ImagePositionPatient", "ImageOrientationPatient")
WINDOW = ("WindowCenter", "WindowWidth", "WindowCenterWidthExplanation", "VOILUTFunction")
#: Soft tissue, for a source that states no window: the group must.
DEFAULT_WINDOW_HU = ("40", "400")
#: By BodyPartExamined: PS3.16 annex L.
REGIONS: dict[str, Code] = {
    "ABDOMEN": ("818981001", "SCT", "Abdomen"),
    "ABDOMENPELVIS": ("818982008", "SCT", "Abdomen and Pelvis"),
    "BRAIN": ("12738006", "SCT", "Brain"),
    "CHEST": ("816094009", "SCT", "Chest"),
    "CHESTABDOMEN": ("416550000", "SCT", "Chest and Abdomen"),
    "CHESTABDPELVIS": ("416775004", "SCT", "Chest, Abdomen and Pelvis"),
    "HEAD": ("69536005", "SCT", "Head"),
    "LIVER": ("10200004", "SCT", "Liver"),
    "NECK": ("45048000", "SCT", "Neck"),
    "PELVIS": ("816092008", "SCT", "Pelvis"),
    "SPINE": ("421060004", "SCT", "Spine"),
    "THORAX": ("816094009", "SCT", "Chest"),
}
#: Where the source does not say which: true of every part, as "Entire body" would not be.
ANY_REGION: Code = ("91723000", "SCT", "Anatomical structure")
#: PS3.3 C.8.16.1: values 2 to 4 of a derived frame; no SECONDARY in a multi-frame image.
FRAME_TYPE = ("DERIVED", "PRIMARY", "VOLUME", "NONE")

Groups = dict[str, Dataset]


class SharedAndPerFrame(NamedTuple):
    """The functional groups of all frames together, and of each frame."""

    shared: Dataset
    per_frame: list[Dataset]


def functional_groups(images: Sequence[RawDataset]) -> SharedAndPerFrame:
    """The groups of these CT Images as the frames of one object, in this order.

    Raises LdctError for an image without what a group must state.
    """
    frames = [_groups_of(image) for image in images]
    names = {name for groups in frames for name in groups}
    shared = {name for name in names if _is_alike(name, frames)}
    per_frame = [
        _wrapped({name: item for name, item in groups.items() if name not in shared})
        for groups in frames
    ]
    for number, groups in enumerate(per_frame, start=1):
        groups.FrameContentSequence = [_frame_content(images[number - 1], number)]
    return SharedAndPerFrame(_wrapped({name: frames[0][name] for name in shared}), per_frame)


def describe_pixels(target: Dataset) -> None:
    """What C.8.16.2.1 asks of a frame's type, and of the image as a whole."""
    target.PixelPresentation = "MONOCHROME"
    target.VolumetricProperties = "VOLUME"
    target.VolumeBasedCalculationTechnique = "NONE"


def _groups_of(image: RawDataset) -> Groups:
    for name in REQUIRED:
        if is_empty(image.dataset, name):
            raise LdctError(
                f"{name} is missing: an Enhanced CT image must state it; leave out --enhanced"
            )
    found = {group: copied(image, names) for group, names in COPIED.items()}
    more: dict[str, Callable[[RawDataset], Dataset]] = {
        "PixelValueTransformationSequence": _rescale,
        "FrameVOILUTSequence": _window,
        "FrameAnatomySequence": _anatomy,
        "CTImageFrameTypeSequence": _frame_type,
    }
    found |= {group: make(image) for group, make in more.items()}
    return {group: item for group, item in found.items() if item}


def copied(image: RawDataset, names: Sequence[str]) -> Dataset:
    """An item with these attributes of an image as they were read, without empty ones."""
    present = [name for name in names if not is_empty(image.dataset, name)]
    tags = [BaseTag(tag_for_keyword(name) or 0) for name in present]
    return Dataset({tag: image.elements[tag] for tag in tags})


def _rescale(image: RawDataset) -> Dataset:
    item = copied(image, ("RescaleSlope", "RescaleIntercept", "RescaleType"))
    if "RescaleType" not in item:
        item.RescaleType = "HU"  # as it was read (PS3.3 C.11.1.1.2)
    return item


def _window(image: RawDataset) -> Dataset:
    if has_window(image.dataset):
        return copied(image, WINDOW)
    item = Dataset()
    item.WindowCenter, item.WindowWidth = DEFAULT_WINDOW_HU
    return item


def _anatomy(image: RawDataset) -> Dataset:
    part = "".join(filter(str.isalnum, str(image.dataset.get("BodyPartExamined") or ""))).upper()
    region, item = Dataset(), Dataset()
    value, designator, meaning = REGIONS.get(part, ANY_REGION)
    region.CodeValue, region.CodingSchemeDesignator, region.CodeMeaning = value, designator, meaning
    laterality = str(image.dataset.get("Laterality") or "").strip()
    item.FrameLaterality = laterality if laterality in ("L", "R") else "U"
    item.AnatomicRegionSequence = [region]
    return item


def _frame_type(image: RawDataset) -> Dataset:
    item = Dataset()
    item.FrameType = list(FRAME_TYPE)
    describe_pixels(item)
    return item


def _frame_content(image: RawDataset, number: int) -> Dataset:
    """Also the frame's place among the dimensions: stack, and position in it."""
    item = Dataset()
    item.StackID = "1"
    item.InStackPositionNumber = number
    item.DimensionIndexValues = [1, number]
    acquisition = optional_number(image.dataset, "AcquisitionNumber")
    if acquisition is not None and 0 <= acquisition <= 0xFFFF:
        item.FrameAcquisitionNumber = int(acquisition)
    return item


def _is_alike(name: str, frames: Sequence[Groups]) -> bool:
    """Whether a group means the same in all frames."""
    first = frames[0].get(name)
    if first is None or any(name not in groups for groups in frames):
        return False
    one = RawDataset(first)
    others = [RawDataset(groups[name]) for groups in frames[1:]]
    return all(
        one.elements.keys() == other.elements.keys()
        and all(same_element(tag, one, other) for tag in one.elements)
        for other in others
    )


def _wrapped(groups: Groups) -> Dataset:
    item = Dataset()
    for name, group in sorted(groups.items()):
        setattr(item, name, [group])
    return item
