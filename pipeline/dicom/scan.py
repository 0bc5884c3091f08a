"""A CT file's header without its pixels, scanned for the few attributes that are wanted.

pydicom takes about a millisecond for the hundred-odd elements of a header; skipping from
element to element takes a tenth of it, which decides how long a large folder takes. Anything
out of the ordinary (big endian, deflated, a long header, damage) is left to pydicom: `scan`
answers None and never guesses. Encoding: PS3.5 section 7, PS3.10 section 7.1.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from struct import Struct
from typing import TypeAlias

from pydicom.datadict import dictionary_VR
from pydicom.dataelem import DataElement, RawDataElement, convert_raw_data_element
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.tag import BaseTag
from pydicom.uid import UID, DeflatedExplicitVRLittleEndian, ImplicitVRLittleEndian
from pydicom.valuerep import EXPLICIT_VR_LENGTH_32, STANDARD_VR

from pipeline.dicom.sources import PREAMBLE

#: Headers end long before this in nearly every file.
HEAD_BYTES = 64 * 1024
PIXEL_DATA = 0x7FE00010
SOP_CLASS, TRANSFER_SYNTAX = 0x00020002, 0x00020010
META = frozenset((SOP_CLASS, TRANSFER_SYNTAX))
UNDEFINED = 0xFFFFFFFF
_META_GROUP = 0x0002
_ITEM_GROUP = 0xFFFE
_ITEM, _ITEM_END, _SEQUENCE_END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD
_LONG = frozenset(map(str, EXPLICIT_VR_LENGTH_32))
_VRS = {str(vr).encode(): str(vr) for vr in STANDARD_VR}
_BINARY = frozenset(("AT", "FD", "FL", "SL", "SS", "SV", "UL", "US", "UV"))
_TAG = Struct("<HH")
_SHORT_LENGTH = Struct("<H")
_LONG_LENGTH = Struct("<L")


@dataclass(frozen=True)
class PixelSpan:
    """Where uncompressed, little-endian pixels lie in their file."""

    offset: int
    length: int


Element: TypeAlias = RawDataElement | DataElement


class _Unusual(Exception):
    """Something that pydicom should look at."""


def scan(head: bytes, wanted: frozenset[int]) -> tuple[Dataset, PixelSpan | None] | None:
    """The wanted top-level attributes of a file, and where its pixels are if not compressed.

    head: the file's first HEAD_BYTES. None where it is anything but plain little-endian DICOM.
    """
    if head[128:PREAMBLE] != b"DICM":
        return None
    try:
        meta, at, _ = _elements(head, PREAMBLE, implicit=False, wanted=META)
        syntax = UID(str(meta[BaseTag(TRANSFER_SYNTAX)].value))
        sop_class = str(meta[BaseTag(SOP_CLASS)].value) if BaseTag(SOP_CLASS) in meta else ""
        if not _is_plain(syntax):
            return None
        implicit = syntax == ImplicitVRLittleEndian
        found, at, length = _elements(head, at, implicit=implicit, wanted=wanted)
    except Exception:  # whatever is wrong with it, pydicom says it better
        return None
    header = Dataset(found)
    header.file_meta = _shared_file_meta(syntax, sop_class)
    plain_pixels = not syntax.is_encapsulated and length != UNDEFINED
    return header, PixelSpan(at, length) if plain_pixels else None


@functools.lru_cache(maxsize=64)
def _shared_file_meta(syntax: str, sop_class: str) -> FileMetaDataset:
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = syntax
    if sop_class:
        meta.MediaStorageSOPClassUID = sop_class
    return meta


def _is_plain(syntax: UID) -> bool:
    known = syntax.is_transfer_syntax and syntax.is_little_endian
    return bool(known) and syntax != DeflatedExplicitVRLittleEndian


def _elements(
    head: bytes, at: int, *, implicit: bool, wanted: frozenset[int]
) -> tuple[dict[BaseTag, Element], int, int]:
    """The wanted elements from `at` to the pixels; where they begin, and their length.

    File meta elements end where another group begins: its place is returned. Raises _Unusual
    or struct.error at whatever needs a closer look.
    """
    found: dict[BaseTag, Element] = {}
    is_meta, last = wanted is META, 0
    while True:
        group, element = _TAG.unpack_from(head, at)
        if is_meta and group != _META_GROUP:
            return found, at, 0
        tag = group << 16 | element
        if tag <= last or group == _ITEM_GROUP or (group == _META_GROUP and not is_meta):
            raise _Unusual
        last = tag
        vr, start, length = _value_at(head, at, implicit)
        if tag == PIXEL_DATA:
            return found, start, length
        at = start + length
        if length == UNDEFINED:
            at = _end_of_value(head, vr, start, length, implicit)
        elif at > len(head):
            raise _Unusual
        if tag in wanted:
            found[BaseTag(tag)] = _element(tag, vr, head[start:at], implicit)


def _element(tag: int, vr: str | None, value: bytes, implicit: bool) -> Element:
    """Decoded; text beyond ASCII needs its character set, and so pydicom.

    Without a VR, some numbers take their sign from another attribute: these stay raw.
    """
    if vr is None and dictionary_VR(tag) == "US or SS":
        return RawDataElement(BaseTag(tag), vr, len(value), value, 0, implicit, True)
    if not value.isascii() and (vr or dictionary_VR(tag)) not in _BINARY:
        raise _Unusual
    if b"\x1b" in value:
        raise _Unusual
    return _decoded(tag, vr, value, implicit)


@functools.lru_cache(maxsize=4096)
def _decoded(tag: int, vr: str | None, value: bytes, implicit: bool) -> DataElement:
    """Shared by all the slices that have it in common, as most of a series' header is."""
    raw = RawDataElement(BaseTag(tag), vr, len(value), value, 0, implicit, True)
    return convert_raw_data_element(raw)


def _value_at(head: bytes, at: int, implicit: bool) -> tuple[str | None, int, int]:
    """(VR, place of the value, length) of the element at `at`."""
    if implicit:
        return None, at + 8, _LONG_LENGTH.unpack_from(head, at + 4)[0]
    vr = _VRS.get(head[at + 4 : at + 6])
    if vr is None:
        raise _Unusual
    if vr in _LONG:
        return vr, at + 12, _LONG_LENGTH.unpack_from(head, at + 8)[0]
    return vr, at + 8, _SHORT_LENGTH.unpack_from(head, at + 6)[0]


def _end_of_value(head: bytes, vr: str | None, start: int, length: int, implicit: bool) -> int:
    if length != UNDEFINED:
        end = start + length
    elif vr in (None, "SQ"):
        end = _end_of_sequence(head, start, implicit=implicit)
    else:
        raise _Unusual
    if end > len(head):
        raise _Unusual
    return end


def _end_of_sequence(head: bytes, at: int, *, implicit: bool) -> int:
    """The place behind a sequence of undefined length (PS3.5 section 7.5)."""
    while True:
        tag, length = _item_at(head, at)
        at += 8
        if tag == _SEQUENCE_END:
            return at
        if tag != _ITEM:
            raise _Unusual
        at = at + length if length != UNDEFINED else _end_of_item(head, at, implicit=implicit)


def _end_of_item(head: bytes, at: int, *, implicit: bool) -> int:
    while True:
        tag, _ = _item_at(head, at)
        if tag == _ITEM_END:
            return at + 8
        vr, start, length = _value_at(head, at, implicit)
        at = _end_of_value(head, vr, start, length, implicit)


def _item_at(head: bytes, at: int) -> tuple[int, int]:
    group, element = _TAG.unpack_from(head, at)
    return group << 16 | element, _LONG_LENGTH.unpack_from(head, at + 4)[0]
