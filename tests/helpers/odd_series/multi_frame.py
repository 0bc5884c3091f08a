"""All slices of a case as one Enhanced CT or Legacy Converted file (PS3.3 A.38, A.70)."""

from __future__ import annotations

import random
import struct

from pydicom.datadict import tag_for_keyword
from pydicom.uid import EnhancedCTImageStorage, LegacyConvertedEnhancedCTImageStorage

from helpers.odd_series.case import OddSeries
from helpers.odd_series.encoding import PIXEL_DATA, Element, number, sequence, text
from helpers.odd_series.slices import pixels_of, slice_elements, sop_uid, stream_of

#: Attributes of a slice by the functional group that holds them (PS3.3 C.7.6.16.2, C.8.15.3).
GROUPS = {
    "PixelMeasuresSequence": ("PixelSpacing", "SliceThickness"),
    "PlaneOrientationSequence": ("ImageOrientationPatient",),
    "PlanePositionSequence": ("ImagePositionPatient",),
    "PixelValueTransformationSequence": ("RescaleSlope", "RescaleIntercept", "RescaleType"),
    "FrameVOILUTSequence": ("WindowCenter", "WindowWidth"),
    "CTXRayDetailsSequence": ("KVP",),
    "CTReconstructionSequence": ("ConvolutionKernel", "ReconstructionDiameter"),
}
ALWAYS_PER_FRAME = ("PlanePositionSequence", "PixelValueTransformationSequence")
CLASSES = {
    "enhanced": EnhancedCTImageStorage,
    "legacy": LegacyConvertedEnhancedCTImageStorage,
}


def multi_frame(case: OddSeries) -> tuple[list[Element], str, str]:
    """The file's elements, and its class and instance UIDs; frames in an order of their own."""
    order = list(range(case.geometry.slices))
    random.Random(case.storage.shuffle_seed).shuffle(order)
    frames = [slice_elements(case, index) for index in order]
    sop_class = CLASSES[case.storage.multi_frame]
    uid = sop_uid(case, 999, 0)
    grouped = {tag_for_keyword(name) for names in GROUPS.values() for name in names}
    left_out = {*grouped, tag_for_keyword("InstanceNumber"), PIXEL_DATA}
    whole = [element for element in frames[0] if element.tag not in left_out]
    replaced = [
        text("SOPInstanceUID", uid),
        *([] if case.header.class_in_meta else [text("SOPClassUID", sop_class)]),
        text("NumberOfFrames", str(len(frames))),
        text("InstanceNumber", "1"),
        *_functional_groups(case, frames, order),
        _pixel_data(case, order),
    ]
    by_tag = {element.tag: element for element in whole + replaced}
    return list(by_tag.values()), sop_class, uid


def _functional_groups(
    case: OddSeries, frames: list[list[Element]], order: list[int]
) -> list[Element]:
    """What all frames have in common may be shared; `per_frame` repeats it in each."""
    repeated = (*ALWAYS_PER_FRAME, *(GROUPS if case.storage.per_frame else ()))
    shared = [_group(name, frames[0]) for name in GROUPS if name not in repeated]
    items = [
        [_frame_content(index), *(_group(name, frame) for name in dict.fromkeys(repeated))]
        for index, frame in zip(order, frames, strict=True)
    ]
    return [
        sequence("SharedFunctionalGroupsSequence", shared),
        sequence("PerFrameFunctionalGroupsSequence", *items),
    ]


def _group(name: str, frame: list[Element]) -> Element:
    tags = {tag_for_keyword(keyword) for keyword in GROUPS[name]}
    return sequence(name, [element for element in frame if element.tag in tags])


def _frame_content(index: int) -> Element:
    return sequence(
        "FrameContentSequence",
        [text("StackID", "1"), number("InStackPositionNumber", index + 1)],
    )


def _pixel_data(case: OddSeries, order: list[int]) -> Element:
    """Frames end to end, or each in a fragment of its own with or without a table of offsets."""
    pixels = [pixels_of(case, index) for index in order]
    if not case.storage.is_compressed:
        content = b"".join(one.cells.tobytes() for one in pixels)
        return Element(PIXEL_DATA, case.storage.pixel_vr, content)
    streams = [stream_of(case, one) for one in pixels]
    offsets = [sum(len(stream) + 8 for stream in streams[:n]) for n in range(len(streams))]
    table = struct.pack(f"<{len(offsets)}I", *offsets) if case.storage.offsets else b""
    return Element(PIXEL_DATA, "OB", fragments=(table, *streams))
