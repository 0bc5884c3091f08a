"""Rules for a derived image and its source: what must be kept, and what must not."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from pydicom.datadict import keyword_for_tag, tag_for_keyword
from pydicom.dataset import Dataset
from pydicom.tag import BaseTag, Tag

from pipeline.dicom.derived.encode import is_lossy
from pipeline.dicom.derived.image_rules import Finding, stored_in
from pipeline.dicom.derived.provenance import is_difference, is_generated
from pipeline.dicom.derived.write import TAKEN_AS_HU
from pipeline.dicom.read.compare_elements import same_element
from pipeline.dicom.read.enhanced import is_frame
from pipeline.dicom.read.pixels import read_pixels
from pipeline.dicom.read.raw_elements import RawDataset, is_overlay, is_private, walk_items
from pipeline.dicom.read.slice_requirements import has_window, is_empty, says_hu

GEOMETRY = (
    "Rows",
    "Columns",
    "PixelSpacing",
    "ImagePositionPatient",
    "ImageOrientationPatient",
    "SliceThickness",
    "PatientPosition",
    "FrameOfReferenceUID",
)
STUDY = (
    "StudyInstanceUID",
    "StudyID",
    "StudyDate",
    "StudyTime",
    "StudyDescription",
    "AccessionNumber",
    "ReferringPhysicianName",
)
WINDOW = (
    "WindowCenter",
    "WindowWidth",
    "WindowCenterWidthExplanation",
    "VOILUTFunction",
    "VOILUTSequence",
)
VALUES = (
    "BitsAllocated",
    "BitsStored",
    "PixelRepresentation",
    "RescaleSlope",
    "RescaleIntercept",
    "RescaleType",
    "PixelPaddingValue",
    "PixelPaddingRangeLimit",
)
LOSSY = (
    "LossyImageCompression",
    "LossyImageCompressionRatio",
    "LossyImageCompressionMethod",
)
#: Statements about the source's own pixels: keywords by tag.
STALE_TAGS = {
    tag_for_keyword(name): name
    for name in (
        "SmallestImagePixelValue",
        "LargestImagePixelValue",
        "SmallestPixelValueInSeries",
        "LargestPixelValueInSeries",
        "IconImageSequence",
    )
}


@dataclass(frozen=True)
class DerivedAndSource:
    """A derived image and its source."""

    image: RawDataset
    origin: RawDataset

    @property
    def derived(self) -> Dataset:
        """The derived image's data set, decoded as needed."""
        return self.image.dataset

    @property
    def source(self) -> Dataset:
        """The source's data set, decoded as needed."""
        return self.origin.dataset

    def changed(self, tags: set[BaseTag]) -> Iterator[Finding]:
        """A finding for each of these attributes that does not mean what the source's does."""
        for tag in sorted(tags):
            if not same_element(tag, self.image, self.origin):
                yield keyword_for_tag(tag) or str(tag), ""


@dataclass(frozen=True)
class SourceRule:
    """A rule by name, with what to do where `find` yields something."""

    name: str
    remedy: str
    find: Callable[[DerivedAndSource], Iterator[Finding]]


@functools.cache
def tags_of(keywords: tuple[str, ...]) -> set[BaseTag]:
    """The tags of these keywords."""
    return {Tag(tag_for_keyword(keyword) or 0) for keyword in keywords}


def _geometry(both: DerivedAndSource) -> Iterator[Finding]:
    # Of a multi-frame file SeriesExaminer compares it with all of the source's.
    of_file = ("FrameOfReferenceUID",) if is_frame(both.derived) else ()
    yield from both.changed(tags_of(GEOMETRY) - tags_of(of_file))


def _patient(both: DerivedAndSource) -> Iterator[Finding]:
    """All of group 0010, and 0012 with what was done to remove identity."""
    tags = {*both.image.elements, *both.origin.elements}
    yield from both.changed({tag for tag in tags if tag.group in (0x0010, 0x0012)})


def _study(both: DerivedAndSource) -> Iterator[Finding]:
    yield from both.changed(tags_of(STUDY))


def _window(both: DerivedAndSource) -> Iterator[Finding]:
    if not is_difference(both.derived):
        yield from both.changed(_windows(both))


def _windows(both: DerivedAndSource) -> set[BaseTag]:
    """A frame has a window, if its source has none too, and no table (PS3.3 C.7.6.16.2.10)."""
    if not is_frame(both.derived):
        return tags_of(WINDOW)
    if not has_window(both.source):
        return set()
    return tags_of(WINDOW) - tags_of(("VOILUTSequence",))


def _values(both: DerivedAndSource) -> Iterator[Finding]:
    if not is_difference(both.derived):
        stated = _taken_as_hu(both) | _stated_as_hu(both) | _widened(both)
        yield from both.changed(tags_of(VALUES) - stated)


def _taken_as_hu(both: DerivedAndSource) -> set[BaseTag]:
    """RescaleType, where the source's is not HU and the derived image says that it was taken so."""
    said = TAKEN_AS_HU in str(both.derived.get("DerivationDescription"))
    right = said and both.derived.get("RescaleType") == "HU" and not says_hu(both.source)
    return tags_of(("RescaleType",)) if right else set()


def _stated_as_hu(both: DerivedAndSource) -> set[BaseTag]:
    """RescaleType, where the source has none: a frame must state it (PS3.3 C.7.6.16.2.9)."""
    stated = is_frame(both.derived) and both.derived.get("RescaleType") == "HU"
    return tags_of(("RescaleType",)) if stated and is_empty(both.source, "RescaleType") else set()


def _widened(both: DerivedAndSource) -> set[BaseTag]:
    """The bits, where a frame has more than its source: 12 or 16 of 16 are all it may have
    (PS3.3 C.8.15.2)."""
    names = ("BitsAllocated", "BitsStored")
    wide = [both.derived.get(name) for name in names] == [16, 16]
    return tags_of(names) if is_frame(both.derived) and wide else set()


def _lossy(both: DerivedAndSource) -> Iterator[Finding]:
    declared = both.source.get("LossyImageCompression")
    if declared != "01" and is_lossy(both.source):  # by its encoding, whatever it says
        if both.derived.get("LossyImageCompression") != "01":
            yield "LossyImageCompression", ""
    elif declared:
        yield from both.changed(tags_of(LOSSY[:1] if is_frame(both.derived) else LOSSY))


def _stale(both: DerivedAndSource) -> Iterator[Finding]:
    for item in walk_items(both.derived):
        for tag in list(item.keys()):
            if is_private(tag) or is_overlay(tag):
                yield f"({tag.group:04x},{tag.element:04x})", "private" if is_private(tag) else ""
            elif tag in STALE_TAGS:
                yield STALE_TAGS[tag], ""


def _padding(both: DerivedAndSource) -> Iterator[Finding]:
    """Padding where the source has it, bit for bit, and nowhere else; in an image that says that
    a model made up a part of it, padding may have values."""
    # Decoded here and not taken from the writer, whose padding is what is checked.
    source, stored = read_pixels(both.source), stored_in(both.derived)
    if stored.shape != source.stored.shape:
        return  # the rule `geometry` finds it
    changed = ~source.valid & (stored != source.stored)
    if is_generated(both.derived):
        changed &= source.is_padding(stored)
    if is_difference(both.derived):
        if not np.array_equal(stored == both.derived.get("PixelPaddingValue"), ~source.valid):
            yield "PixelPaddingValue", "not where the source has it"
    elif changed.any():
        yield "PixelData", "the source's padding was changed"
    elif (source.is_padding(stored) & source.valid).any():
        yield "PixelData", "measured pixels became padding"


SOURCE_RULES = (
    SourceRule("geometry", "keep the source's geometry", _geometry),
    SourceRule("patient", "keep the source's patient attributes", _patient),
    SourceRule("study", "keep the source's study attributes", _study),
    SourceRule("window", "keep the source's window presets", _window),
    SourceRule("values", "keep the source's rescale, bits and padding value", _values),
    SourceRule("lossy", "keep the history of loss: it cannot be undone", _lossy),
    SourceRule("stale", "drop what was true of the source's pixels or maker only", _stale),
    SourceRule("padding", "restore the source's padding, and mask nothing else", _padding),
)
