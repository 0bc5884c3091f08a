"""Images that are refused because their de-identification would not be certain."""

from __future__ import annotations

import re

from pydicom.dataset import Dataset
from pydicom.tag import Tag
from pydicom.uid import (
    CTImageStorage,
    EnhancedCTImageStorage,
    LegacyConvertedEnhancedCTImageStorage,
    UID_dictionary,
)

from pipeline.core.refusals import Unreadable
from pipeline.dicom.deidentify.rules import values_of
from pipeline.dicom.read.raw_elements import is_overlay

CT_CLASSES = (CTImageStorage, EnhancedCTImageStorage, LegacyConvertedEnhancedCTImageStorage)
#: Without these, patients and images could not be distinguished, nor CT from colour pictures.
REQUIRED = (
    "PatientID",
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

Reason = tuple[str, str, str]


def uncertain(dataset: Dataset) -> Reason | None:
    """(reason, attribute, value) of an object whose identity cannot be removed for certain.

    None for a CT image that can be de-identified. Raises Unreadable for a damaged one.
    """
    return _of_class(dataset) or _of_content(dataset)


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
    return _of_annotation(dataset)


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
    image_type = values_of(dataset, "ImageType")
    screen = SCREEN_CAPTURE.search(" ".join(image_type))
    if screen:
        return "a picture of a screen or a report", "ImageType", screen.group()
    burned_in = values_of(dataset, "BurnedInAnnotation")
    if burned_in not in ([], ["NO"]):
        return "annotation burned into the pixels", "BurnedInAnnotation", ""
    if not burned_in and image_type[:1] != ["ORIGINAL"] and "AXIAL" not in image_type:
        return "a derived image that may have burned-in annotation", "BurnedInAnnotation", ""
    return None
