"""Images that are refused because their de-identification would not be certain."""

from __future__ import annotations

import re
from pathlib import Path

from pydicom.dataset import Dataset
from pydicom.tag import Tag
from pydicom.uid import (
    CTImageStorage,
    EnhancedCTImageStorage,
    LegacyConvertedEnhancedCTImageStorage,
    UID_dictionary,
)

from pipeline.core.refusals import Disposition, Refusal, Unreadable
from pipeline.dicom.deidentify.rules import values_of
from pipeline.dicom.read.raw_elements import is_overlay

CT_CLASSES = (CTImageStorage, EnhancedCTImageStorage, LegacyConvertedEnhancedCTImageStorage)
#: Without these, studies and images could not be distinguished, nor CT from colour pictures.
REQUIRED = (
    "StudyInstanceUID",
    "SeriesInstanceUID",
    "SOPInstanceUID",
    "SOPClassUID",
    "SamplesPerPixel",
)
#: ImageType values of pictures of text that are stored as CT: dose reports, protocols, screens.
SCREEN_CAPTURE = re.compile("SCREEN|DOSE|PROT|REPORT|CAPTURE|SUMMARY|CHART|GRAPH|TEXT")
#: OverlayBitsAllocated and OverlayBitPosition of an overlay outside the pixels (PS3.3 C.9.2).
SEPARATE_OVERLAY = {0x0100: ["1"], 0x0102: ["0"]}

#: ImageType values of pictures that are painted, not measured: programs write text beside them.
RENDERED = re.compile(r"VRT|VOLREN|VOLUME.?REND|RENDER|3D|SSD|SNAP|PASTE|FUSION|FUSED")
#: What an image has that is a slice of the patient, whatever its ImageType says (PS3.3 C.7.6.2).
PLACE = ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing")
LOOKED = "; if you have looked and it holds no identity, --trust-pixels"

Reason = tuple[str, str, str]


def uncertain(dataset: Dataset, *, trust_pixels: bool = False) -> Refusal | None:
    """The reason, as a Refusal of no path, why an object's identity cannot be removed for certain.

    None for a CT image that can be de-identified. Another object is excluded, a CT image
    quarantined. trust_pixels: as Options has it. Raises Unreadable for a damaged one.
    """
    if reason := _of_class(dataset):
        return Refusal(Path(), Disposition.EXCLUDED, *reason)
    reason = _of_content(dataset) or (None if trust_pixels else _of_annotation(dataset))
    return Refusal(Path(), Disposition.QUARANTINED, *reason) if reason else None


def _of_class(dataset: Dataset) -> Reason | None:
    meta = str(dataset.file_meta.get("MediaStorageSOPClassUID", ""))
    kind = " ".join(values_of(dataset, "SOPClassUID")) or meta
    if kind in CT_CLASSES or not kind:
        return None
    if kind not in UID_dictionary:
        return "not a CT image but an object of no standard class", "SOPClassUID", ""
    return f"not a CT image but {UID_dictionary[kind][0]}", "SOPClassUID", kind


def _of_content(dataset: Dataset) -> Reason | None:
    require_whole(dataset)
    if values_of(dataset, "SamplesPerPixel") != ["1"]:
        return "a picture in colour, as of a screen", "SamplesPerPixel", ""
    if values_of(dataset, "ConversionType"):
        return "a secondary capture, though filed as CT", "ConversionType", ""
    stated = [
        tag for tag in list(dataset.keys()) if is_overlay(tag) and tag.element in SEPARATE_OVERLAY
    ]
    if any(values_of(dataset, tag) != SEPARATE_OVERLAY[tag.element] for tag in stated):
        return "an overlay in the unused bits of the pixels", "OverlayBitPosition", ""
    return None


def require_whole(dataset: Dataset) -> None:
    """Raises Unreadable where an attribute of REQUIRED or the pixels are missing or cut short."""
    for keyword in REQUIRED:
        if not "".join(values_of(dataset, keyword)):
            raise Unreadable(f"{keyword} missing or empty", keyword)
    if "PixelData" not in dataset:
        raise Unreadable("no pixel data", "PixelData")
    pixels = dataset.get_item(Tag("PixelData"))
    if len(pixels.value or b"") < pixels.length < 0xFFFFFFFF:
        raise Unreadable("the file ends within its pixels", "PixelData")


def _of_annotation(dataset: Dataset) -> Reason | None:
    """Evidence of text in the pixels. That BurnedInAnnotation (type 3) is absent is none of a
    slice of the patient: reformatted ones mostly lack it."""
    image_type = " ".join(values_of(dataset, "ImageType")).upper()
    screen = SCREEN_CAPTURE.search(image_type)
    if screen:
        return f"a picture of a screen or a report{LOOKED}", "ImageType", screen.group()
    burned_in = values_of(dataset, "BurnedInAnnotation")
    if burned_in not in ([], ["NO"]):
        return f"annotation burned into the pixels{LOOKED}", "BurnedInAnnotation", ""
    rendered = RENDERED.search(image_type)
    if not burned_in and rendered:
        return f"a rendering, which may have text in it{LOOKED}", "ImageType", rendered.group()
    if not burned_in and not all("".join(values_of(dataset, name)) for name in PLACE):
        reason = f"no slice of the patient, and not said to be without text{LOOKED}"
        return reason, "BurnedInAnnotation", ""
    return None
