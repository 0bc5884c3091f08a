"""What must be true of a derived image beside its source: what was kept, and what was not."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from pydicom.datadict import keyword_for_tag, tag_for_keyword
from pydicom.dataset import Dataset
from pydicom.tag import BaseTag, Tag

from pipeline.dicom.derived.encode import lost_something
from pipeline.dicom.derived.image_rules import Finding, stored_in
from pipeline.dicom.derived.provenance import is_difference, is_made_up
from pipeline.dicom.read.pixels import read_pixels
from pipeline.dicom.read.raw_elements import AsRead, is_overlay, is_private, same, with_items

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
STALE = {
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
class Beside:
    """A derived image and its source."""

    image: AsRead
    origin: AsRead

    @property
    def derived(self) -> Dataset:
        return self.image.dataset

    @property
    def source(self) -> Dataset:
        return self.origin.dataset

    def changed(self, tags: set[BaseTag]) -> Iterator[Finding]:
        for tag in sorted(tags):
            if not same(tag, self.image, self.origin):
                yield keyword_for_tag(tag) or str(tag), ""


@dataclass(frozen=True)
class SourceRule:
    name: str
    remedy: str
    find: Callable[[Beside], Iterator[Finding]]


@functools.cache
def tags_of(keywords: tuple[str, ...]) -> set[BaseTag]:
    return {Tag(tag_for_keyword(keyword) or 0) for keyword in keywords}


def _geometry(beside: Beside) -> Iterator[Finding]:
    yield from beside.changed(tags_of(GEOMETRY))


def _patient(beside: Beside) -> Iterator[Finding]:
    """All of group 0010, and 0012 with what was done to remove identity."""
    tags = {*beside.image.elements, *beside.origin.elements}
    yield from beside.changed({tag for tag in tags if tag.group in (0x0010, 0x0012)})


def _study(beside: Beside) -> Iterator[Finding]:
    yield from beside.changed(tags_of(STUDY))


def _window(beside: Beside) -> Iterator[Finding]:
    if not is_difference(beside.derived):
        yield from beside.changed(tags_of(WINDOW))


def _values(beside: Beside) -> Iterator[Finding]:
    if not is_difference(beside.derived):
        yield from beside.changed(tags_of(VALUES))


def _lossy(beside: Beside) -> Iterator[Finding]:
    if beside.source.get("LossyImageCompression"):
        yield from beside.changed(tags_of(LOSSY))
    elif lost_something(beside.source) and beside.derived.get("LossyImageCompression") != "01":
        yield "LossyImageCompression", ""


def _stale(beside: Beside) -> Iterator[Finding]:
    for item in with_items(beside.derived):
        for tag in list(item.keys()):
            if is_private(tag) or is_overlay(tag):
                yield f"({tag.group:04x},{tag.element:04x})", "private" if is_private(tag) else ""
            elif tag in STALE:
                yield STALE[tag], ""


def _padding(beside: Beside) -> Iterator[Finding]:
    """Padding where the source has it, bit for bit, and nowhere else; what says that it is made
    up in part may have values in its place."""
    # Decoded here and not taken from the writer, whose padding is what is judged.
    source, stored = read_pixels(beside.source), stored_in(beside.derived)
    if stored.shape != source.stored.shape:
        return  # told as geometry
    changed = ~source.valid & (stored != source.stored)
    if is_made_up(beside.derived):
        changed &= source.is_padding(stored)
    if is_difference(beside.derived):
        if not np.array_equal(stored == beside.derived.get("PixelPaddingValue"), ~source.valid):
            yield "PixelPaddingValue", "not where the source has it"
    elif changed.any():
        yield "PixelData", "the source's padding was changed"
    elif (source.is_padding(stored) & source.valid).any():
        yield "PixelData", "measured pixels became padding"


SOURCE_RULES = (
    SourceRule("geometry", "keep the source's geometry to the byte", _geometry),
    SourceRule("patient", "keep the source's patient attributes to the byte", _patient),
    SourceRule("study", "keep the source's study attributes to the byte", _study),
    SourceRule("window", "keep the source's window presets", _window),
    SourceRule("values", "keep the source's rescale, bits and padding value", _values),
    SourceRule("lossy", "keep the history of loss: it cannot be undone", _lossy),
    SourceRule("stale", "drop what was true of the source's pixels or maker only", _stale),
    SourceRule("padding", "restore the source's padding, and mask nothing else", _padding),
)
