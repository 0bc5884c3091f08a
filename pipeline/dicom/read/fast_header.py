"""A fast parser for the few attributes of a CT file's header that this software uses.

pydicom takes about a millisecond for the hundred-odd elements of a header; skipping from
element to element takes a tenth of it, which decides how long a large folder takes. For
anything but plain little-endian DICOM (big endian, deflated, a long header, damage) `scan`
returns None, and pydicom reads the file. Encoding: PS3.5 section 7, PS3.10 section 7.1.
"""

from __future__ import annotations

import functools
from collections.abc import Container
from dataclasses import dataclass
from struct import Struct
from struct import error as StructError
from typing import TypeAlias

from pydicom.datadict import dictionary_VR
from pydicom.dataelem import DataElement, RawDataElement, convert_raw_data_element
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.tag import BaseTag
from pydicom.uid import UID, DeflatedExplicitVRLittleEndian, ImplicitVRLittleEndian
from pydicom.valuerep import EXPLICIT_VR_LENGTH_32, STANDARD_VR

from pipeline.dicom.read.files import PREAMBLE

#: Headers end long before this in nearly every file.
HEAD_BYTES = 64 * 1024
PIXEL_DATA = 0x7FE00010
SOP_CLASS, TRANSFER_SYNTAX = 0x00020002, 0x00020010
META, META_START, META_END = frozenset((SOP_CLASS, TRANSFER_SYNTAX)), 0x00020000, 0x00030000
UNDEFINED = 0xFFFFFFFF
_ITEM, _ITEM_END, _SEQUENCE_END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD
_LONG = frozenset(map(str, EXPLICIT_VR_LENGTH_32))
_VRS = {str(vr).encode(): str(vr) for vr in STANDARD_VR}
_BINARY = frozenset(("AT", "FD", "FL", "SL", "SS", "SV", "UL", "US", "UV", "US or SS"))
_EXPLICIT = Struct("<HH2sH")
_IMPLICIT = Struct("<HHL")
_LONG_LENGTH = Struct("<L")
_LONG_EXPLICIT = Struct("<HH2sHL")


@dataclass(frozen=True)
class PixelSpan:
    """Where pixels lie in their file: uncompressed and little-endian, or, with length None, in
    fragments of a compressed frame (PS3.5 A.4)."""

    offset: int
    length: int | None


Element: TypeAlias = RawDataElement | DataElement


class _NeedsPydicom(Exception):
    """An encoding that this parser leaves to pydicom."""


def scan(head: bytes, tags: Container[int]) -> tuple[Dataset, PixelSpan | None] | None:
    """The top-level attributes with these tags, and where the pixels lie.

    head: the file's first HEAD_BYTES. None where it is anything but plain little-endian DICOM.
    """
    if head[128:PREAMBLE] != b"DICM":
        return None
    try:
        meta, at = _elements(head, PREAMBLE, implicit=False, tags=META, stop=META_END)
        syntax = UID(str(meta[BaseTag(TRANSFER_SYNTAX)].value))
        sop_class = str(meta[BaseTag(SOP_CLASS)].value) if BaseTag(SOP_CLASS) in meta else ""
        if not _is_plain(syntax):
            return None
        implicit = syntax == ImplicitVRLittleEndian
        found, at = _elements(head, at, implicit=implicit, tags=tags, stop=PIXEL_DATA)
        tag, _, start, length = _element_at(head, at, implicit)
    except Exception:  # pydicom reads it instead, and names what is wrong
        return None
    if tag != PIXEL_DATA:
        return None
    header = Dataset(found)
    header.file_meta = _shared_file_meta(syntax, sop_class)
    if syntax.is_encapsulated != (length == UNDEFINED):
        return header, None
    return header, PixelSpan(start, None if syntax.is_encapsulated else length)


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
    head: bytes, at: int, *, implicit: bool, tags: Container[int], stop: int
) -> tuple[dict[BaseTag, Element], int]:
    """The elements from `at` on that are in `tags`, and where the first tag of `stop` or more is.

    Raises _NeedsPydicom or struct.error for what pydicom should read.
    """
    found: dict[BaseTag, Element] = {}
    lowest = META_START
    while True:
        tag, vr, start, length = _element_at(head, at, implicit)
        if tag >= stop:
            return found, at
        if tag < lowest:
            raise _NeedsPydicom
        lowest = tag + 1
        at = _end_of_value(head, vr, start, length, implicit)
        if tag in tags:
            value = _decoded(tag, vr, head[start:at], implicit)
            found[value.tag] = value


@functools.lru_cache(maxsize=4096)
def _decoded(tag: int, vr: str | None, value: bytes, implicit: bool) -> Element:
    """An element; slices share the ones that they have in common, as most of a header is.

    Text beyond ASCII is left to pydicom, which knows its character set. Without a VR, some
    numbers take their sign from another attribute: these stay raw.
    """
    known_vr = vr or dictionary_VR(tag)
    if known_vr not in _BINARY and (b"\x1b" in value or not value.isascii()):
        raise _NeedsPydicom
    raw = RawDataElement(BaseTag(tag), vr, len(value), value, 0, implicit, True)
    return raw if known_vr == "US or SS" else convert_raw_data_element(raw)


def _element_at(head: bytes, at: int, implicit: bool) -> tuple[int, str | None, int, int]:
    """(tag, VR, place of the value, length) of the element at `at`; None for no known VR."""
    if implicit:
        group, element, length = _IMPLICIT.unpack_from(head, at)
        return group << 16 | element, None, at + 8, length
    group, element, code, length = _EXPLICIT.unpack_from(head, at)
    vr = _VRS.get(code)
    if vr in _LONG:
        return group << 16 | element, vr, at + 12, _LONG_LENGTH.unpack_from(head, at + 8)[0]
    return group << 16 | element, vr, at + 8, length


def _end_of_value(head: bytes, vr: str | None, start: int, length: int, implicit: bool) -> int:
    if vr is None and not implicit:
        raise _NeedsPydicom
    if length != UNDEFINED:
        end = start + length
    elif vr in (None, "SQ"):
        end = _end_of_sequence(head, start, implicit=implicit)
    else:
        raise _NeedsPydicom
    if end > len(head):
        raise _NeedsPydicom
    return end


def _end_of_sequence(head: bytes, at: int, *, implicit: bool) -> int:
    """The place behind a sequence of undefined length (PS3.5 section 7.5)."""
    while True:
        tag, _, at, length = _element_at(head, at, implicit=True)  # items never have a VR
        if tag == _SEQUENCE_END:
            return at
        if tag != _ITEM:
            raise _NeedsPydicom
        at = at + length if length != UNDEFINED else _end_of_item(head, at, implicit=implicit)


def _end_of_item(head: bytes, at: int, *, implicit: bool) -> int:
    while True:
        tag, vr, start, length = _element_at(head, at, implicit)
        if tag == _ITEM_END:
            return at + 8
        at = _end_of_value(head, vr, start, length, implicit)


def one_fragment(value: bytes) -> bytes | None:
    """The fragment of pixels that consist of just one, so that it is a whole frame; None for
    others, and where the value does not end as it should. value: from PixelSpan's offset on."""
    try:
        table, table_length = _item_at(value, 0)
        tag, length = _item_at(value, 8 + table_length)
        start = 16 + table_length
        end, _ = _item_at(value, start + length)
    except StructError:
        return None
    is_one = (table, tag, end) == (_ITEM, _ITEM, _SEQUENCE_END)
    return value[start : start + length] if is_one else None


def _item_at(value: bytes, at: int) -> tuple[int, int]:
    """(tag, length) of an item, which never has a VR."""
    group, element, length = _IMPLICIT.unpack_from(value, at)
    return group << 16 | element, length


def explicit_head(tag: int, vr: str, length: int) -> bytes:
    """The bytes before a value in explicit VR little endian: tag, VR and length (PS3.5 7.1.2)."""
    group, element, code = tag >> 16, tag & 0xFFFF, vr.encode()
    if vr in _LONG:
        return _LONG_EXPLICIT.pack(group, element, code, 0, length)
    return _EXPLICIT.pack(group, element, code, length)
