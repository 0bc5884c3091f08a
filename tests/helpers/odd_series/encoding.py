"""DICOM elements to bytes in every uncompressed encoding (PS3.5 section 7, PS3.10 section 7)."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

UNDEFINED = 0xFFFFFFFF
ITEM, ITEM_END, SEQUENCE_END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD
PIXEL_DATA, TRAILING_PADDING = 0x7FE00010, 0xFFFCFFFC
#: VRs with a length of 32 bits (PS3.5 table 7.1-1).
LONG = frozenset(["OB", "OD", "OF", "OL", "OV", "OW", "SQ", "SV", "UC", "UN", "UR", "UT", "UV"])
#: Bytes of one number, which big endian turns round.
WIDTHS = {"US": 2, "SS": 2, "OW": 2, "AT": 2, "UL": 4, "SL": 4, "FL": 4, "OL": 4, "FD": 8}
NULL_PADDED = frozenset(("UI", "OB", "UN"))


@dataclass(frozen=True)
class Element:
    """An attribute: its value as little-endian bytes, or the items of an SQ (UN where its writer
    did not know that).

    fragments: encapsulated pixels (PS3.5 A.4), the basic offset table first.
    """

    tag: int
    vr: str
    value: bytes = b""
    items: tuple[tuple[Element, ...], ...] = ()
    fragments: tuple[bytes, ...] = ()

    @property
    def padded(self) -> bytes:
        """The value with what makes its length even (PS3.5 6.2)."""
        return self.value + (b"\0" if self.vr in NULL_PADDED else b" ") * (len(self.value) % 2)


@dataclass(frozen=True)
class Encoding:
    """How elements are laid out. undefined: sequences and items end with a delimiter instead of
    having a length. group_lengths: each group begins with (gggg,0000) (PS3.5 7.2)."""

    syntax: str = ExplicitVRLittleEndian
    undefined: bool = False
    group_lengths: bool = False

    @property
    def implicit(self) -> bool:
        return self.syntax == ImplicitVRLittleEndian

    @property
    def order(self) -> str:
        return ">" if self.syntax == ExplicitVRBigEndian else "<"


def text(keyword: str, value: str | bytes, *, vr: str = "") -> Element:
    """An attribute of characters; "" for none (type 2)."""
    tag = tag_for_keyword(keyword)
    assert tag is not None, keyword
    content = value if isinstance(value, bytes) else value.encode("ascii")
    return Element(tag, vr or dictionary_VR(tag), content)


def number(keyword: str, *values: int | float, vr: str = "") -> Element:
    """An attribute of binary numbers; `vr` chooses where the standard leaves it open."""
    tag = tag_for_keyword(keyword)
    assert tag is not None, keyword
    vr = vr or dictionary_VR(tag)
    form = {"US": "H", "SS": "h", "UL": "I", "SL": "i", "FL": "f", "FD": "d"}[vr]
    return Element(tag, vr, struct.pack(f"<{len(values)}{form}", *values))


def sequence(keyword: str, *items: Sequence[Element]) -> Element:
    """A sequence (SQ) of items."""
    tag = tag_for_keyword(keyword)
    assert tag is not None, keyword
    return Element(tag, "SQ", items=tuple(tuple(item) for item in items))


def encoded(elements: Sequence[Element], how: Encoding) -> bytes:
    """A data set, or a sequence's item, in order of tags."""
    groups: dict[int, bytes] = {}
    for element in sorted(elements, key=lambda one: one.tag):
        group = element.tag >> 16
        groups[group] = groups.get(group, b"") + _element(element, how)
    if not how.group_lengths:
        return b"".join(groups.values())
    return b"".join(
        _element(Element(group << 16, "UL", struct.pack("<I", len(content))), how) + content
        if group != 0xFFFC
        else content
        for group, content in groups.items()
    )


def _element(element: Element, how: Encoding) -> bytes:
    if element.fragments:
        body, length = _encapsulated(element.fragments), UNDEFINED
    elif element.vr == "UN" and element.items:  # of undefined length, in implicit VR (PS3.5 6.2.2)
        inside = Encoding(ImplicitVRLittleEndian, undefined=True)
        body = b"".join(_item(item, inside) for item in element.items)
        body, length = body + _tag(SEQUENCE_END, inside) + bytes(4), UNDEFINED
    elif element.vr == "SQ":
        body = b"".join(_item(item, how) for item in element.items)
        length = UNDEFINED if how.undefined else len(body)
        body += _tag(SEQUENCE_END, how) + bytes(4) if how.undefined else b""
    else:
        body = element.padded
        body = _turned(body, WIDTHS.get(element.vr, 1)) if how.order == ">" else body
        length = len(body)
    return _tag(element.tag, how) + _length(element.vr, length, how) + body


def _item(elements: Sequence[Element], how: Encoding) -> bytes:
    content = encoded(elements, how)
    if not how.undefined:
        return _tag(ITEM, how) + struct.pack(f"{how.order}I", len(content)) + content
    end = _tag(ITEM_END, how) + bytes(4)
    return _tag(ITEM, how) + struct.pack("<I", UNDEFINED) + content + end


def _tag(tag: int, how: Encoding) -> bytes:
    return struct.pack(f"{how.order}HH", tag >> 16, tag & 0xFFFF)


def _length(vr: str, length: int, how: Encoding) -> bytes:
    if how.implicit:
        return struct.pack("<I", length)
    if vr in LONG:
        return vr.encode() + bytes(2) + struct.pack(f"{how.order}I", length)
    return vr.encode() + struct.pack(f"{how.order}H", length)


def _turned(body: bytes, width: int) -> bytes:
    return b"".join(body[at : at + width][::-1] for at in range(0, len(body), width))


def _encapsulated(fragments: Sequence[bytes]) -> bytes:
    parts = [struct.pack("<HHI", 0xFFFE, 0xE000, len(part)) + part for part in fragments]
    return b"".join(parts) + struct.pack("<HHI", 0xFFFE, 0xE0DD, 0)


def file_bytes(
    elements: Sequence[Element], how: Encoding, *, sop: tuple[str, str], start: str = "preamble"
) -> bytes:
    """A DICOM file. sop: class and instance UID for its meta information. start: "preamble";
    "text", a preamble that says something (PS3.10 7.1); "meta", without one; "bare", the data set
    alone."""
    content = encoded(elements, how)
    if how.syntax == DeflatedExplicitVRLittleEndian:
        packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
        content = packer.compress(content) + packer.flush()
        content += b"\0" * (len(content) % 2)
    if start == "bare":
        return content
    meta = [
        Element(0x00020001, "OB", b"\0\1"),
        text("MediaStorageSOPClassUID", sop[0]),
        text("MediaStorageSOPInstanceUID", sop[1]),
        text("TransferSyntaxUID", how.syntax),
        text("ImplementationClassUID", "1.2.826.0.1.3680043.8.498.1"),
        text("ImplementationVersionName", "ODD 1"),
    ]
    head = encoded(meta, replace(how, syntax=ExplicitVRLittleEndian, group_lengths=True))
    if start == "meta":
        return head + content
    preamble = b"II*\0".ljust(128, b"\xff") if start == "text" else bytes(128)
    return preamble + b"DICM" + head + content
