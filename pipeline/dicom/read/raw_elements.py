"""A data set's elements as their file holds them, without decoding what need not be decoded."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeAlias

import numpy as np
from pydicom.datadict import dictionary_has_tag, dictionary_VR
from pydicom.dataelem import DataElement, RawDataElement
from pydicom.dataset import Dataset
from pydicom.tag import BaseTag

Element: TypeAlias = DataElement | RawDataElement

#: VRs that depend on other attributes in pydicom's dictionary, and one that holds their bytes.
AMBIGUOUS = {"OB or OW": "OW", "US or OW": "OW", "US or SS": "US", "US or SS or OW": "OW"}

#: The bytes of a word of each VR that has an order of bytes (PS3.5 6.2 and 7.3).
WORD_BYTES = {
    **dict.fromkeys(("AT", "OW", "SS", "US"), 2),
    **dict.fromkeys(("FL", "OF", "OL", "SL", "UL"), 4),
    **dict.fromkeys(("FD", "OD", "OV", "SV", "UV"), 8),
}


class RawDataset:
    """A data set, and its elements as they were read: decoding values changes only `dataset`."""

    def __init__(self, dataset: Dataset) -> None:
        self.dataset = dataset
        self.elements: dict[BaseTag, Element] = {
            tag: dataset.get_item(tag) for tag in list(dataset.keys())
        }


def set_value(dataset: Dataset, keyword: str, value: object) -> None:
    """Give an attribute a value in this data set alone: its element may be shared with others, as
    frames and slices share those of their file and series."""
    dataset.pop(keyword, None)
    setattr(dataset, keyword, value)


def vr_of(element: Element) -> str:
    """An element's VR: the dictionary's where it has none (implicit VR) or UN (PS3.5 6.2.2)."""
    vr, tag = element.VR, element.tag
    if vr in (None, "UN"):
        vr = dictionary_VR(tag) if dictionary_has_tag(tag) else "UN"
    return AMBIGUOUS.get(str(vr), str(vr))


def in_little_endian(element: RawDataElement) -> bytes:
    """The bytes of a value as little endian has them (PS3.5 7.3)."""
    value, size = element.value or b"", WORD_BYTES.get(vr_of(element), 1)
    if element.is_little_endian or size == 1 or len(value) % size:
        return value
    return np.frombuffer(value, f">u{size}").astype(f"<u{size}").tobytes()


def is_signed_by_pixels(tag: BaseTag) -> bool:
    """Whether PixelRepresentation says if the numbers under `tag` are signed."""
    return dictionary_has_tag(tag) and dictionary_VR(tag).startswith("US or SS")


def is_group_length(tag: int) -> bool:
    """Whether a tag is a group's length (gggg,0000), which is retired (PS3.5 7.2)."""
    return tag & 0xFFFF == 0


def _has_items(element: Element) -> bool:
    return vr_of(element) == "SQ"


def walk_items(dataset: Dataset) -> Iterator[Dataset]:
    """The data set and every item of its sequences, at any depth."""
    yield dataset
    for tag in [element.tag for element in dataset.values() if _has_items(element)]:
        for item in dataset[tag].value or []:
            yield from walk_items(item)


def is_private(tag: int) -> bool:
    """Whether a tag is of an odd group (PS3.5 7.8); twice as fast as pydicom's own."""
    return bool((tag >> 16) & 1)


def is_overlay(tag: BaseTag) -> bool:
    """Whether a tag is of an overlay: groups 6000 to 60FF (PS3.3 C.9.2)."""
    return tag >> 24 == 0x60
